"""Weights that people already have: brought into a network (`load_weights`), or the network built from them.

Every tensor is accounted for, or none is copied.

A file is recognised by its content, whatever its name:

    our own        a run's final.pt, best.pt or one of its checkpoints: of that the averaged weights if it keeps any
    checkpoint     names and tensors, at the top or below any keys ({"state_dict": ...}, {"model": ...}), as the network
                   spells them or after a prefix ("module.", "model.", "_orig_mod."): where that is follows from the
                   network's own names and shapes. Where several mappings fit, averaged weights (a key or prefix with
                   ema, swa, avg or average) go before raw ones, then what comes first in the file, and it is said
    ImageNet       backbones under their authors' names: HRNet (conv1, stage2, ..., and the classifier's incre_modules,
                   downsamp_modules, final_layer, classifier) and ResNet with the deep stem (conv1..conv3, layer1..4,
                   fc). The classifier is left out, or absent already; the backbone must match to the last tensor; the
                   heads keep what the network was built with, which is what the published recipes start from

For `load_any`: MSeg's files (HRNet, PSPNet) and those of hierarchical multi-scale attention do not say what they are
of. Names and shapes do: the architecture is the preset that they fit to the last tensor, the number of classes that of
its head. Class lists follow from that number where the publication has one: HRNet and PSPNet 194 universal and 316
naive; hierarchical multi-scale attention 19 (Cityscapes) and 65 (Mapillary Vistas).
"""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from segstream.model.checkpoint import FORMAT, VERSIONS, Final, parse_result
from segstream.model.networks.blocks import check_parts, is_below
from segstream.model.networks.build import HEADS, PRESETS, build, divide_logits
from segstream.model.weights_file import check_values, one_line, read_weights_file
from segstream.shards.errors import DataError, UsageError
from segstream.shards.files import digest
from segstream.shards.taxonomy import load_taxonomy

LISTED = 3  # names of a group that a message shows
ANOTHER_NETWORK = (
    "Build the architecture and number of classes that the file is of, or name parts of the network to leave freshly "
    "drawn (`fresh`; `auto`: whatever does not fit)"
)
COUNTER = "num_batches_tracked"  # batch norm's, which files older than it lack and nothing here reads
HRNET_TRUNK = r"(backbone\.)?(conv1|conv2|bn1|bn2|layer1|transition[123]|stage[234])\."
HRNET_CLASSIFIER = ("incre_modules.", "downsamp_modules.", "final_layer.", "classifier.")
RESNET_TRUNK = r"layer[0-4]\."
RESNET_STEM = {"conv1": 0, "bn1": 1, "conv2": 3, "bn2": 4, "conv3": 6, "bn3": 7}  # position in PSPNet's `layer0`
MSEG, HMSA = {194: "universal", 316: "naive"}, {19: "cityscapes-19", 65: "mapillary-public65"}
WRAPPERS = re.compile(r"\b(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")  # torch's, anywhere in a name
AVERAGED = re.compile(r"(?<![a-z])(ema|swa|avg|average)", re.IGNORECASE)
MAX_PREFIX, MAX_PLACES = 8, 16  # parts of a name; where a file may have them


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What came from a file and what did not."""

    kind: str
    """What the file was recognised as."""
    where: str
    """Keys and prefix under which the weights lay in it, and what else would have fitted; empty if at the top."""
    sha256: str
    """Of the file."""
    num_tensors: int
    """Copied into the network."""
    fresh: tuple[str, ...]
    """Names of the network's tensors that keep what it was built with: the heads beside an ImageNet backbone, and what
    the caller asked for."""
    unused: tuple[str, ...] = ()
    """Names of the file's tensors that the network has no place for; only where the caller said `auto`."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """What a file of ours says of its network, see `load_any`."""

    @property
    def summary(self) -> str:
        """How many tensors were kept, and which were not: the first few of each kind."""
        others = {"freshly drawn": self.fresh, "of the file left out": self.unused}
        told = (f"; {len(names)} {what} ({_listed(names)})" for what, names in others.items() if names)
        return f"{self.num_tensors} tensors kept{''.join(told)}"


@dataclass(frozen=True, slots=True)
class _Place:
    """Tensors that lie together in a file."""

    keys: str
    prefix: str
    weights: dict[str, Tensor]  # by what follows the prefix
    left_out: int  # tensors beside them without the prefix
    kind: str = ""  # of the file, if it says so

    def __str__(self) -> str:
        told = (f"{self.keys!r}" * bool(self.keys), f"names after {self.prefix!r}" * bool(self.prefix))
        beside = f"{self.left_out} tensors beside them left out" * bool(self.left_out)
        return ", ".join(text for text in (*told, beside) if text)


