"""Weights that people already have: brought into a network (`load_weights`), or the network built from them.

Every tensor is accounted for, or none is copied.

A file is recognised by its content, whatever its name:

    our own        a run's final.pt or one of its checkpoints
    checkpoint     {"state_dict": {"module.NAME": ...}, ...}: MSeg's and the multi-scale networks' published files, with
                   or without "module."; also the inner mapping alone
    ImageNet       backbones under their authors' names: HRNet (conv1, stage2, ..., and the classifier's incre_modules,
                   downsamp_modules, final_layer, classifier) and ResNet with the deep stem (conv1..conv3, layer1..4,
                   fc). The classifier is left out, or absent already; the backbone must match to the last tensor; the
                   heads keep what the network was built with, which is what the published recipes start from

For `load_any`: MSeg's files (HRNet, PSPNet) and those of hierarchical multi-scale attention do not say what they are
of. Names and shapes do: the architecture is the preset that they fit to the last tensor, the number of classes that of
its head. Class lists follow from that number where the publication has one: MSeg 194 universal and 316 naive;
hierarchical multi-scale attention 19 (Cityscapes) and 65 (Mapillary Vistas).
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from segstream.model.checkpoint import FORMAT, VERSIONS, Final, parse_final, read_torch
from segstream.model.networks.build import PRESETS, Config, build
from segstream.model.networks.hmsa import HMSAConfig
from segstream.model.networks.hrnet import HRNetConfig
from segstream.model.networks.ocr import OCRConfig
from segstream.model.networks.resnet import ResNetConfig
from segstream.shards.errors import DataError, UsageError
from segstream.shards.taxonomy import load_taxonomy

LISTED = 20  # names of a group that a message shows
COUNTER = "num_batches_tracked"  # batch norm's, which files older than it lack and nothing here reads
HRNET_TRUNK = r"(backbone\.)?(conv1|conv2|bn1|bn2|layer1|transition[123]|stage[234])\."
HRNET_CLASSIFIER = ("incre_modules.", "downsamp_modules.", "final_layer.", "classifier.")
RESNET_TRUNK = r"layer[0-4]\."
RESNET_CLASSIFIER = ("fc.",)
RESNET_STEM = {"conv1": 0, "bn1": 1, "conv2": 3, "bn2": 4, "conv3": 6, "bn3": 7}  # position in PSPNet's `layer0`
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What came from a file and what did not."""

    kind: str
    """What the file was recognised as."""
    sha256: str
    """Of the file."""
    num_tensors: int
    """Copied into the network."""
    fresh: tuple[str, ...]
    """Names of the network's tensors that keep what it was built with: the heads beside an ImageNet backbone, and what
    the caller asked for."""


@dataclass(frozen=True, slots=True)
class _Found:
    kind: str
    weights: dict[str, Tensor]  # by the network's names
    heads: tuple[str, ...] = ()  # names of the network that such a file does not have


def load_weights(net: nn.Module, path: str | Path, *, fresh: Sequence[str] = ()) -> Loaded:
    """Copy a file's weights into `net`, all or none.

    Args:
        net: a network of `build`, changed in place; on any device.
        path: see the module's docstring for what is recognised.
        fresh: parts of the network (`last_layer.3`, `ocr.cls_head`) to leave as they are although the file may have
            them: heads for another number of classes.

    Returns:
        What the file was, its SHA-256, how many tensors were copied, and which of the network's were left as they were.

    Raises:
        DataError: the file is missing, damaged, holds code or is none of the above; its names or shapes differ from
            the network's (all are listed, by kind of difference); a value is not finite; `fresh` names no part.
    """
    return copy_weights(net, path, read_torch(path), fresh=fresh)


