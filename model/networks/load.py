"""Networks ready for use, from our own files and from published ones, which are recognised by their tensors.

MSeg's files (HRNet, PSPNet) and those of hierarchical multi-scale attention do not say what they are of. Names and
shapes do: the architecture is the preset that they fit to the last tensor, the number of classes that of its head.
Class lists follow from that number where the publication has one: MSeg 194 universal and 316 naive; hierarchical
multi-scale attention 19 (Cityscapes) and 65 (Mapillary Vistas).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from segstream.model.checkpoint import FORMAT, final_of
from segstream.model.networks.build import PRESETS, Config, build, rebuilt
from segstream.model.networks.hmsa import HMSAConfig
from segstream.model.networks.hrnet import HRNetConfig
from segstream.model.networks.ocr import OCRConfig
from segstream.model.networks.resnet import ResNetConfig
from segstream.model.networks.weights import compare, copy_weights, named_tensors
from segstream.model.weights_file import read_torch
from segstream.shards.errors import DataError, UsageError
from segstream.shards.taxonomy import load_taxonomy

HEADS: Mapping[str, tuple[type[Config], ...]] = {
    "ocr.cls_head.weight": (HMSAConfig, OCRConfig),
    "cls.4.weight": (ResNetConfig,),
    "last_layer.3.weight": (HRNetConfig,),
}
"""The tensor with a row per class, and whose it is."""
CLASS_LISTS = {
    "MSeg checkpoint": {194: "universal", 316: "naive"},
    "HMSA checkpoint": {19: "cityscapes-19", 65: "mapillary-public65"},
}


def load_any(
    path: str | Path, arch: str | None = None, num_classes: int | None = None
) -> tuple[nn.Module, dict[str, Any]]:
    """A trained network, in eval mode on the CPU.

    Args:
        path: a run's `final.pt`, or a published checkpoint.
        arch: architecture of a file that is not recognised, a name of `model.PRESETS`.
        num_classes: how many classes it must have; None: as many as its head says.

    Returns:
        The network and what is known of it: `arch` and `num_classes`; of our own files all of their `meta`; of others
        `kind`, and `taxonomy` where the class list is known.

    Raises:
        UsageError: an unknown `arch`, or a file without a head (an ImageNet backbone).
        DataError: the file is missing or damaged, of no known architecture, does not fit `arch`, or has another number
            of classes.
    """
    content = read_torch(path)
    if arch is None and isinstance(content, dict) and content.get("format") == FORMAT:
        net, meta = rebuilt(path, final_of(path, content))
        _check_classes(path, meta["num_classes"], num_classes)
        return net, meta
    return _foreign(path, content, arch, num_classes)


def _foreign(
    path: str | Path, content: Any, arch: str | None, num_classes: int | None
) -> tuple[nn.Module, dict[str, Any]]:
    weights = named_tensors(path, content)
    rows = next((len(weights[name]) for name in HEADS if name in weights), None)
    if rows is None:
        raise UsageError(f"{path}: without a head to segment with (an ImageNet backbone?); give a trained network")
    _check_classes(path, rows, num_classes)
    arch = recognised(path, weights, rows) if arch is None else arch
    net = build(arch, rows)
    loaded = copy_weights(net, path, content)
    meta: dict[str, Any] = {"arch": arch, "num_classes": rows, "kind": loaded.kind}
    name = CLASS_LISTS.get(loaded.kind, {}).get(rows)
    return net.eval(), meta if name is None else meta | {"taxonomy": dataclasses.asdict(load_taxonomy(name))}


def recognised(path: str | Path, weights: Mapping[str, Tensor], num_classes: int) -> str:
    """The preset whose names and shapes the weights have, one of `HEADS` among them.

    Raises:
        DataError: none; names the nearest and what differs.
    """
    wrong = {}
    family = next(types for name, types in HEADS.items() if name in weights)
    for arch in (arch for arch, config in PRESETS.items() if isinstance(config, family)):
        with torch.device("meta"):
            wrong[arch] = compare(weights, build(arch, num_classes).state_dict())
        if not wrong[arch]:
            return arch
    nearest = min(wrong, key=lambda arch: wrong[arch].count)
    raise DataError(f"{path}: of no known architecture; nearest is {nearest}: {wrong[nearest]}")


def _check_classes(path: str | Path, found: int, expected: int | None) -> None:
    if expected not in (None, found):
        raise DataError(f"{path}: has {found} classes, not {expected}; leave the number out, or take another file")
