"""Where each class lies in each tile of each label: facts of a set in files of their own, beside its indexes.

A tile has `tile` x `tile` pixels of the source; of a label that is stored smaller, the stored pixels whose source
pixels (as `images.resize_label` takes them) lie in it. Tiles are numbered row by row. What is left at the right and the
bottom, and an image smaller than a tile, is a tile of its own (NVIDIA's class-uniform sampling leaves such pixels out).

`shard-000000.native.centroids`, one file a shard and label member, is a line of JSON (version, shard and its SHA-256,
label member, tile, SHA-256 of what follows) and then six columns of 32 bits, little-endian: class, sample, tile, x, y
(floats), pixels; sorted by class, sample and tile. `centroids.json` is written last: it names the manifest by its
digest, counts centroids by label member, shard and class, and carries a digest of itself.
"""

import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from segstream.shards.errors import DataError
from segstream.shards.files import sole_writer, write_bytes
from segstream.shards.format.index import ShardIndex
from segstream.shards.format.manifest import Manifest, label_taxonomies
from segstream.shards.parallel import as_they_finish, in_order
from segstream.shards.schema import parse_json, shown
from segstream.shards.storage.base import local_path
from segstream.shards.taxonomy import IGNORE_INDEX, universal_remap

if TYPE_CHECKING:
    from segstream.shards.format.reader import ShardSet

VERSION = 1
SUMMARY = "centroids.json"
TILE = 1024  # source pixels
_Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Centroids:
    """Of one shard and label member, one for each class in each tile, sorted by (class_id, sample, tile)."""

    class_id: npt.NDArray[np.int32]
    """(N,) int32."""
    sample: npt.NDArray[np.int32]
    """(N,) int32, position in the shard."""
    tile: npt.NDArray[np.int32]
    """(N,) int32, number within the image."""
    xy: npt.NDArray[np.float32]
    """(N, 2) float32 centre of mass in stored pixels, whose centres are at whole numbers."""
    pixels: npt.NDArray[np.int64]
    """(N,) int64 stored pixels of that class in that tile."""

    def remap(self, table: npt.NDArray[np.int32]) -> "Centroids":
        """Those of the labels that a look-up makes of these, classes that become one merged by their pixels.

        Args:
            table: (ids,) id -> new id; centroids of what becomes 255 or is below 0 are left out.
        """
        class_id = table[self.class_id]
        kept = (class_id >= 0) & (class_id != IGNORE_INDEX)
        return _merged(class_id[kept], self.sample[kept], self.tile[kept], self.xy[kept], self.pixels[kept])


class Summary(NamedTuple):
    """What `centroids.json` says of a whole set."""

    tile: int
    """Source pixels."""
    counts: Mapping[str, npt.NDArray[np.int64]]
    """Label member -> (shards, classes) int64 centroids."""
    digest: str
    """SHA-256 of the rest: labels and tile make the centroids, so of them, too."""


def centroids_name(shard: str, member: str) -> str:
    """`shard-000000.tar` -> `shard-000000.native.centroids`."""
    return f"{shard.removesuffix('.tar')}.{member}.centroids"


