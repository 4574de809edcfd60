"""Centroids of a set that is converted: made beside its shards, which stay as they are."""

import functools
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from segstream.shards.codecs.labels import decode_ids
from segstream.shards.codecs.row_blocks import unpack_label
from segstream.shards.errors import DataError, UnreadableError, UsageError
from segstream.shards.files import sole_writer, writing
from segstream.shards.format import centroids as centroid_files
from segstream.shards.format.centroids import TILE, Summary, centroids_name
from segstream.shards.format.index import Entry
from segstream.shards.format.manifest import label_taxonomies
from segstream.shards.format.reader import ShardSet, open_shards
from segstream.shards.parallel import as_they_finish
from segstream.shards.schema import parse_json
from segstream.shards.storage.base import local_path
from segstream.shards.taxonomy import universal_remap

ADVICE = "make room, then run the same command again: finished shards are kept"
Made = dict[str, tuple[str, npt.NDArray[np.int64]]]
"""Label member -> SHA-256 of its file ("" if it has none), centroids by class."""


def add_centroids(
    url: str | Path, *, tile: int = TILE, workers: int = 1, progress: Callable[[int, int], None] | None = None
) -> None:
    """Make the centroids of a shard set, one shard after another; those that are there already are kept.

    Args:
        url: a folder; no other kind of URL can be written to.
        tile: side in source pixels.
        workers: processes.
        progress: called with (samples done, samples in all), from this thread.

    Raises:
        UsageError: a URL that is no folder's, a tile below 1, or a set without labels.
        DataError: the set is incomplete or damaged, or the system refuses to write.
    """
    folder = local_path(url)
    with open_shards(folder) as shards, sole_writer(folder):
        write_centroids(shards, folder, tile, workers, progress)


def write_centroids(
    shards: ShardSet, folder: Path, tile: int, workers: int, progress: Callable[[int, int], None] | None
) -> None:
    """As `add_centroids`, for who holds the folder already."""
    manifest, made = shards.manifest, dict[int, Made]()
    taxonomies = label_taxonomies(manifest)
    if tile < 1 or not taxonomies:
        raise UsageError(
            f"{folder}: no centroids of tiles of {tile} pixels and labels {', '.join(taxonomies) or 'none'}"
        )
    make = functools.partial(_of_shard, shards, folder, tile)
    for n, found in as_they_finish(make, range(len(manifest.shards)), workers=workers, what=f"centroids of {folder}"):
        made[n] = found
        if progress:
            progress(sum(shards.shard_sizes[i] for i in made), len(shards))
    of_member = {member: [made[n][member] for n in sorted(made)] for member in taxonomies}
    sha256 = {member: [file for file, _ in of_member[member]] for member in centroid_files.stored_members(manifest)}
    counts = {member: np.array([counted for _, counted in found]) for member, found in of_member.items()}
    with writing(folder / centroid_files.SUMMARY, advice=ADVICE) as file:
        file.write(centroid_files.dump_summary(manifest, Summary(tile, sha256, counts)))


def _of_shard(shards: ShardSet, folder: Path, tile: int, shard: int) -> Made:
    index, made = shards.index(shard), Made()
    classes = {member: taxonomy.num_classes for member, taxonomy in label_taxonomies(shards.manifest).items()}
    for member in centroid_files.stored_members(shards.manifest):
        path = folder / centroids_name(index.shard, member)
        try:
            data = path.read_bytes()
            found = centroid_files.load_centroids(data, index, member, tile)
        except (OSError, DataError):  # whatever it is, it is made again
            found = centroid_files.centroids_of(_labels(shards, shard, member), tile)
            data = centroid_files.dump_centroids(found, index, member, tile)
            with writing(path, advice=ADVICE) as file:
                file.write(data)
        made[member] = hashlib.sha256(data).hexdigest(), np.bincount(found.class_id, minlength=classes[member])
        if member == "native" and "universal" in classes:
            mapped = found.remap(universal_remap(shards.manifest.native).table)
            made["universal"] = "", np.bincount(mapped.class_id, minlength=classes["universal"])
    return made


def _labels(shards: ShardSet, shard: int, member: str) -> Iterator[tuple[npt.NDArray[np.uint8], tuple[int, int]]]:
    """Of a shard's samples: the label, and (height, width) of its source."""
    first = sum(shards.shard_sizes[:shard])
    for i, entry in enumerate(shards.index(shard).samples, start=first):
        try:
            height, width = parse_json(shards.read(i, "json"))["original_size_hw"]
            if not (entry.size_hw[0] <= height and entry.size_hw[1] <= width and height * width < 1 << 31):
                raise ValueError(f"original_size_hw is {height} x {width}, it is stored as {entry.size_hw}")
            yield _label(shards, i, entry, member), (height, width)
        except (UnreadableError, ValueError, KeyError, TypeError) as error:
            where = f"{shards.url}/{shards.manifest.shards[shard].name}: {entry.key}"
            raise DataError(f"{where}: {error}; run `segstream verify` on the set") from error


def _label(shards: ShardSet, i: int, entry: Entry, member: str) -> npt.NDArray[np.uint8]:
    rows = shards.read_rows(i, member, 0, entry.size_hw[0])
    label = None if rows is None else unpack_label(rows, entry.size_hw[1])
    label = decode_ids(shards.read(i, member)).astype(np.uint8) if label is None else label
    if label.shape != entry.size_hw:
        raise UnreadableError(f"{member} label is {label.shape}, the index says {entry.size_hw}")
    return label