@dataclass(frozen=True, slots=True)
class _Found:
    kind: str
    weights: dict[str, Tensor]  # by the network's names
    heads: tuple[str, ...] = ()  # names of the network that such a file does not have


def load_weights(net: nn.Module, path: str | Path, *, fresh: Sequence[str] | Literal["auto"] = ()) -> Loaded:
    """Copy a file's weights into `net`, all or none.

    Args:
        net: a network of `build`, changed in place; on any device.
        path: see the module's docstring for what is recognised.
        fresh: parts of the network (`last_layer.3`, `ocr.cls_head`) to leave as they are although the file may have
            them: heads for another number of classes. auto: all that the file does not have in the same shape, which
            may be no part of the trunk.

    Returns:
        What the file was, its SHA-256, how many tensors were copied, and which of the network's were left as they were.

    Raises:
        DataError: the file is missing, damaged, holds code or is none of the above; its names or shapes differ from
            the network's (told by kind of difference), in the trunk where `fresh` is auto; a value is not finite, or a
            tensor of complex or truth values; `fresh` names no part.
    """
    return copy_weights(net, path, read_weights_file(path), fresh=fresh)


def load_any(
    path: str | Path, arch: str | None = None, num_classes: int | None = None
) -> tuple[nn.Module, dict[str, Any]]:
    """A trained network, in eval mode on the CPU.

    Args:
        path: a file of a run (`final.pt`, `best.pt`, `checkpoints/step-*.pt`), or a published checkpoint.
        arch: architecture of a file that is not recognised, a name of `model.networks.build.PRESETS`.
        num_classes: how many classes it must have; None: as many as its head says.

    Returns:
        The network and what is known of it: `arch` and `num_classes`; of our own files all of their `meta`; of others
        `kind` and `where` (see `Loaded`), and `taxonomy` where the class list is known. Where the meta has a
        `temperature`, the network's logits are divided by it.

    Raises:
        UsageError: an unknown `arch`, or a file without a head (an ImageNet backbone).
        DataError: the file is missing or damaged, of no known architecture, does not fit `arch`, or has another number
            of classes.
    """
    content = read_weights_file(path)
    ours = arch is None and isinstance(content, dict) and content.get("format") == FORMAT
    net, meta = _rebuilt(path, parse_result(path, content)) if ours else _foreign(path, content, arch)
    if num_classes not in (None, meta["num_classes"]):
        raise DataError(
            f"{path}: has {meta['num_classes']} classes, not {num_classes}; leave the number out, or take another file"
        )
    return net, meta


def copy_weights(
    net: nn.Module, path: str | Path, content: Any, *, fresh: Sequence[str] | Literal["auto"] = ()
) -> Loaded:
    """`load_weights` of a file that `read_weights_file` has read."""
    own, auto = net.state_dict(), fresh == "auto"
    parts = () if auto else tuple(fresh)
    check_parts(net, parts, field="fresh")
    trunk = {name: tensor for name, tensor in own.items() if re.match(f"{HRNET_TRUNK}|{RESNET_TRUNK}", name)} or own
    tried: list[tuple[tuple[int, int], _Place, _Found, dict[str, list[str]], tuple[str, ...]]] = []
    for place in _places_of(path, content, own):
        found = _recognised(path, place, own)
        given = named = {name: tensor for name, tensor in found.weights.items() if not is_below(name, parts)}
        if auto:
            named = {_spelled(name, own): tensor for name, tensor in given.items()}
            given = {name: t for name, t in named.items() if name in own and not compare({name: t}, {name: own[name]})}
            wrong = compare({name: tensor for name, tensor in named.items() if name in trunk}, trunk)
        else:
            wrong = compare(given, {n: t for n, t in own.items() if not is_below(n, parts) and n not in found.heads})
        differ, unused = sum(map(len, wrong.values())), tuple(name for name in named if name not in given)
        tried.append(((differ, -len(given) * auto), place, _Found(found.kind, given), wrong, unused))
    rank, place, found, wrong, unused = min(tried, key=lambda one: one[0])
    if rank[0]:
        at = f" ({place})" if str(place) else ""
        raise DataError(
            f"{path}: {found.kind}{at} does not fit {'the trunk of ' * auto}this network: {_told(wrong)}. "
            + ("Build the network that has the file's trunk, or take another file" if auto else ANOTHER_NETWORK)
        )
    check_values(path, found.weights)
    net.load_state_dict({**own, **found.weights})
    kept = tuple(name for name in own if name not in found.weights and not name.endswith(COUNTER))
    others = _listed([str(other) or "the top" for alike, other, *_ in tried if alike == rank and other != place])
    where = str(place) + f"; {others} fits too: averaged weights go first, then what comes first" * bool(others)
    facts: dict[str, Any] = {"sha256": file_sha256(path), "num_tensors": len(found.weights)}
    facts["meta"] = parse_result(path, content).meta if place.kind else {}
    return Loaded(kind=found.kind, where=where, fresh=kept, unused=unused, **facts)


