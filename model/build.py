"""Networks by name, sizes by preset, and trained ones from their file."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, cast

from torch import nn

from model.checkpoint import load_final
from model.hrnet import BN_MOMENTUM, HRNet, HRNetConfig, Init, StageConfig
from shards.errors import DataError, UsageError

INITS = ("reference", "kaiming")


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


PRESETS: Mapping[str, HRNetConfig] = {
    "hrnet-w18": _full(18),
    "hrnet-w32": _full(32),
    "hrnet-w48": _full(48),
    "hrnet-w18-small": _light(
        stem=64, mid=32, width=16, blocks=2
    ),  # the authors' "small v1": 16 channels despite its name
    "hrnet-tiny": _light(stem=32, mid=16, width=16, blocks=1),  # ours, for a demo on two cores
}
"""Architecture name -> sizes. W18, W32, W48 and the small one are the HRNet authors' own."""


def build(arch: str, num_classes: int, **options: Any) -> nn.Module:
    """Build a network with freshly drawn weights.

    In eval mode `net(images)` maps ImageNet-normalised RGB, (B, 3, H, W) float32, to logits (B, num_classes, H, W);
    in train mode it returns a `model.TrainOutput`.

    Args:
        arch: one of `PRESETS`.
        num_classes: channels of the logits.
        **options: `init` ("reference" or "kaiming") and `bn_momentum` (0..1), see `HRNet`; `seed` (int, key of the
            initial weights); and overrides of the preset's sizes: `stem` (int), `widths` (4 ints, finest branch
            first), `blocks` (residual blocks of a branch, 1 int for all stages or 3 for stages 2, 3, 4), `modules`
            (exchanges, likewise), `stage1_blocks` and `stage1_width` (int).

    Raises:
        UsageError: an unknown architecture or option, with the nearest known one.
        DataError: an option's value does not fit.
    """
    if arch not in PRESETS:
        raise UsageError(f"arch {arch!r} is unknown; {_did_you_mean(arch, PRESETS)}")
    if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 1:
        raise DataError(f"num_classes: {num_classes!r}; a network needs at least 1 class")
    for name in options:
        if name not in OPTIONS:
            raise UsageError(f"{arch} has no option {name!r}; {_did_you_mean(name, OPTIONS)}")
    init = options.get("init", "reference")
    if init not in INITS:
        raise DataError(f"{arch} option init: {init!r} is not one of {', '.join(INITS)}")
    seed = options.get("seed", 0)
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise DataError(f"{arch} option seed: {seed!r} is not an integer")
    momentum = options.get("bn_momentum", BN_MOMENTUM)
    if isinstance(momentum, bool) or not isinstance(momentum, int | float) or not 0 < momentum <= 1:
        raise DataError(f"{arch} option bn_momentum: {momentum!r} is not a number above 0 and at most 1")
    config = _sized(arch, options)
    return HRNet(config, num_classes, init=cast(Init, init), bn_momentum=float(momentum), seed=seed)


def load_net(path: str) -> tuple[nn.Module, dict[str, Any]]:
    """Rebuild a trained network, in eval mode on the CPU, from a run's `final.pt`.

    Returns:
        The network and the `meta` that was stored with it (arch, num_classes, options, taxonomy, recipe).

    Raises:
        DataError: the file is unreadable, of another kind, or does not fit its own description.
    """
    final = load_final(path)
    meta = final.meta
    try:
        net = build(meta["arch"], meta["num_classes"], **meta.get("options", {}))
        net.load_state_dict(final.weights)
    except (KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise DataError(f"{path}: weights do not fit the architecture it names ({reason}); train again") from error
    return net.eval(), meta


OPTIONS = ("init", "bn_momentum", "seed", "stem", "widths", "blocks", "modules", "stage1_blocks", "stage1_width")


def _sized(arch: str, options: Mapping[str, Any]) -> HRNetConfig:
    config = PRESETS[arch]
    stages = [config.stage2, config.stage3, config.stage4]
    widths = _counts(arch, "widths", options, default=config.stage4.channels)
    blocks = _counts(arch, "blocks", options, default=tuple(s.blocks for s in stages))
    modules = _counts(arch, "modules", options, default=tuple(s.modules for s in stages))
    (stem,) = _counts(arch, "stem", options, default=(config.stem,))
    (first_blocks,) = _counts(arch, "stage1_blocks", options, default=(config.stage1.blocks,))
    (first_width,) = _counts(arch, "stage1_width", options, default=config.stage1.channels)
    stages = [
        replace(stage, blocks=blocks[i], modules=modules[i], channels=widths[: i + 2]) for i, stage in enumerate(stages)
    ]
    return HRNetConfig(
        stem=stem,
        stage1=replace(config.stage1, blocks=first_blocks, channels=(first_width,)),
        stage2=stages[0],
        stage3=stages[1],
        stage4=stages[2],
    )


def _counts(arch: str, name: str, options: Mapping[str, Any], *, default: tuple[int, ...]) -> tuple[int, ...]:
    """Positive integers as many as `default` has; one integer stands for all of them, except for widths."""
    value = options.get(name, default)
    if isinstance(value, int) and not isinstance(value, bool) and (name != "widths"):
        value = (value,) * len(default)
    fits = isinstance(value, list | tuple) and len(value) == len(default)
    if not fits or not all(isinstance(v, int) and not isinstance(v, bool) and v > 0 for v in value):
        raise DataError(f"{arch} option {name}: expected {len(default)} positive integers, found {value!r}")
    return tuple(value)


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known))}"