def centroids_of(labels: Iterable[tuple[npt.NDArray[np.uint8], tuple[int, int]]], tile: int) -> Centroids:
    """Centroids of a shard's labels.

    Args:
        labels: (label (h, w) uint8, 255 ignored; (height, width) of its source), one or more, in the shard's order.
        tile: side in source pixels.
    """
    parts = [_of_label(n, label, source_hw, tile) for n, (label, source_hw) in enumerate(labels)]
    return _merged(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _of_label(sample: int, label: _Array, source_hw: tuple[int, int], tile: int) -> tuple[_Array, ...]:
    """By runs of equal ids along the rows: a tenth of the time of counting pixel by pixel."""
    rows, columns = (np.arange(n) * source // (n * tile) for n, source in zip(label.shape, source_hw, strict=True))
    begins = np.ones(label.shape, bool)
    np.not_equal(label[:, 1:], label[:, :-1], out=begins[:, 1:])
    begins[:, np.diff(columns, prepend=-1) > 0] = True
    start = np.flatnonzero(begins)
    length = np.diff(start, append=label.size)
    y, x = np.divmod(start, label.shape[1])
    cell = (rows[y] * -(-source_hw[1] // tile) + columns[x]) << 8 | label[y, x]
    pixels = np.bincount(cell, length)
    found = np.flatnonzero(pixels)
    found = found[found & 255 != IGNORE_INDEX]
    moments = [np.bincount(cell, length * place)[found] for place in (x + (length - 1) / 2, y)]
    xy = np.stack(moments, axis=1) / pixels[found, None]
    return found & 255, np.full(len(found), sample), found >> 8, xy, pixels[found].astype(np.int64)


def _merged(class_id: _Array, sample: _Array, tile: _Array, xy: _Array, pixels: _Array) -> Centroids:
    """Sorted, those of one class, sample and tile as one."""
    order = np.lexsort((tile, sample, class_id))
    keys = np.stack((class_id, sample, tile)).astype(np.int32)[:, order]
    first = np.flatnonzero(np.diff(keys, axis=1, prepend=-1).any(0))
    total, moments = (np.add.reduceat(a[order], first) for a in (pixels, xy * pixels[:, None]))
    class_id, sample, tile = keys[:, first]
    return Centroids(class_id, sample, tile, (moments / total[:, None]).astype(np.float32), total)


def dump_centroids(found: Centroids, index: ShardIndex, member: str, tile: int) -> bytes:
    """A file's bytes."""
    columns = np.stack((found.class_id, found.sample, found.tile, *found.xy.T.view(np.int32), found.pixels))
    return _with_head(columns.astype("<i4").tobytes(), index, member, tile)


def _with_head(body: bytes, index: ShardIndex, member: str, tile: int) -> bytes:
    said = {"version": VERSION, "shard": index.shard, "sha256": index.sha256, "member": member, "tile": tile}
    return json.dumps(said | {"content": hashlib.sha256(body).hexdigest()}).encode() + b"\n" + body


def load_centroids(data: bytes, index: ShardIndex, member: str, tile: int, counts: _Array | None = None) -> Centroids:
    """Read a file's bytes.

    Args:
        counts: (classes,) centroids that there should be, if that is known.

    Raises:
        DataError: changed since written, of another shard, member, version or tile, or not of the index's labels.
    """
    body = data.partition(b"\n")[2]
    if data != _with_head(body, index, member, tile) or len(body) % 24:
        raise DataError(f"damaged, or not version {VERSION} of tiles of {tile} pixels of shard {index.sha256}")
    columns = np.frombuffer(body, "<i4").reshape(6, -1)
    class_id, sample, tile_id, _, _, pixels = columns.astype(np.int64)
    xy, last_xy = columns[3:5].view("<f4").T, np.array([e.size_hw[::-1] for e in index.samples]).reshape(-1, 2) - 1
    fits = (columns[[0, 1, 2, 5]] >= 0).all() and class_id.max(initial=0) < 256 and sample.max(initial=0) < len(last_xy)
    if fits:
        counted, wanted = np.bincount(class_id, pixels).tolist(), index.counts.get(member, {}).items()
        fits = {i: n for i, n in enumerate(counted) if n} == {i: n for i, (n, _) in wanted} and pixels.all()
        fits &= ((xy >= 0) & (xy <= last_xy[sample])).all()
        fits &= (np.diff(((class_id << 22) + sample << 31) + tile_id) > 0).all()
        fits &= counts is None or np.array_equal(np.bincount(class_id, minlength=len(counts)), counts)
    if not fits:
        raise DataError(f"numbers that {member} labels of {index.shard} cannot have, other counts, or another order")
    numbers = columns[:3].astype(np.int32)
    return Centroids(numbers[0], numbers[1], numbers[2], xy.astype(np.float32), pixels)


def dump_summary(manifest: Manifest, tile: int, counts: Mapping[str, npt.NDArray[np.int64]]) -> bytes:
    """The summary as JSON."""
    rows = {member: found.tolist() for member, found in counts.items()}
    said = {"version": VERSION, "manifest": manifest.digest, "tile": tile, "counts": rows}
    return json.dumps(said | {"digest": hashlib.sha256(json.dumps(said).encode()).hexdigest()}).encode() + b"\n"


def load_summary(data: bytes, manifest: Manifest) -> Summary:
    """Read a summary's bytes.

    Raises:
        DataError: it is none, of another version, changed since, or of another set than the manifest's.
    """
    try:
        raw, counts, shards = parse_json(data), dict[str, npt.NDArray[np.int64]](), len(manifest.shards)
        if raw["manifest"] != manifest.digest:
            raise DataError(f"of set {shown(raw['manifest'])}, which is {manifest.digest} now: it was converted again")
        # numbers of another kind or shape give other bytes below
        for m, taxonomy in label_taxonomies(manifest).items():
            counts[m] = np.array(raw["counts"][m], np.uint32).astype(np.int64).reshape(shards, taxonomy.num_classes)
        if type(raw["tile"]) is not int or raw["tile"] < 1 or dump_summary(manifest, raw["tile"], counts) != data:
            raise ValueError(f"changed since it was written, or not of version {VERSION}")
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise DataError(f"not a summary of the set's centroids: {error!r}") from error
    return Summary(raw["tile"], counts, raw["digest"])


def add_centroids(
    url: str | Path, *, tile: int = TILE, workers: int = 1, progress: Callable[[int, int], None] | None = None
) -> None:
    """Make the centroids of a shard set that is converted; shards that have them already keep them.

    Args:
        url: a folder; no other kind of URL can be written to.
        tile: side in source pixels.
        workers: processes.
        progress: called with (samples done, samples in all), from this thread.

    Raises:
        UsageError: a URL that is no folder's.
        DataError: the set is incomplete, or damaged, or the system refuses to write.
    """
    from segstream.shards.format.reader import open_shards

    folder = local_path(url)
    with open_shards(folder) as shards, sole_writer(folder):
        members, numbers = label_taxonomies(shards.manifest), range(len(shards.shard_sizes))
        make = functools.partial(_add_to_shard, shards, folder, tile)
        results = as_they_finish(make, numbers, workers=workers, what=f"centroids of {url}")
        made = in_order(results, shards.shard_sizes, progress)
        total = {member: np.stack([counts[member] for counts in made]) for member in members}
        write_bytes(folder / SUMMARY, dump_summary(shards.manifest, tile, total), durable=True)


def _add_to_shard(shards: "ShardSet", folder: Path, tile: int, shard: int) -> dict[str, npt.NDArray[np.int64]]:
    """Centroids by label member and class."""
    index, found, counts = shards.index(shard), dict[str, Centroids](), dict[str, npt.NDArray[np.int64]]()
    for member, taxonomy in label_taxonomies(shards.manifest).items():
        path = folder / centroids_name(index.shard, member)
        try:
            found[member] = load_centroids(path.read_bytes(), index, member, tile)
        except (OSError, DataError):  # whatever it is, it is made again
            if member == "universal" and "native" in found:
                found[member] = found["native"].remap(universal_remap(shards.manifest.native).table)
            else:
                found[member] = centroids_of(_labels(shards, shard, member), tile)
            write_bytes(path, dump_centroids(found[member], index, member, tile), durable=True)
        counts[member] = np.bincount(found[member].class_id, minlength=taxonomy.num_classes)[: taxonomy.num_classes]
    return counts


def _labels(shards: "ShardSet", shard: int, member: str) -> Iterator[tuple[npt.NDArray[np.uint8], tuple[int, int]]]:
    """Of a shard's samples: the label, and (height, width) of its source."""
    for i, entry in enumerate(shards.index(shard).samples, start=sum(shards.shard_sizes[:shard])):
        label: Any = cv2.imdecode(np.frombuffer(shards.read(i, member), np.uint8), cv2.IMREAD_UNCHANGED)
        try:
            height, width = parse_json(shards.read(i, "json"))["original_size_hw"]
            fits = label.dtype == np.uint8 and (label.shape == entry.size_hw) and type(height) is type(width) is int
            fits &= entry.size_hw[0] <= height and entry.size_hw[1] <= width and height * width < 1 << 31
        except (ValueError, KeyError, TypeError, AttributeError):
            fits = False
        if not fits:
            where = f"{shards.url}/{shards.manifest.shards[shard].name}: {entry.key}"
            raise DataError(f"{where}: {member} label, stored and original size do not fit; run `segstream verify`")
        yield label, (height, width)
