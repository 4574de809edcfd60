"""Networks by name, sizes by preset, options read one by one and refused by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from torch import nn

from segstream.model.networks import hmsa, hrnet, ocr, pspnet
from segstream.model.networks.hmsa import HMSA, HMSAConfig
from segstream.model.networks.hrnet import HRNet, HRNetConfig, Init
from segstream.model.networks.ocr import OCRConfig, OCRNet
from segstream.model.networks.pspnet import PSPNet
from segstream.model.networks.resnet import ResNetConfig
from segstream.shards.errors import DataError, UsageError, did_you_mean

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Options:
    """What a caller asked of one architecture; every reader below raises DataError where a value does not fit."""

    arch: str
    values: Mapping[str, Any]

    def check_known(self, known: Iterable[str]) -> None:
        """Refuse options that the architecture has not.

        Raises:
            UsageError: names the first, and the nearest known one.
        """
        for name in self.values:
            if name not in known:
                raise UsageError(f"{self.arch} has no option {name!r}; {did_you_mean(name, known)}")

    def read(self, name: str, default: T, fits: Callable[[Any], bool], wrong: str) -> T:
        """A value for which `fits` holds; `wrong` says what any other is or is not."""
        value: T = self.values.get(name, default)
        if not fits(value):
            raise DataError(f"{self.arch} option {name}: {value!r} {wrong}")
        return value

    def choice(self, name: str, choices: tuple[str, ...]) -> str:
        """One of `choices`, by default the first."""
        return self.read(name, choices[0], lambda v: v in choices, f"is not one of {', '.join(choices)}")

    def flag(self, name: str) -> bool:
        """True or False, by default False."""
        return self.read(name, False, lambda v: isinstance(v, bool), "is neither true nor false")

    def integer(self, name: str, default: int) -> int:
        """Any integer."""
        return self.read(name, default, lambda v: _is(v, int), "is not an integer")

    def share(self, name: str, default: float) -> float:
        """A number above 0 and at most 1."""
        wrong = "is not a number above 0 and at most 1"
        return float(self.read(name, default, lambda v: _is(v, int, float) and 0 < v <= 1, wrong))

    def weight(self, name: str, default: float) -> float:
        """A finite number that is not negative."""
        wrong = "is not a number of at least 0"
        return float(self.read(name, default, lambda v: _is(v, int, float) and 0 <= v < float("inf"), wrong))

    def count(self, name: str, default: int) -> int:
        """A positive integer."""
        return self.counts(name, (default,))[0]

    def counts(self, name: str, default: tuple[int, ...], *, spread: bool = True) -> tuple[int, ...]:
        """Positive integers as many as `default` has; one integer stands for all of them where `spread`."""
        value = self.values.get(name, default)
        if _is(value, int) and spread:
            value = (value,) * len(default)
        fits = isinstance(value, list | tuple) and len(value) == len(default)
        if not fits or not all(_is(v, int) and v > 0 for v in value):
            raise DataError(f"{self.arch} option {name}: expected {len(default)} positive integers, found {value!r}")
        return tuple(value)


def _is(value: Any, *kinds: type) -> bool:
    """Of one of these types; true and false are no numbers."""
    return isinstance(value, kinds) and not isinstance(value, bool)


def _widths(finest: int) -> tuple[int, ...]:
    return tuple(finest << i for i in range(4))


Config = HRNetConfig | ResNetConfig | OCRConfig | HMSAConfig
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
    "hmsa": HMSAConfig(ocr=OCRConfig(trunk=W48)),
}
"""Architecture name -> sizes. All but the tiny one are the authors' own."""


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
              `scale_weight` (what the losses of single scales count, 0) and `attention_width` (256).

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
    known, make = _FAMILIES[type(config)]
    asked = Options(arch, options)
    asked.check_known(known)
    return make(config, num_classes, asked)


def _hrnet(config: HRNetConfig, num_classes: int, asked: Options) -> HRNet:
    return HRNet(_trunk(config, asked), num_classes, init=_init(asked), **_common(asked, hrnet.BN_MOMENTUM))


def _pspnet(config: ResNetConfig, num_classes: int, asked: Options) -> PSPNet:
    sized = ResNetConfig(blocks=asked.counts("blocks", config.blocks), width=asked.count("width", config.width))
    aux_weight = asked.weight("aux_weight", pspnet.AUX_WEIGHT)
    return PSPNet(sized, num_classes, aux_weight=aux_weight, **_common(asked, pspnet.BN_MOMENTUM))


def _ocr(config: OCRConfig, num_classes: int, asked: Options) -> OCRNet:
    return OCRNet(_ocr_sizes(config, asked), num_classes, **_ocr_common(asked))


def _hmsa(config: HMSAConfig, num_classes: int, asked: Options) -> HMSA:
    return HMSA(
        HMSAConfig(ocr=_ocr_sizes(config.ocr, asked), attention=asked.count("attention_width", config.attention)),
        num_classes,
        n_scales=asked.values.get("n_scales", hmsa.N_SCALES),
        scale_weight=asked.weight("scale_weight", 0.0),
        **_ocr_common(asked),
    )


def _ocr_sizes(config: OCRConfig, asked: Options) -> OCRConfig:
    mid, key = asked.count("ocr_width", config.mid), asked.count("ocr_key_width", config.key)
    return OCRConfig(trunk=_trunk(config.trunk, asked), mid=mid, key=key)


def _ocr_common(asked: Options) -> dict[str, Any]:
    aux_weight = asked.weight("aux_weight", ocr.AUX_WEIGHT)
    return {"init": _init(asked), "aux_weight": aux_weight} | _common(asked, ocr.BN_MOMENTUM)


def _common(asked: Options, bn_momentum: float) -> dict[str, Any]:
    return {
        "bn_momentum": asked.share("bn_momentum", bn_momentum),
        "seed": asked.integer("seed", 0),
        "checkpointing": asked.flag("checkpointing"),
    }


def _init(asked: Options) -> Init:
    return cast(Init, asked.choice("init", ("reference", "kaiming")))


def _trunk(config: HRNetConfig, asked: Options) -> HRNetConfig:
    return HRNetConfig(
        widths=asked.counts("widths", config.widths, spread=False),
        stem=asked.count("stem", config.stem),
        stage1_width=asked.count("stage1_width", config.stage1_width),
        stage1_blocks=asked.count("stage1_blocks", config.stage1_blocks),
        blocks=asked.counts("blocks", config.blocks),
        modules=asked.counts("modules", config.modules),
    )


_COMMON = ("bn_momentum", "seed", "checkpointing")
_TRUNK = (*_COMMON, "init", "stem", "widths", "blocks", "modules", "stage1_blocks", "stage1_width")
_OCR = (*_TRUNK, "aux_weight", "ocr_width", "ocr_key_width")
_FAMILIES: Mapping[type[Any], tuple[tuple[str, ...], Callable[[Any, int, Options], nn.Module]]] = {
    HRNetConfig: (_TRUNK, _hrnet),
    ResNetConfig: ((*_COMMON, "aux_weight", "blocks", "width"), _pspnet),
    OCRConfig: (_OCR, _ocr),
    HMSAConfig: ((*_OCR, "n_scales", "scale_weight", "attention_width"), _hmsa),
}
"""Which options a family of architectures has, and how it is made of them."""
