"""Networks by name, sizes by preset, options read one by one and refused by name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass, replace
from typing import Any, get_args

from torch import nn

from segstream.model.networks.hmsa import HMSA, HMSAConfig
from segstream.model.networks.hrnet import HRNet, HRNetConfig, Init
from segstream.model.networks.ocr import OCRConfig, OCRNet
from segstream.model.networks.pspnet import PSPNet
from segstream.model.networks.resnet import ResNetConfig
from segstream.shards.errors import DataError, UsageError, did_you_mean

Config = HRNetConfig | ResNetConfig | OCRConfig
OPTION_OF = {"mid": "ocr_width", "key": "ocr_key_width", "attention": "attention_width"}  # others have the field's name


@dataclass(frozen=True, slots=True)
class Options:
    """What a caller asked of one architecture; every reader below raises DataError where a value does not fit."""

    arch: str
    values: Mapping[str, Any]
    known: list[str] = field(default_factory=list)
    """Names that were looked for."""

    def given(self, names: Sequence[str]) -> dict[str, Any]:
        """What was asked for of these, names of `CHECKS`."""
        self.known.extend(names)
        found = {name: self.values[name] for name in names if name in self.values}
        for name, value in found.items():
            fits, wrong = CHECKS[name]
            if not fits(value):
                raise DataError(f"{self.arch} option {name}: {value!r} {wrong}")
        return found

    def counts(self, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
        """Positive integers as many as `default` has; one stands for all of them, but for `widths`."""
        self.known.append(name)
        value: Any = self.values.get(name, default)
        if _is(value, int) and name != "widths":
            value = (value,) * len(default)
        most = 64 if name.endswith(("blocks", "modules")) else 4096  # a file of weights may name any
        fits = isinstance(value, list | tuple) and len(value) == len(default)
        if not fits or not all(_is(v, int) and 0 < v <= most for v in value):
            raise DataError(
                f"{self.arch} option {name}: expected {len(default)} positive integers up to {most}, found {value!r}"
            )
        return tuple(value)

    def sizes(self, preset: Any) -> Any:
        """A preset with the sizes that were asked for: an option for each field, down to the trunk's."""
        asked: dict[str, Any] = {}
        for name in preset.__dataclass_fields__:
            size, option = getattr(preset, name), OPTION_OF.get(name, name)
            if is_dataclass(size):
                asked[name] = self.sizes(size)
            else:
                asked[name] = self.counts(option, (size,))[0] if isinstance(size, int) else self.counts(option, size)
        return replace(preset, **asked)


def _is(value: Any, *kinds: type) -> bool:
    """Of one of these types; true and false are no numbers."""
    return isinstance(value, kinds) and not isinstance(value, bool)


def _widths(finest: int) -> tuple[int, ...]:
    return tuple(finest << i for i in range(4))


_WEIGHT = lambda v: _is(v, int, float) and 0 <= v < float("inf"), "is not a number of at least 0"
CHECKS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "bn_momentum": (lambda v: _is(v, int, float) and 0 < v <= 1, "is not a number above 0 and at most 1"),
    "seed": (lambda v: _is(v, int), "is not an integer"),
    "checkpointing": (lambda v: isinstance(v, bool), "is neither true nor false"),
    "init": (lambda v: v in get_args(Init), f"is not one of {', '.join(get_args(Init))}"),
    "aux_weight": _WEIGHT,
    "scale_weight": _WEIGHT,
    "lo_scale": (lambda v: _is(v, int, float) and 0 < v < 1, "is not a number between 0 and 1"),
    "n_scales": (lambda v: True, "is looked at by the network"),
}
"""Option that is no size -> whether a value fits, and what any other is or is not."""
ONCE = (1, 1, 1)
W48 = HRNetConfig(widths=_widths(48))
PRESETS: Mapping[str, Config] = {
    "hrnet-w18": HRNetConfig(widths=_widths(18)),
    "hrnet-w32": HRNetConfig(widths=_widths(32)),
    "hrnet-w48": W48,
    # the authors' "small v1": 16 channels despite its name
    "hrnet-w18-small": HRNetConfig(
        widths=_widths(16), stage1_width=32, stage1_blocks=1, blocks=(2, 2, 2), modules=ONCE
    ),
    # ours, for a demo on two cores
    "hrnet-tiny": HRNetConfig(widths=_widths(16), stem=32, stage1_width=16, stage1_blocks=1, blocks=ONCE, modules=ONCE),
    "pspnet-50": ResNetConfig(blocks=(3, 4, 6, 3)),
    "pspnet-101": ResNetConfig(blocks=(3, 4, 23, 3)),
    "hrnet-ocr": OCRConfig(trunk=W48),
    "hmsa": HMSAConfig(trunk=W48),
}
"""Architecture name -> sizes. All but the tiny one are the authors' own."""

