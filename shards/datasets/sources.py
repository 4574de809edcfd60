"""What every source is made of: pairs of files, ways to find them, and the plain label coding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from segstream.shards.codecs.images import Picture, decode_ids, decode_picture
from segstream.shards.convert.relabel_records import Record
from segstream.shards.datasets.release import Raw
from segstream.shards.datasets.splits import stems
from segstream.shards.errors import DataError, UsageError, did_you_mean
from segstream.shards.format.keys import key_of
from segstream.shards.taxonomy import Remap, Taxonomy, load_taxonomy, native_taxonomy, release_remap

Ids = npt.NDArray[np.integer[Any]]
"""(H, W) release ids."""
Mask = npt.NDArray[np.bool_]
"""(H, W): the pixels of one segment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edits:
    """What relabelling is to do to one image."""

    raw: Raw
    file: str
    """Holds the image's segments; below `raw`."""
    image: str
    """As the records name it."""
    records: tuple[Record, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """An image and its label, both relative to the raw root."""

    key: str
    image: str
    label: str | None
    """None where the dataset has images only."""
    extra: Any = None
    """What else shapes the label, where the release keeps it outside the label file; as JSON can hold it."""
    edits: Edits | None = None
    """Records of relabelling, if there are any for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a raw folder holds of a split."""

    pairs: tuple[Pair, ...]
    """Either file of a pair may turn out to be missing; that is a fault of the sample."""
    absent: tuple[str, ...] = ()
    """Images that the release's own list names but the folder does not hold."""
    orphans: tuple[str, ...] = ()
    """Labels without an image, where the folder itself is the list."""


def label_folder(pair: Pair) -> str:
    """Name of the folder that directly holds the label file."""
    return (pair.label or "").rpartition("/")[0].rpartition("/")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Segments:
    """Where a dataset keeps the segments that records of relabelling name, as MSeg reads them."""

    strict: bool
    """A segment must be all of the record's original class; else it is overwritten whatever it holds."""
    masks: Callable[[bytes, Sequence[int], tuple[int, int]], Iterator[Mask]]
    """(file, segment ids, size of the label) -> the mask of each; empty where there is no such segment.

    Raises:
        UnreadableError: damaged.
    """
    files: Callable[[Raw, Sequence[Pair]], tuple[Raw, Mapping[str, str]]]
    """(raw release, pairs) -> where to look, and there the file of each pair, by key. It may turn out to be missing.

    Raises:
        DataError: a part of the release is missing that only relabelling needs.
    """
    least: int = 1
    """Pixels; segments that are smaller are not relabelled."""
    parent: Callable[[Pair], str] = label_folder
    """How the records call the folder of an image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """How to read one dataset as released. The functions are module-level ones, so a source pickles."""

    native: Taxonomy
    release: Remap | None
    """Ids of the label files -> native ids; None where the dataset has images only."""
    find: Callable[[Raw, str], Found]
    """(raw release, split) -> its pairs.

    Raises:
        DataError: a folder or list of the release is missing.
    """
    read_label: Callable[[bytes, Pair], Ids]
    """(label file, its pair) -> (H, W) release ids.

    Raises:
        UnreadableError: damaged, or not in the release's coding.
    """
    segments: Segments | None = None
    """None where the dataset was not relabelled."""
    read_image: Callable[[bytes], Picture] = decode_picture
    """Image file -> picture; one of its own where a release's pictures need repair.

    Raises:
        UnreadableError: damaged, or of a kind that is not read.
    """


def read_ids(data: bytes, pair: Pair) -> Ids:
    """Label coding of most releases: one channel, the values are ids."""
    return decode_ids(data)


def id_masks(ids: Ids, segments: Sequence[int]) -> Iterator[Mask]:
    """The pixels of each id, of a map that tells segments by their values."""
    return (ids == segment for segment in segments)


def label_files(raw: Raw, pairs: Sequence[Pair]) -> tuple[Raw, Mapping[str, str]]:
    """Where the label files themselves tell the segments."""
    return raw, {pair.key: pair.label or "" for pair in pairs}


def plain_source(name: str, find: Callable[[Raw, str], Found], *, segments: Segments | None = None) -> Source:
    """A source whose label files hold release ids as they are."""
    native = native_taxonomy(name)
    return Source(native=native, release=release_remap(name), find=find, read_label=read_ids, segments=segments)


def images_source(taxonomy: str, find: Callable[[Raw, str], Found]) -> Source:
    """A source of images without labels, to be predicted in the classes of a taxonomy."""
    return Source(native=load_taxonomy(taxonomy), release=None, find=find, read_label=read_ids)


def choose(options: Mapping[str, str], split: str, *, dataset: str) -> str:
    """The release's own word for a split.

    Raises:
        UsageError: the dataset has no such split.
    """
    if split not in options:
        raise UsageError(f"{dataset} has no split {split!r}; {did_you_mean(split, options)}")
    return options[split]


def folder(raw: Raw, path: str) -> str:
    """A folder that the release must hold.

    Raises:
        DataError: it does not.
    """
    if raw.has_folder(path):
        return path
    missing = f"{raw}/{path}" if raw.root.is_dir() else str(raw)
    packed = f"unpack {', '.join(raw.packed())}; " if raw.packed() else ""
    raise DataError(
        f"{missing}: no such folder; {packed}--raw must name the folder that holds {path}/ "
        f"(see `segstream datasets NAME`)"
    )


def pair_folders(
    raw: Raw, images: str, labels: str, *, image_end: str, label_end: str, label_stem: Callable[[str], str]
) -> Found:
    """Pair all images below one folder with the labels of another.

    Args:
        images: folder of the split's images; keys are paths below it.
        labels: folder of the split's labels.
        image_end: how image file names end, extension included.
        label_end: how label file names end.
        label_stem: image path below `images`, without its ending -> label path below `labels`, without its ending.
    """
    there = {f"{labels}/{path}" for path in raw.below(folder(raw, labels), label_end)}
    pairs = tuple(
        Pair(
            key=key_of(path),
            image=f"{images}/{path}",
            label=f"{labels}/{label_stem(path.removesuffix(image_end))}{label_end}",
        )
        for path in raw.below(folder(raw, images), image_end)
    )
    return Found(pairs=pairs, orphans=tuple(sorted(there - {p.label or "" for p in pairs})))


def pair_list(
    raw: Raw,
    dataset: str,
    split: str,
    *,
    image: Callable[[str], str],
    label: Callable[[str], str],
) -> Found:
    """Pair the images of a carried split list that the raw folder holds.

    Args:
        image: stem -> image path below the raw root.
        label: stem -> label path below the raw root.
    """
    pairs, absent = [], []
    for stem in stems(dataset, split):
        path = image(stem)
        if raw.has(path):
            pairs.append(Pair(key=key_of(path.rpartition("/")[2]), image=path, label=label(stem)))
        else:
            absent.append(path)
    return Found(pairs=tuple(pairs), absent=tuple(absent))
