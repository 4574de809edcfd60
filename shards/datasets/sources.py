"""What a dataset is to a conversion: which files form a pair, how to find them, and how their labels are coded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from segstream.shards.codecs.images import Picture, decode_picture
from segstream.shards.codecs.labels import decode_ids
from segstream.shards.datasets.release import Release
from segstream.shards.taxonomy import Remap, Taxonomy

Role = Literal["train", "test", "extra"]
Ids = npt.NDArray[np.integer[Any]]
"""(H, W) release ids."""
Mask = npt.NDArray[np.bool_]
"""(H, W): the pixels of one segment."""


class Record(NamedTuple):
    """An update record of MSeg: one segment and the universal class it becomes."""

    segment: int
    original: int
    """Universal id before, as the annotators saw it."""
    new: int
    """Universal id after; 255: unlabelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edits:
    """What relabelling is to do to one image."""

    release: Release
    file: str
    """Holds the image's segments; below `release`."""
    image: str
    """As the records name it."""
    records: tuple[Record, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """An image and its label, both relative to the release's root."""

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
    """What a release holds of a split."""

    pairs: tuple[Pair, ...] = ()
    """Either file of a pair may turn out to be missing; that is a fault of the sample."""
    absent: tuple[str, ...] = ()
    """Images that the release's own list names but the folder does not hold."""
    orphans: tuple[str, ...] = ()
    """Labels without an image, where the folder itself is the list."""
    notes: tuple[str, ...] = ()
    """What was not taken as it stands: files beside those that globs match, lines of a list that say the same again."""


Find = Callable[[Release, str], Found]
"""(release, split) -> its pairs.

Raises:
    DataError: a folder or list of the release is missing.
"""


def label_folder(pair: Pair) -> str:
    """Name of the folder that directly holds the label file."""
    return (pair.label or "").rpartition("/")[0].rpartition("/")[2]


def label_files(release: Release, pairs: Sequence[Pair], *, instead: tuple[str, str] = ("", "")) -> SegmentFiles:
    """The label files themselves, or those whose paths have the second of `instead` where theirs have the first."""
    return release, {pair.key: (pair.label or "").replace(*instead) for pair in pairs}


SegmentFiles = tuple[Release, Mapping[str, str]]
"""Where to look, and there the file of each pair, by key. It may turn out to be missing."""


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
    files: Callable[[Release, Sequence[Pair]], SegmentFiles] = label_files
    """(release, pairs) -> the files with their segments.

    Raises:
        DataError: a part of the release is missing that only relabelling needs.
    """
    least: int = 1
    """Pixels; segments that are smaller are not relabelled."""
    parent: Callable[[Pair], str] = label_folder
    """How the records call the folder of an image."""


def read_ids(data: bytes, pair: Pair) -> Ids:
    """Label coding of most releases: one channel, the values are ids."""
    return decode_ids(data)


def id_masks(
    data: bytes,
    segments: Sequence[int],
    size_hw: tuple[int, int],
    *,
    offset: int = 0,
    read: Callable[[bytes], Ids] = decode_ids,
) -> Iterator[Mask]:
    """The pixels of each segment in a file whose values are the segments' numbers, plus an offset."""
    ids = read(data)
    return (ids == segment + offset for segment in segments)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A dataset that can be converted: released, or your own by a YAML.

    The functions are module-level ones or partials of such, so that a dataset pickles.
    """

    name: str
    role: Role
    taxonomy: Taxonomy
    """Of its native labels."""
    splits: Mapping[str, int | None]
    """Images per split, where known beforehand."""
    optional: tuple[str, ...] = ()
    """Splits that are converted only if they are named, as most copies of the release lack them."""
    licence: str
    root: Path | None = None
    """Root of the release that the dataset itself states (own data only)."""
    remap: Remap | None
    """Ids of the label files -> native ids; None where the dataset has images only."""
    find: Find
    read_label: Callable[[bytes, Pair], Ids] = read_ids
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