def load_any(
    path: str | Path, arch: str | None = None, num_classes: int | None = None
) -> tuple[nn.Module, dict[str, Any]]:
    """A trained network, in eval mode on the CPU.

    Args:
        path: a run's `final.pt`, or a published checkpoint.
        arch: architecture of a file that is not recognised, a name of `model.networks.build.PRESETS`.
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
    ours = arch is None and isinstance(content, dict) and content.get("format") == FORMAT
    net, meta = _rebuilt(path, parse_final(path, content)) if ours else _foreign(path, content, arch)
    if num_classes not in (None, meta["num_classes"]):
        raise DataError(
            f"{path}: has {meta['num_classes']} classes, not {num_classes}; leave the number out, or take another file"
        )
    return net, meta


def copy_weights(net: nn.Module, path: str | Path, content: Any, *, fresh: Sequence[str] = ()) -> Loaded:
    """`load_weights` of a file that `read_torch` has read."""
    own = net.state_dict()
    found = _recognised(path, content, own)
    for part in fresh:
        if not any(_below(name, (part,)) for name in own):
            parts = sorted({name.partition(".")[0] for name in own})
            raise DataError(f"fresh: {part!r} is no part of this network; its parts are {', '.join(parts)} and theirs")
    weights = {name: tensor for name, tensor in found.weights.items() if not _below(name, fresh)}
    expected = {name: tensor for name, tensor in own.items() if not _below(name, fresh) and name not in found.heads}
    wrong = compare(weights, expected)
    if wrong:
        raise DataError(
            f"{path}: {found.kind} does not fit this network: {_told(wrong)}. Build the architecture and number of "
            f"classes that the file is of, or name parts of the network to leave freshly drawn (`fresh`)"
        )
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise DataError(f"{path}: {name} holds nan or infinity; the file is of a run that diverged, take another")
    net.load_state_dict({**own, **weights})
    kept = tuple(name for name in own if name not in weights and not name.endswith(COUNTER))
    return Loaded(kind=found.kind, sha256=file_sha256(path), num_tensors=len(weights), fresh=kept)


def compare(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """How names and shapes of a file's tensors differ from a network's; batch norm's counter may be missing.

    Returns:
        By kind of difference, the tensors; empty where they agree.
    """
    wrong = {
        "missing": [name for name in expected if name not in found and not name.endswith(COUNTER)],
        "unexpected": [name for name in found if name not in expected],
        "wrongly shaped": [
            f"{name}: {_shape(found[name])} in the file, {_shape(tensor)} in the network"
            for name, tensor in expected.items()
            if name in found and found[name].shape != tensor.shape
        ],
    }
    return {kind: names for kind, names in wrong.items() if names}


def file_sha256(path: str | Path) -> str:
    """Hexadecimal digest of a file.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error}); check the path") from error


def _recognised(path: str | Path, content: Any, own: Mapping[str, Tensor]) -> _Found:
    if isinstance(content, dict) and content.get("format") == FORMAT:
        expected = VERSIONS.get(str(content.get("kind")))
        if content.get("version") != expected:
            raise DataError(f"{path}: version {content.get('version')!r}, expected {expected}; give a file of this one")
        return _Found(f"our own {content.get('kind')}", _tensors(path, content.get("weights")))
    wrapped = isinstance(content, dict) and "state_dict" in content
    weights = named_tensors(path, content)
    if not any(name.startswith(("last_layer.", "backbone.", "ocr.", "layer0.")) for name in weights):
        first = {name.partition(".")[0] for name in weights}
        classified = any(name.startswith(HRNET_CLASSIFIER) for name in weights)
        if "stage4" in first and (classified or not wrapped):
            prefix = "backbone." if "backbone.conv1.weight" in own else ""
            named = {f"{prefix}{name}": t for name, t in weights.items() if not name.startswith(HRNET_CLASSIFIER)}
            return _backbone(path, "HRNet", named, own, trunk=HRNET_TRUNK, landmark=f"{prefix}stage4.")
        if "layer4" in first and first & RESNET_STEM.keys():
            named = {_placed(name): t for name, t in weights.items() if not name.startswith(RESNET_CLASSIFIER)}
            return _backbone(path, "ResNet", named, own, trunk=RESNET_TRUNK, landmark="layer0.0.weight")
    if any(name.startswith("ocr.") for name in weights):
        return _Found("HMSA checkpoint", weights)
    return _Found("MSeg checkpoint" if wrapped else "state_dict", weights)