HEADS: Mapping[str, type[Config]] = {
    "ocr.cls_head.weight": OCRConfig,
    "cls.4.weight": ResNetConfig,
    "last_layer.3.weight": HRNetConfig,
}
"""The tensor with a row per class, and whose it is."""


def build(arch: str, num_classes: int, **options: Any) -> nn.Module:
    """Build a network with freshly drawn weights.

    In eval mode `net(images)` maps ImageNet-normalised RGB, (B, 3, H, W) float32, to logits (B, num_classes, H, W);
    in train mode it returns a `model.types.TrainOutput`.

    Args:
        arch: one of `PRESETS`.
        num_classes: channels of the logits.
        **options: for every architecture `bn_momentum` (0..1; by default the published one), `seed` (int, key of the
            initial weights) and `checkpointing` (bool: compute activations again in the backward pass, see
            `model.networks.blocks`). Furthermore

            - `hrnet-*`: `init` ("reference" or "kaiming", see `hrnet.draw_trunk`) and overrides of the preset's
              sizes: `stem` (int), `widths` (4 ints, finest branch first), `blocks` (residual blocks of a branch, 1 int
              for all stages or 3 for stages 2, 3, 4), `modules` (exchanges, likewise), `stage1_blocks` and
              `stage1_width` (int);
            - `pspnet-*`: `aux_weight` (what the auxiliary loss counts, 0.4), `blocks` (bottlenecks of a stage, 1 int
              or 4) and `width` (channels that all others are multiples of, 64);
            - `hrnet-ocr`: those of `hrnet-*`, for its trunk; `aux_weight` (0.4), `ocr_width` (channels of pixels and
              classes, 512) and `ocr_key_width` (of query, key and value, 256);
            - `hmsa`: those of `hrnet-ocr`; `n_scales` (numbers, the scales that eval mode combines, 1 among them),
              `lo_scale` (the low one in training, 0.5), `scale_weight` (what the losses of single scales count, 0)
              and `attention_width` (256).

    Returns:
        The network on the CPU, float32, in train mode.

    Raises:
        UsageError: an unknown architecture or option, with the nearest known one.
        DataError: an option's value does not fit.
    """
    if arch not in PRESETS:
        raise UsageError(f"arch {arch!r} is unknown; {did_you_mean(arch, PRESETS)}")
    if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 1:
        raise DataError(f"num_classes: {num_classes!r}; a network needs at least 1 class")
    config = PRESETS[arch]
    family, further = _FAMILIES[type(config)]
    asked = Options(arch, options)
    sizes = asked.sizes(config)
    arguments = asked.given(("bn_momentum", "seed", "checkpointing", *further))
    if unknown := [name for name in options if name not in asked.known]:
        raise UsageError(f"{arch} has no option {unknown[0]!r}; {did_you_mean(unknown[0], asked.known)}")
    return family(sizes, num_classes, **arguments)


def divide_logits(net: nn.Module, temperature: Any, *, where: str) -> None:
    """Divide by a temperature what a network answers, in its last layer.

    Raises:
        DataError: that is no number above 0; `where` says whose it is.
    """
    if not isinstance(temperature, float) or not 0 < temperature < float("inf"):
        raise DataError(f"{where}: temperature {temperature!r}; must be a number above 0: fit it again")
    head = next(name for name, _ in net.named_parameters() if name in HEADS).removesuffix(".weight")
    for parameter in net.get_submodule(head).parameters():
        parameter.data /= temperature


_FAMILIES: Mapping[type[Config], tuple[Callable[..., nn.Module], Sequence[str]]] = {
    HRNetConfig: (HRNet, ["init"]),
    ResNetConfig: (PSPNet, ["aux_weight"]),
    OCRConfig: (OCRNet, ["init", "aux_weight"]),
    HMSAConfig: (HMSA, ["init", "aux_weight", "scale_weight", "lo_scale", "n_scales"]),
}
"""What is made of sizes, and which of `CHECKS` it knows besides those that all do."""
