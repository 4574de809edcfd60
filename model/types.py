"""What batches and networks look like, declared here so that nobody who makes them has to be imported."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from torch import Tensor, nn

from segstream.shards.taxonomy import Taxonomy


class Batch(Protocol):
    """One global step's samples."""

    @property
    def step(self) -> int:
        """Which step of the run, from 0."""

    @property
    def images(self) -> Tensor:
        """(B, 3, H, W) uint8 RGB."""

    @property
    def labels(self) -> Tensor:
        """(B, H, W) uint8 or int16 class ids, 255 = ignored."""

    @property
    def dataset_ids(self) -> Tensor:
        """(B,) int64 positions in `BatchSource.datasets`."""

    @property
    def keys(self) -> tuple[str, ...]:
        """Sample keys, for messages."""


class BatchSource(Protocol):
    """The mix as a function of the step: asking twice for a step gives the same batch."""

    datasets: tuple[str, ...]
    """Names, in the order that `dataset_ids` count."""
    weights: tuple[float, ...]
    """Share of each dataset in the loss; they sum to 1."""
    taxonomy: Taxonomy
    """Whose ids the labels hold."""
    class_shares: tuple[float, ...]
    """Share of each class of the taxonomy in the labelled pixels; they sum to 1."""
    fingerprint: dict[str, Any]
    """JSON-able description of everything that decides which batch a step gets; a resumed run must match it."""

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """Batches of steps start .. stop - 1, in order."""


@dataclass(frozen=True)
class Aux:
    """One more prediction of the same labels, which the loss supervises besides the main one."""

    name: Literal["aux", "lo", "hi"]
    """An auxiliary head's, or that of a low or high scale before scales were combined."""
    logits: Tensor
    """(B, classes, h, w) at a resolution of its own."""
    weight: float
    """What its loss counts beside the main one, which counts 1."""
    align_corners: bool = True
    """How the loss upsamples it."""


@dataclass(frozen=True)
class TrainOutput:
    """What a network returns in train mode: all that a loss needs, nothing computed for the eye.

    loss = loss(logits) + sum over `aux` of weight * loss(aux.logits), each upsampled to `size_hw` first.
    """

    logits: Tensor
    """(B, classes, h, w) at the network's own resolution; at the input's where scales are combined there."""
    size_hw: tuple[int, int]
    """Size of the input, to which the loss upsamples (bilinear)."""
    aux: tuple[Aux, ...] = ()
    """Further predictions, in the order in which the reference adds their losses."""
    align_corners: bool = True
    """How the loss upsamples `logits`."""
    features: Tensor | None = None
    """What a loss may compare by place, (B, C, h', w') of any float type: the backbone's last features (PSPNet: layer4;
    HRNet and those on it: all branches stacked; HMSA: of scale 1); None of networks without."""


@runtime_checkable
class Coarse(Protocol):
    """A network that can stop before it upsamples, so that whoever needs no logits at full size saves them.

    They are upsampled with aligned corners; a network that upsamples in another way does not offer this.
    """

    def coarse(self, images: Tensor) -> TrainOutput:
        """Normalised images (B, 3, H, W) to logits at the network's own resolution, in train and in eval mode."""


@runtime_checkable
class Grouped(Protocol):
    """A network that was published with a learning rate of their own for some of its parts, under SGD."""

    def lr_groups(self) -> tuple[tuple[nn.Module, float], ...]:
        """Parts, and what the learning rate is multiplied by there; together they hold all parameters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRow:
    """What happened since the row before."""

    step: int
    """Updates made so far."""
    steps: int
    """Updates of the whole run."""
    loss: float
    """Mean over the steps since the last row."""
    lr: float
    """Of the latest step."""
    crops_per_s: float
    data_wait: float
    """Share of the time spent waiting for batches, 0..1."""
    eta_s: float
    """Seconds to go at this pace."""
    losses: dict[str, float]
    """Mean cross-entropy by dataset, over the steps that had a labelled pixel of it; nan if none had."""
    memory_mib: float
    """Most memory so far: of the device on CUDA, of this process on a CPU (nan where the system does not say)."""
    skipped: int
    """Steps of the whole run whose update was left out because the loss was not finite."""