def _spelled(name: str, own: Mapping[str, Tensor]) -> str:
    """As a network spells it that has the trunk below `backbone`, or at the top, where others do not."""
    return next((n for n in (name, f"backbone.{name}", name.removeprefix("backbone.")) if n in own), name)


def compare(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """How names, shapes and types of a file's tensors differ from a network's; batch norm's counter may be missing.

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
        "of another type": [
            f"{name}: {found[name].dtype} in the file, {tensor.dtype} in the network"
            for name, tensor in expected.items()
            if name in found and not name.endswith(COUNTER)
            if found[name].is_floating_point() != tensor.is_floating_point()
        ],
    }
    return {kind: names for kind, names in wrong.items() if names}


def file_sha256(path: str | Path) -> str:
    """Hexadecimal digest of a file.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return digest(Path(path))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error})") from error


def _places_of(path: str | Path, content: Any, own: Mapping[str, Tensor]) -> list[_Place]:
    """Where a file may have a network's weights."""
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        return places(path, content, {*own, *(name.removeprefix("backbone.") for name in own)})
    kind, version = str(content.get("kind"))[:20], str(content.get("version"))[:20]
    if version != str(expected := VERSIONS.get(kind)):
        raise DataError(f"{path}: version {version}, expected {expected}; give a file of this one")
    parts = (next(_mappings(content.get(name)), ("", {})) for name in ("weights", "average"))  # averaged ones go first
    return [_Place("", "", {name: t for _, tensors in parts for name, t in tensors.items()}, 0, f"our own {kind}")]


def places(path: str | Path, content: Any, names: Collection[str]) -> list[_Place]:
    """Mappings of tensors, however deep in a file, each with every prefix after which most of `names` are found in it.

    Returns:
        Averaged weights first, then in the file's order; where no name is found, all that there are.

    Raises:
        DataError: there is no tensor with a name.
    """
    found = []
    mappings = list(_mappings(content))
    for keys, tensors in mappings:
        endings = (
            (name, name.split(".", i)[-1]) for name in tensors for i in range(min(name.count("."), MAX_PREFIX) + 1)
        )
        prefixes = Counter(name.removesuffix(ending) for name, ending in endings if ending in names)
        for prefix, count in prefixes.most_common(MAX_PLACES):
            if 2 * count > max(prefixes.values()):
                under = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
                found.append(_Place(keys, prefix, under, len(tensors) - len(under)))
    if not mappings:
        held = f"but {_listed(list(map(repr, content)))}" if isinstance(content, dict) else "no mapping"
        raise DataError(f"{path}: no tensor with a name is in it ({held}); give a file of a network's state_dict")
    found = found or [_Place(keys, "", tensors, 0) for keys, tensors in mappings]
    return sorted(found, key=lambda place: not AVERAGED.search(f"{place.keys}.{place.prefix}"))[:MAX_PLACES]


def _mappings(content: Any, keys: str = "") -> Iterator[tuple[str, dict[str, Tensor]]]:
    if isinstance(content, Mapping):
        tensors = {WRAPPERS.sub("", n): t for n, t in content.items() if isinstance(t, Tensor) and isinstance(n, str)}
        if tensors:
            yield keys, tensors
        for name, inner in content.items():
            yield from _mappings(inner, f"{keys}.{name}" if keys else str(name))


