"""What can be set about a network, its training and its use. Checked here, trusted everywhere else."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from segstream.shards.errors import DataError

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["fp32", "tf32", "bf16", "fp16", "auto"]
Optimizer = Literal["sgd", "adamw"]
LossName = Literal["ce", "rmi", "image_weighted", "relaxed"]
NonFinite = Literal["stop", "skip"]
Schedule = Literal["poly", "cosine"]
SchedulePer = Literal["step", "epoch"]
LENGTHS = ("steps", "crops", "epochs")
"""Ways to say how long a run is."""
MULTI_SCALE = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
"""The scales of MSeg's multi-scale evaluation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Which network."""

    arch: str
    """A name of `model.networks.build.PRESETS`."""
    options: dict[str, Any] = field(default_factory=dict)
    """Passed on to `model.build`."""
    weights: str | None = None
    """File that training starts from, see `model.networks.weights.load_weights`; None: freshly drawn."""
    published: str | None = None
    """Where that file is to be had; said if it is missing."""
    fresh: tuple[str, ...] | Literal["auto"] = ()
    """Parts of the network, e.g. `ocr.cls_head`, that keep freshly drawn weights though the file may have them: a head
    for another number of classes. auto: all that the file does not have in the same shape."""

    def __post_init__(self) -> None:
        if self.fresh and self.weights is None:
            raise DataError(f"fresh: {self.fresh}; without `weights` everything is; remove it or name a file")


