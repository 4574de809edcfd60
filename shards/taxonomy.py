"""Class lists and the arithmetic between them: pure arrays, no files but the tables of classes.

A *release* id is what a dataset's own files hold; a *native* id belongs to the dataset's published class list
(`ade20k-150`); *universal* is MSeg's taxonomy of 194 classes; *naive* merges class lists by name (316 logits).
Training labels go release -> native -> universal. Predictions go universal -> the native classes of a held-out
dataset; its labels are never mapped. Source of every rule: MSeg (Lambert et al., CVPR 2020).

`datasets/NAME/classes.yaml` holds a class list with its mappings, and the release ids of the dataset it is named after;
`taxonomies/` what belongs to no dataset. The table of another release in the classes of an existing taxonomy has only
its ids:

    taxonomy: cityscapes-19  # native classes, the very same ones
    release: gta5  # id coding of the released label files
    void: [34, 35]  # optional: ids without a name that carry no class
    ids:  # by release id
      - {name: unlabeled}  # carries no class
      - {name: road, class: road}
"""

import functools
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from segstream.shards.errors import DataError, UsageError, did_you_mean
from segstream.shards.schema import Name, Text, read_yaml

IGNORE_INDEX = 255  # pixel not scored, in every label array; torch's and the PNGs' word alike
MAX_CLASSES = 4096  # counts are kept by pair of them
UNMAPPED = -1  # in a table: this id must not occur
_TRAINING = "ade20k-150 bdd cityscapes-19 coco-panoptic-133 idd-39 mapillary-public65 sunrgbd-37"
TRAINING_TAXONOMIES = tuple(_TRAINING.split())  # in the order in which the naive taxonomy numbers them

_NAME = re.compile("[a-z0-9-]+")
_HERE = Path(__file__).parent