def _recognised(path: str | Path, place: _Place, own: Mapping[str, Tensor]) -> _Found:
    wrapped, weights = place.keys == "state_dict", place.weights
    if place.kind:
        return _Found(place.kind, weights)
    headed = any(name.startswith(("last_layer.", "backbone.", "ocr.", "layer0.")) for name in weights)
    if not headed and not place.left_out:
        first = {name.partition(".")[0] for name in weights}
        classified = any(name.startswith(HRNET_CLASSIFIER) for name in weights)
        if "stage4" in first and (classified or not wrapped):
            prefix = "backbone." if "backbone.conv1.weight" in own else ""
            named = {f"{prefix}{name}": t for name, t in weights.items() if not name.startswith(HRNET_CLASSIFIER)}
            return _backbone(path, "HRNet", named, own, trunk=HRNET_TRUNK, landmark=f"{prefix}stage4.")
        if "layer4" in first and first & RESNET_STEM.keys():
            named = {
                re.sub(r"^(conv|bn)[123](?=\.)", lambda first: f"layer0.{RESNET_STEM[first[0]]}", name): tensor
                for name, tensor in weights.items()
                if not name.startswith("fc.")
            }
            return _backbone(path, "ResNet", named, own, trunk=RESNET_TRUNK, landmark="layer0.0.weight")
    if any(name.startswith("ocr.") for name in weights):
        return _Found("HMSA checkpoint", weights)
    return _Found("MSeg checkpoint" if wrapped and place.prefix in ("", "module.") else "state_dict", weights)


def _backbone(
    path: str | Path, family: str, named: dict[str, Tensor], own: Mapping[str, Tensor], *, trunk: str, landmark: str
) -> _Found:
    if not any(name.startswith(landmark) for name in own):
        raise DataError(f"{path}: an ImageNet backbone of {family}, which this network is not built on; choose another")
    stem = named.get("layer0.0.weight")
    if stem is not None and stem.shape[-1] == 7:
        raise DataError(
            f"{path}: a ResNet that begins with one 7x7 convolution, as torchvision's and timm's `resnet50` do; "
            f"this network begins with three of 3x3 (conv1, conv2, conv3), as the PSPNet authors' resnet50_v2.pth does"
        )
    heads = tuple(name for name in own if not re.match(trunk, name))
    return _Found(f"ImageNet backbone of {family}", named, heads)


def _shape(tensor: Tensor) -> str:
    return "x".join(str(side) for side in tensor.shape) or "scalar"


def _told(wrong: Mapping[str, Sequence[str]]) -> str:
    """`2 missing (a, b); 1 unexpected (c)`."""
    return "; ".join(f"{len(names)} {kind} ({_listed(names)})" for kind, names in wrong.items())


def _listed(names: Sequence[str]) -> str:
    more = f", and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def _rebuilt(path: str | Path, final: Final) -> tuple[nn.Module, dict[str, Any]]:
    """The network of a file of a run."""
    meta = final.meta
    try:
        arch, num_classes, options = meta["arch"], meta["num_classes"], meta.get("options", {})
        with torch.device("meta"):  # sizes that the tensors do not have take no memory
            wrong = compare(final.weights, build(arch, num_classes, **options).state_dict())
    except (KeyError, TypeError, DataError) as error:
        raise DataError(f"{path}: does not say what network it is of ({one_line(error)}); train again") from error
    if wrong:
        raise DataError(f"{path}: weights do not fit the architecture it names, {arch}: {_told(wrong)}; train again")
    net = build(arch, num_classes, **options)
    net.load_state_dict({**net.state_dict(), **final.weights})
    if "temperature" in meta:
        divide_logits(net, meta["temperature"], where=str(path))
    return net.eval(), meta


def _foreign(path: str | Path, content: Any, arch: str | None) -> tuple[nn.Module, dict[str, Any]]:
    headed = [place for place in places(path, content, HEADS) if place.weights.keys() & HEADS.keys()]
    if not headed:
        count = sum(len(tensors) for _, tensors in _mappings(content))
        raise UsageError(
            f"{path}: none of its {count} tensors is the last of a network that segments ({', '.join(HEADS)}, after "
            f"any prefix); give a trained network"
        )
    tried = []
    for place in headed:
        head, family = next((head, family) for head, family in HEADS.items() if head in place.weights)
        rows = next(iter(place.weights[head].shape), 1)
        for name in [name for name in PRESETS if isinstance(PRESETS[name], family)] if arch is None else [arch]:
            with torch.device("meta"):
                wrong = compare(place.weights, build(name, rows).state_dict())
            tried.append((sum(map(len, wrong.values())), name, rows, head, wrong))
    differ, arch, rows, head, wrong = min(tried, key=lambda one: one[0])
    if differ:
        raise DataError(f"{path}: fits no architecture to the last tensor; nearest is {arch}: {_told(wrong)}")
    net = build(arch, rows)
    loaded = copy_weights(net, path, content)
    meta: dict[str, Any] = {"arch": arch, "num_classes": rows, "kind": loaded.kind, "where": loaded.where}
    known = (HMSA if head.startswith("ocr.") else MSEG).get(rows)
    return net.eval(), meta if known is None else meta | {"taxonomy": asdict(load_taxonomy(known))}