@dataclass(frozen=True, slots=True, kw_only=True)
class CCSAConfig:
    """Contrastive semantic alignment of datasets beside the loss, see `model.losses.ccsa`."""

    alpha: float = 0.25
    """What the contrastive loss counts; all else counts 1 - alpha."""
    positives: int = 100
    """Pairs of one class of a step."""
    negatives_per_positive: int = 3
    """Pairs of two classes, for each of these."""
    margin: float = 1.0
    """Distance from which on two classes are far enough apart."""

    def __post_init__(self) -> None:
        at_least_1(self, "positives", "negatives_per_positive")
        if not 0 <= self.alpha <= 1:
            raise DataError(f"alpha: {self.alpha}; must be in [0, 1]")
        if not 0 < self.margin < float("inf"):
            raise DataError(f"margin: {self.margin}; must be above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """How to train. The fields down to `freeze` shape the result; the others only how it is reached.

    Those after `precision` are younger: they make another run of one only where they differ from their default.
    """

    steps: int | None = None
    """Optimiser updates. A recipe gives these, `crops` or `epochs`; who trains needs these."""
    crops: int | None = None
    """Crops of each dataset, on average over the mix, as MSeg counts the length of a run."""
    epochs: float | dict[str, float] | None = None
    """Times that as many crops are made as the mix has samples; `{cityscapes-19: 175}`: as one dataset of it has, of
    that dataset."""
    lr: float
    """Learning rate at its highest; `model.training.trainer.learning_rate` says that of a step."""
    optimizer: Optimizer = "sgd"
    """sgd: with momentum, as all the networks here were published. adamw (Loshchilov and Hutter, 2019): learns faster
    where a small network starts from random weights and has minutes."""
    momentum: float = 0.9
    """AdamW's beta1, where that is the optimizer; its beta2 is 0.999."""
    weight_decay: float = 1e-4
    """sgd adds it to the gradient; adamw takes lr x this share of each weight."""
    power: float = 0.9
    """Of the polynomial decay."""
    loss: LossName = "ce"
    """ce: cross-entropy. rmi: half region mutual information, half binary cross-entropy, as hierarchical multi-scale
    attention was published. image_weighted: cross-entropy, where a class counts the more the less of its image it
    covers. relaxed: cross-entropy that takes any class of the 3 x 3 neighbourhood for right (Zhu et al., 2019)."""
    class_balance: float = 0.0
    """How far the loss makes up for rare classes: a pixel of class c counts as (share of c in the data) to the power of
    -class_balance. 0: all pixels alike, as published results have it; 1: all classes alike."""
    mgda: bool = False
    """Weigh datasets anew at every step, so that the update lowers the loss of each (Sener and Koltun, 2018), instead
    of by their share. Takes a backward pass for each dataset."""
    clip_norm: float | None = None
    """Length to which a longer gradient is cut, over all parameters together; None: never."""
    ema: float | None = None
    """Decay of an exponential moving average of the weights, e.g. 0.999, which then is what validation sees and what
    is published; None: the weights themselves."""
    precision: Precision = "fp32"
    """tf32: products of a GPU round their factors. bf16, fp16: autocast; weights, gradients and the loss stay float32.
    auto: bf16 where the processor multiplies bfloat16 matrices natively (GPUs since Ampere, CPUs with AMX), where it
    pays, else fp32."""
    aux_rmi: bool = False
    """With loss rmi: region mutual information for auxiliary heads, too."""
    ccsa: CCSAConfig | None = None
    """Also draw datasets together class by class (Motiian et al., 2017); None: do not."""
    schedule: Schedule = "poly"
    """How the learning rate falls to 0: poly, by `power`; cosine, as half a period."""
    schedule_per: SchedulePer = "step"
    """epoch: the rate is that of the whole epochs done, as hierarchical multi-scale attention was trained; takes a
    length in epochs."""
    warmup_steps: int = 0
    """Steps over which a factor of the learning rate rises linearly to 1."""
    epoch_steps: float | None = None
    """Steps in an epoch; a length in `epochs` sets it for `schedule_per: epoch`."""
    freeze: tuple[str, ...] = ()
    """Parts of the network, e.g. `backbone`, that keep the weights and statistics they start with."""
    accumulate: int = 1
    """Parts in which each process goes through its share of a batch, one after another, to save memory. The gradient
    is that of the whole batch, but for batch norm: its statistics are those of a part."""
    on_nonfinite: NonFinite = "stop"
    """What to do when a loss or gradient is not a number: stop the run, or skip the update, say so, and stop only after
    ten in a row. skip makes a GPU wait at every step."""
    log_every: int = 20
    """Steps between log rows."""
    checkpoint_every: int = 200
    """Steps between checkpoints: what a killed run loses at most."""
    keep: int = 2
    """Checkpoints that are kept, the latest ones."""
    validate_every: int | None = None
    """Steps between validations; None: never."""
    device: Device = "auto"
    """auto = cuda where there is one."""
    channels_last: bool = True
    """Memory layout of activations; faster on most devices, equal up to rounding."""
    compile: bool = False
    """Translate the network by torch.compile: a minute or more at the start, faster steps, equal up to rounding."""
    threads: int | None = None
    """CPU threads of the tensor library; None leaves its own choice. Another count may round sums differently."""

    def __post_init__(self) -> None:
        given = [name for name in LENGTHS if getattr(self, name) is not None]
        if len(given) != 1:
            raise DataError(f"steps, crops, epochs: {' and '.join(given) or 'none'} given; a run has one length")
        counted = self.epochs if isinstance(self.epochs, dict) else {"": 1 if self.epochs is None else self.epochs}
        at_least_1(
            self, "accumulate", "log_every", "checkpoint_every", "keep", "steps", "crops", "threads", "validate_every"
        )
        endless = float("inf")
        for name, fits, must in (
            ("lr", 0 < self.lr < endless, "must be above 0"),
            ("momentum", 0 <= self.momentum < 1, "must be in [0, 1)"),
            ("weight_decay", 0 <= self.weight_decay < endless, "must be 0 or above"),
            ("class_balance", 0 <= self.class_balance <= 1, "must be in [0, 1]"),
            ("power", 0 < self.power < endless, "must be above 0"),
            ("clip_norm", self.clip_norm is None or 0 < self.clip_norm < endless, "must be above 0, or null for none"),
            ("warmup_steps", self.warmup_steps >= 0, "must be 0 or above"),
            ("epochs", [0 < n < endless for n in counted.values()] == [True], "must be above 0, of one dataset or all"),
            ("epoch_steps", self.epoch_steps is None or 0 < self.epoch_steps < endless, "must be above 0"),
            ("ema", self.ema is None or 0 < self.ema < 1, "must be between 0 and 1, or null for none"),
        ):
            if not fits:
                raise DataError(f"{name}: {getattr(self, name)}; {must}")
        if self.loss != "ce" and self.class_balance:
            raise DataError(f"class_balance: {self.class_balance}; loss {self.loss} has no place for it, set 0 or ce")
        if self.aux_rmi and self.loss != "rmi":
            raise DataError(f"aux_rmi: true; loss {self.loss} has no regions, set false or loss rmi")
        if self.ccsa is not None and (self.mgda or self.accumulate > 1):
            with_ = "mgda: true" if self.mgda else f"accumulate: {self.accumulate}"
            raise DataError(f"{with_}; ccsa compares places of the whole batch at once, leave one of the two out")
        if self.schedule_per == "epoch" and not (self.epochs or self.epoch_steps):
            raise DataError("schedule_per: epoch; what an epoch is follows from train.epochs: give the length in those")
        if self.mgda and self.precision == "fp16":
            raise DataError("precision: fp16 scales losses, which mgda compares; use bf16, tf32 or fp32")


@dataclass(frozen=True, slots=True, kw_only=True)
class InferConfig:
    """How to segment an image of any size."""

    crop: int
    """Side of the square windows that the network sees; usually the crop it was trained with."""
    short_side: int | None = None
    """Shorter side to which an image is resized at scale 1; None keeps its own, unless `long_side` says otherwise."""
    long_side: int | None = None
    """Longer side instead."""
    scales: tuple[float, ...] = (1.0,)
    """Scales whose probabilities are averaged."""
    n_scales: tuple[float, ...] | None = None
    """Whole images by hierarchical multi-scale attention, at these scales of its own; for networks that have it. None:
    windows, and probabilities averaged."""
    flip: bool = True
    """Average with the mirror image."""
    batch: int = 4
    """Windows per forward pass, of one image or several; with `flip` each counts twice."""
    device: Device = "auto"
    """auto = cuda where there is one."""

    def __post_init__(self) -> None:
        at_least_1(self, "crop", "batch", "short_side", "long_side")
        if self.short_side is not None and self.long_side is not None:
            raise DataError(f"long_side: {self.long_side}, with a short_side; one of the two must be null")
        if not self.scales or min(self.scales) <= 0:
            raise DataError(f"scales: {list(self.scales)}; give at least one, all above 0")
        if self.n_scales is not None and self.scales != (1.0,):
            raise DataError(f"n_scales and scales {list(self.scales)}: the network combines scales itself; give one")


def used(config: InferConfig) -> dict[str, Any]:
    """Its fields, later ones only if they are used: what was begun before them goes on."""
    return {name: value for name, value in asdict(config).items() if (name, value) != ("long_side", None)}


def at_least_1(config: object, *names: str) -> None:
    """Check fields that are counts.

    Raises:
        DataError: one is below 1; None is fine.
    """
    for name in names:
        value = getattr(config, name)
        if value is not None and value < 1:
            raise DataError(f"{name}: {value}; must be at least 1")