def named_tensors(path: str | Path, content: Any) -> dict[str, Tensor]:
    """The tensors of what `read_torch` gave, by the network's names, whether or not several GPUs wrote it (`module.`).

    Raises:
        DataError: the content is neither a checkpoint nor a mapping of tensors.
    """
    key = next((k for k in ("weights", "state_dict") if isinstance(content, dict) and k in content), None)
    weights = _tensors(path, content if key is None else content[key])
    if all(name.startswith("module.") for name in weights):
        weights = {name.removeprefix("module."): tensor for name, tensor in weights.items()}
    return weights


def _tensors(path: str | Path, mapping: Any) -> dict[str, Tensor]:
    if isinstance(mapping, Mapping) and mapping and all(isinstance(tensor, Tensor) for tensor in mapping.values()):
        return {str(name): tensor for name, tensor in mapping.items()}
    raise DataError(
        f"{path}: a torch file, but neither a checkpoint (with a state_dict) nor a mapping of names to tensors; "
        f"check the path"
    )


def _backbone(
    path: str | Path, family: str, named: dict[str, Tensor], own: Mapping[str, Tensor], *, trunk: str, landmark: str
) -> _Found:
    if not any(name.startswith(landmark) for name in own):
        raise DataError(f"{path}: an ImageNet backbone of {family}, which this network is not built on; choose another")
    heads = tuple(name for name in own if not re.match(trunk, name))
    return _Found(f"ImageNet backbone of {family}", named, heads)


def _placed(name: str) -> str:
    first, dot, rest = name.partition(".")
    return f"layer0.{RESNET_STEM[first]}{dot}{rest}" if first in RESNET_STEM else name


def _below(name: str, parts: Sequence[str]) -> bool:
    return f"{name}.".startswith(tuple(f"{part}." for part in parts))


def _shape(tensor: Tensor) -> str:
    return "x".join(str(side) for side in tensor.shape) or "scalar"


def _told(wrong: Mapping[str, Sequence[str]]) -> str:
    """`2 missing (a, b); 1 unexpected (c)`."""
    return "; ".join(f"{len(names)} {kind} ({_listed(names)})" for kind, names in wrong.items())


def _listed(names: Sequence[str]) -> str:
    more = f", and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def _rebuilt(path: str | Path, final: Final) -> tuple[nn.Module, dict[str, Any]]:
    """The network of a run's `final.pt`."""
    meta = final.meta
    try:
        net = build(meta["arch"], meta["num_classes"], **meta.get("options", {}))
        net.load_state_dict(final.weights)
    except (KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise DataError(f"{path}: weights do not fit the architecture it names ({reason}); train again") from error
    return net.eval(), meta


def _foreign(path: str | Path, content: Any, arch: str | None) -> tuple[nn.Module, dict[str, Any]]:
    weights = named_tensors(path, content)
    rows = next((len(weights[name]) for name in HEADS if name in weights), None)
    if rows is None:
        raise UsageError(f"{path}: without a head to segment with (an ImageNet backbone?); give a trained network")
    arch = recognised(path, weights, rows) if arch is None else arch
    net = build(arch, rows)
    loaded = copy_weights(net, path, content)
    meta: dict[str, Any] = {"arch": arch, "num_classes": rows, "kind": loaded.kind}
    name = CLASS_LISTS.get(loaded.kind, {}).get(rows)
    return net.eval(), meta if name is None else meta | {"taxonomy": asdict(load_taxonomy(name))}


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
    nearest = min(wrong, key=lambda arch: sum(map(len, wrong[arch].values())))
    raise DataError(f"{path}: of no known architecture; nearest is {nearest}: {_told(wrong[nearest])}")
