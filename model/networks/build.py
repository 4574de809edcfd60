"""Networks by name, sizes by preset, options read one by one and refused by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from torch import nn

from segstream.model.networks import hmsa, hrnet, ocr, pspnet
from segstream.model.networks.hmsa import HMSA, HMSAConfig
from segstream.model.networks.hrnet import HRNet, HRNetConfig, Init, StageConfig
from segstream.model.networks.ocr import OCRConfig, OCRNet
from segstream.model.networks.pspnet import PSPNet
from segstream.model.networks.resnet import ResNetConfig
from segstream.shards.errors import DataError, UsageError, did_you_mean


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

    def choice(self, name: str, choices: tuple[str, ...]) -> str:
        """One of `choices`, by default the first."""
        value = self.values.get(name, choices[0])
        if value not in choices:
            raise DataError(f"{self.arch} option {name}: {value!r} is not one of {', '.join(choices)}")
        return str(value)

    def flag(self, name: str) -> bool:
        """True or False, by default False."""
        value = self.values.get(name, False)
        if not isinstance(value, bool):
            raise DataError(f"{self.arch} option {name}: {value!r} is neither true nor false")
        return value

    def integer(self, name: str, default: int) -> int:
        """Any integer."""
        value = self.values.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise DataError(f"{self.arch} option {name}: {value!r} is not an integer")
        return value

    def share(self, name: str, default: float) -> float:
        """A number above 0 and at most 1."""
        value = self.values.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
            raise DataError(f"{self.arch} option {name}: {value!r} is not a number above 0 and at most 1")
        return float(value)

    def weight(self, name: str, default: float) -> float:
        """A finite number that is not negative."""
        value = self.values.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
            raise DataError(f"{self.arch} option {name}: {value!r} is not a number of at least 0")
        return float(value)

    def count(self, name: str, default: int) -> int:
        """A positive integer."""
        return self.counts(name, (default,))[0]

    def counts(self, name: str, default: tuple[int, ...], *, spread: bool = True) -> tuple[int, ...]:
        """Positive integers as many as `default` has; one integer stands for all of them where `spread`."""
        value = self.values.get(name, default)
        if isinstance(value, int) and not isinstance(value, bool) and spread:
            value = (value,) * len(default)
        fits = isinstance(value, list | tuple) and len(value) == len(default)
        if not fits or not all(isinstance(v, int) and not isinstance(v, bool) and v > 0 for v in value):
            raise DataError(f"{self.arch} option {name}: expected {len(default)} positive integers, found {value!r}")
        return tuple(value)


Config = HRNetConfig | ResNetConfig | OCRConfig | HMSAConfig


def _full(width: int) -> HRNetConfig:
    widths = tuple(width << i for i in range(4))
    return HRNetConfig(
        stem=64,
        stage1=StageConfig(modules=1, blocks=4, channels=(64,)),
        stage2=StageConfig(modules=1, blocks=4, channels=widths[:2]),
        stage3=StageConfig(modules=4, blocks=4, channels=widths[:3]),
        stage4=StageConfig(modules=3, blocks=4, channels=widths),
    )


def _light(*, stem: int, mid: int, width: int, blocks: int) -> HRNetConfig:
    widths = tuple(width << i for i in range(4))
    return HRNetConfig(
        stem=stem,
        stage1=StageConfig(modules=1, blocks=1, channels=(mid,)),
        stage2=StageConfig(modules=1, blocks=blocks, channels=widths[:2]),
        stage3=StageConfig(modules=1, blocks=blocks, channels=widths[:3]),
        stage4=StageConfig(modules=1, blocks=blocks, channels=widths),
    )


PRESETS: Mapping[str, Config] = {
    "hrnet-w18": _full(18),
    "hrnet-w32": _full(32),
    "hrnet-w48": _full(48),
    "hrnet-w18-small": _light(
        stem=64, mid=32, width=16, blocks=2
    ),  # the authors' "small v1": 16 channels despite its name
    "hrnet-tiny": _light(stem=32, mid=16, width=16, blocks=1),  # ours, for a demo on two cores
    "pspnet-50": ResNetConfig(blocks=(3, 4, 6, 3)),
    "pspnet-101": ResNetConfig(blocks=(3, 4, 23, 3)),
    "hrnet-ocr": OCRConfig(trunk=_full(48)),
    "hmsa": HMSAConfig(ocr=OCRConfig(trunk=_full(48))),
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
    stages = [config.stage2, config.stage3, config.stage4]
    widths = asked.counts("widths", config.stage4.channels, spread=False)
    blocks = asked.counts("blocks", tuple(s.blocks for s in stages))
    modules = asked.counts("modules", tuple(s.modules for s in stages))
    first = replace(
        config.stage1,
        blocks=asked.count("stage1_blocks", config.stage1.blocks),
        channels=(asked.count("stage1_width", config.stage1.channels[0]),),
    )
    stages = [
        replace(stage, blocks=blocks[i], modules=modules[i], channels=widths[: i + 2]) for i, stage in enumerate(stages)
    ]
    stem = asked.count("stem", config.stem)
    return HRNetConfig(stem=stem, stage1=first, stage2=stages[0], stage3=stages[1], stage4=stages[2])


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