Kind = Literal["universal", "naive", "train", "test", "own"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Taxonomy:
    """A named class list; ids are positions in `classes`."""

    name: Name
    kind: Kind
    classes: tuple[Text, ...]
    to_universal: tuple[int, ...] | None = None
    """By native id: the universal id a training label becomes, 255 for none; None if labels are never mapped."""
    from_universal: tuple[tuple[int, int], ...] | None = None
    """(universal id, native id) pairs: the universal classes whose probability a native class receives."""

    def __post_init__(self) -> None:
        to, pairs = self.to_universal, self.from_universal or ()
        universal, native = {*(to or ())} - {IGNORE_INDEX} | {u for u, _ in pairs}, {n for _, n in pairs}
        if self.num_classes > MAX_CLASSES:
            raise DataError(f"taxonomy {self.name!r}: {self.num_classes} classes; at most {MAX_CLASSES} can be counted")
        outside = universal and not universal <= {*range(len(_universal_ids()))}
        if outside or not native <= {*range(self.num_classes)} or len(to or self.classes) != self.num_classes:
            raise DataError(f"taxonomy {self.name!r}: it is mapped to or from classes that there are not")

    @property
    def num_classes(self) -> int:
        """Number of ids, i.e. of logits."""
        return len(self.classes)

    @property
    def digest(self) -> str:
        """SHA-256 over names and mappings: equal digests mean interchangeable label maps and predictions."""
        content = [self.name, self.classes, self.to_universal, self.from_universal]
        return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Remap:
    """A look-up from the ids of one coding to another's."""

    source: str
    target: str
    table: npt.NDArray[np.int32] = field(repr=False)
    """(ids,) int32: source id -> target id, 255 = ignored, -1 = must not occur."""
    beyond: tuple[int, ...] = ()
    """Values outside the table, below 0 or above its end, that are ignored too."""


def remap_label(label: npt.NDArray[Any], remap: Remap, *, where: str) -> npt.NDArray[Any]:
    """Translate a label map.

    Args:
        label: (H, W) integers, ids of `remap.source`.
        where: sample key or file, for the error.

    Returns:
        (H, W) ids of `remap.target`: uint8, or int16 where the target has ids above 255.

    Raises:
        DataError: the label holds an id that the table does not map.
    """
    if label.dtype == np.uint8 and label.ndim == 2 and label.size:
        padded = np.full(256, UNMAPPED, np.int32)
        padded[: len(remap.table)] = remap.table[:256]
        if padded.max() <= IGNORE_INDEX and not cv2.LUT(label, (padded == UNMAPPED).astype(np.uint8)).any():
            return cv2.LUT(label, padded.astype(np.uint8))  # 20 times as fast as indexing
    last = len(remap.table) - 1
    inside = (label >= 0) & (label <= last)
    mapped = remap.table[np.where(inside, label, 0)] if not inside.all() else remap.table[label]
    lost = (mapped == UNMAPPED) | ~inside
    if remap.beyond:
        ignored = ~inside & np.isin(label, remap.beyond)
        mapped[ignored], lost = IGNORE_INDEX, lost & ~ignored
    if lost.any():
        ids = np.unique(label[lost])[:8].tolist()
        pixels = f"{int(lost.sum())} of {label.size} pixels"
        raise DataError(f"{where}: {pixels} carry ids {ids}, which {remap.source} does not have")
    return mapped.astype(np.uint8 if remap.table.max() <= IGNORE_INDEX else np.int16)


@functools.cache
def load_taxonomy(name: str) -> Taxonomy:
    """One of the built-in taxonomies.

    Raises:
        UsageError: there is none of that name.
    """
    if name == "naive":
        return _naive()
    table = _table(name)
    if relabeled := _table("relabeled").get(name):
        table = {"kind": "train", "classes": [{"name": c, "to_universal": c} for c in relabeled]}
    elif "classes" not in table:
        raise UsageError(f"taxonomy {name!r} is unknown; {did_you_mean(name, taxonomy_names())}")
    rows, kind, ids = table["classes"], table["kind"], _universal_ids() | {None: IGNORE_INDEX}
    made = Taxonomy(name=name, kind=kind, classes=tuple(row["name"] for row in rows))
    if kind == "train":
        return replace(made, to_universal=tuple(ids[row["to_universal"]] for row in rows))
    if kind == "test":
        pairs = sorted((ids[u], i) for i, row in enumerate(rows) for u in row["from_universal"])
        return replace(made, from_universal=tuple(pairs))
    return made


@functools.cache
def taxonomy_names() -> tuple[str, ...]:
    """Names of all built-in taxonomies, sorted."""
    datasets = (path.parent.name.replace("_", "-") for path in _HERE.glob("datasets/*/classes.yaml"))
    own = {name for name in datasets if "classes" in _table(name)}
    return tuple(sorted(own | {"universal", "naive"} | set(_table("relabeled"))))


@functools.cache
def native_taxonomy(dataset: str) -> Taxonomy:
    """The class list of a dataset's labels: the taxonomy of its name, or the one that its release table names.

    Raises:
        UsageError: there is neither.
    """
    return load_taxonomy(_table(dataset).get("taxonomy", dataset))


def release_remap(dataset: str) -> Remap:
    """Release ids -> native ids of a built-in dataset."""
    native, table = native_taxonomy(dataset), _table(dataset)
    if "ids" in table:
        ids = {name: i for i, name in enumerate(native.classes)} | {None: IGNORE_INDEX}
        pairs = {release: ids[row.get("class")] for release, row in enumerate(table["ids"])}
    elif "release" in table:
        pairs = {release: i for i, row in enumerate(table["classes"]) for release in row["release"]}
    else:  # published with native ids as they are
        return build_remap(dataset, dataset, {i: i for i in range(native.num_classes)})
    return build_remap(table["release"], native.name, pairs | dict.fromkeys(table.get("void", ()), IGNORE_INDEX))


def release_classes(dataset: str) -> tuple[tuple[str, tuple[int, int, int] | None], ...]:
    """(name, RGB colour or None) by release id, for releases whose own class list the tables hold (else empty)."""
    table = _table(dataset)
    rows = table.get("ids") or table.get("release_classes", [])
    return tuple((row["name"], tuple(row["color"]) if "color" in row else None) for row in rows)


def universal_remap(native: Taxonomy) -> Remap:
    """Native ids -> universal ids of a dataset that can be trained on.

    Raises:
        DataError: the dataset's labels have no universal ids (held out, or own classes only).
    """
    if native.to_universal is None:
        what = f"taxonomy {native.name!r} has no mapping from its labels to the universal taxonomy"
        raise DataError(f"{what}; train on it in its own classes (taxonomy: native)")
    return build_remap(native.name, "universal", dict(enumerate(native.to_universal)))


def naive_remap(native: Taxonomy) -> Remap:
    """Native ids -> naive ids: the class of the same name, letter case aside.

    Raises:
        DataError: a class name that no training dataset of the naive taxonomy has.
    """
    ids = {name: i for i, name in enumerate(load_taxonomy("naive").classes)}
    if unknown := [c for c in native.classes if c.lower() not in ids]:
        raise DataError(f"taxonomy {native.name!r}: classes {unknown[:5]} are not in the naive taxonomy")
    return build_remap(native.name, "naive", {i: ids[c.lower()] for i, c in enumerate(native.classes)})


def projection(source: Taxonomy, target: Taxonomy) -> npt.NDArray[np.float32]:
    """The linear map from probabilities in one taxonomy to scores in another.

    Applied after softmax and before argmax; columns of source classes that no target class receives are zero.

    Returns:
        (target classes, source classes) float32 of 0 and 1.

    Raises:
        DataError: no mapping between the two is known.
    """
    pairs: Iterable[tuple[int, int]]
    if source.digest == target.digest:
        return np.eye(source.num_classes, dtype=np.float32)
    if source.kind == "universal" and target.from_universal is not None:
        pairs = target.from_universal
    elif source.kind == "universal" and target.to_universal is not None:
        pairs = ((u, native) for native, u in enumerate(target.to_universal) if u != IGNORE_INDEX)
    elif source.kind == "naive":
        ids = {name: i for i, name in enumerate(source.classes)}
        pairs = ((ids[c.lower()], native) for native, c in enumerate(target.classes) if c.lower() in ids)
    else:
        advice = "evaluate on data with the classes the model was trained in, or train a universal model"
        raise DataError(f"predictions in taxonomy {source.name!r} cannot be scored in {target.name!r}; {advice}")
    matrix = np.zeros((target.num_classes, source.num_classes), np.float32)
    for predicted, scored in pairs:
        matrix[scored, predicted] = 1
    return matrix


def server_ids(name: str, *models: tuple[str, str]) -> npt.NDArray[np.uint8]:
    """By class of Cityscapes' 19, the id of the class of that name in another taxonomy, which a server wants.

    Args:
        name: of that taxonomy.
        models: name and digest of the taxonomy of each model.

    Raises:
        UsageError: one is not of Cityscapes' 19 classes.
    """
    own = load_taxonomy("cityscapes-19")
    if other := [model for model, digest in models if digest != own.digest]:
        raise UsageError(f"ids of {name} are made of the classes of cityscapes-19, not of {other[0]}; leave --ids out")
    return np.array([native_taxonomy(name).classes.index(c) for c in own.classes], np.uint8)


def counted_universal(native: Taxonomy) -> tuple[int, ...]:
    """Universal classes that count in a training dataset's mIoU: those some native class maps to."""
    return tuple(sorted(set(native.to_universal or ()) - {IGNORE_INDEX}))


def universal_ids(names: Sequence[str], *, at: str) -> tuple[int, ...]:
    """Ids of universal classes by name.

    Raises:
        DataError: a name that the universal taxonomy does not have; `at` says where it stood.
    """
    ids = _universal_ids()
    if unknown := [name for name in names if name not in ids]:
        raise DataError(f"{at}: {unknown[0]!r} is not a universal class; {did_you_mean(unknown[0], ids)}")
    return tuple(ids[name] for name in names)


def build_remap(source: str, target: str, pairs: dict[int, int]) -> Remap:
    """A look-up from (source id, target id) pairs; every id not named is unmapped, but 255 of 8-bit codings."""
    table = np.full(max(256, max(pairs) + 1), UNMAPPED, np.int32)
    if max(pairs) <= IGNORE_INDEX:  # an 8-bit coding: 255 is "no class" unless the release says otherwise
        table[IGNORE_INDEX] = IGNORE_INDEX
    table[list(pairs)] = list(pairs.values())
    return Remap(source=source, target=target, table=table)


def _naive() -> Taxonomy:
    classes = list(dict.fromkeys(c.lower() for name in TRAINING_TAXONOMIES for c in load_taxonomy(name).classes))
    classes.insert(IGNORE_INDEX, "")  # 255 means "ignored" in a label, so no class has it
    return Taxonomy(name="naive", kind="naive", classes=tuple(classes))


@functools.cache
def _universal_ids() -> dict[str, int]:
    return {row["name"]: i for i, row in enumerate(_table("universal")["classes"])}


@functools.cache
def _table(name: str) -> dict[str, Any]:
    """What is stated of a taxonomy or of the labels of a dataset; nothing if there is no such table."""
    folder = name.replace("-", "_")
    for path in (_HERE / "datasets" / folder / "classes.yaml", _HERE / "taxonomies" / f"{name}.yaml"):
        if _NAME.fullmatch(name) and path.is_file():
            return read_yaml(path)
    return {}
