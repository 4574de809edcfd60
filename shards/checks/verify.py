"""Every promise of a shard set, tested against its bytes: all faults are found and listed, by class of fault."""

import contextlib
import functools
import hashlib
import io
import itertools
import tarfile
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from segstream.shards.codecs.images import decode_picture
from segstream.shards.codecs.labels import decode_ids
from segstream.shards.errors import DataError, UnreadableError
from segstream.shards.format import index as index_file
from segstream.shards.format import manifest as manifests
from segstream.shards.format.centroids import SUMMARY
from segstream.shards.format.index import Entry, ShardIndex, index_name, member_suffix, merge_counts
from segstream.shards.format.manifest import Manifest, ShardInfo, label_taxonomies
from segstream.shards.format.reader import ShardSet, read_manifest, read_settled
from segstream.shards.parallel import as_they_finish, in_order
from segstream.shards.schema import parse_json
from segstream.shards.storage.base import Store
from segstream.shards.storage.open import open_store
from segstream.shards.taxonomy import IGNORE_INDEX, remap_label, universal_remap

FaultClass = Literal["manifest", "shard", "index", "checksum", "decode", "size", "label", "count", "centroids"]
"""What is broken.

    manifest   missing, unreadable, or of another version
    shard      missing, of another length or hash, not a tar
    index      missing, unreadable, or at odds with the tar
    checksum   a member's bytes
    decode     an image, label or JSON that cannot be read
    size       image, label and index do not agree on it
    label      an id outside the taxonomy, or labels that contradict one another
    count      class counts of index or manifest
    centroids  where there are any: a file missing, unreadable, or of another conversion
"""
FAULT_CLASSES: tuple[FaultClass, ...] = get_args(FaultClass)


class Fault(NamedTuple):
    """One broken promise."""

    kind: FaultClass
    where: str
    """File, and key of the sample."""
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyResult:
    """What was checked and what is wrong."""

    url: str
    shards: int
    samples: int
    faults: Mapping[FaultClass, tuple[Fault, ...]]
    """By class, in the order of `FAULT_CLASSES`; empty if all is well."""

    @property
    def ok(self) -> bool:
        """Nothing is wrong."""
        return not self.faults


def verify(url: str | Path, *, workers: int = 1, progress: Callable[[int, int], None] | None = None) -> VerifyResult:
    """Check hashes, indexes, checksums, decodability, sizes, label values and class counts of a whole set.

    Args:
        progress: called with (shards done, shards in all).

    Raises:
        UsageError, DataError: the URL is not one of a folder at all.
    """
    store = open_store(url)
    try:
        if store.size(manifests.NAME) is None:
            raise DataError(f"incomplete: there is no {manifests.NAME}, which is written last")
        manifest = manifests.load_manifest(read_manifest(store), where=manifests.NAME)
    except DataError as error:
        return _result(store.url, [], [Fault("manifest", manifests.NAME, str(error))])
    check = functools.partial(_check_shard, store, manifest)
    results = as_they_finish(check, manifest.shards, workers=workers, what=f"verify {store.url}")
    checked = in_order(results, [1] * len(manifest.shards), progress)
    indexes = [index for index, _ in checked if index is not None]
    faults = [fault for _, found in checked for fault in found]
    if len(indexes) == len(manifest.shards):  # or the missing one is the fault
        faults += _across_shards(manifest, indexes)
    if store.size(SUMMARY) is not None:
        faults += {*_check_centroids(store, manifest)}
    return _result(store.url, indexes, faults)


def _result(url: str, indexes: Sequence[ShardIndex], faults: Sequence[Fault]) -> VerifyResult:
    by_kind = {kind: tuple(sorted(f for f in faults if f.kind == kind)) for kind in FAULT_CLASSES}
    found = {kind: some for kind, some in by_kind.items() if some}
    return VerifyResult(url=url, shards=len(indexes), samples=sum(len(i.samples) for i in indexes), faults=found)


def _check_centroids(store: Store, manifest: Manifest) -> Iterator[Fault]:
    """Centroids against their summary and the indexes."""
    shards = ShardSet(store, manifest)
    for n, member in itertools.product(range(len(manifest.shards)), label_taxonomies(manifest)):
        try:
            shards.centroids(n, member)
        except DataError as error:
            where, _, what = str(error).removeprefix(f"{store.url}/").partition(": ")
            yield Fault("centroids", where, what)


def _across_shards(manifest: Manifest, indexes: list[ShardIndex]) -> Iterator[Fault]:
    """What only all shards together can show."""
    if merge_counts(i.counts for i in indexes) != merge_counts([manifest.counts]):
        yield Fault("count", manifests.NAME, "class counts are not the sums of those of the shards")
    seen: dict[str, str] = {}
    for shard, key in ((index.shard, entry.key) for index in indexes for entry in index.samples):
        if key in seen:
            yield Fault("index", f"{shard} {key}", f"key is also in {seen[key]}")
        seen[key] = shard


def _check_shard(store: Store, manifest: Manifest, info: ShardInfo) -> tuple[ShardIndex | None, list[Fault]]:
    faults: list[Fault] = []
    index: ShardIndex | None = None
    name = index_name(info.name)
    try:
        raw = read_settled(store, name, info.index_sha256)
        if hashlib.sha256(raw).hexdigest() != info.index_sha256:
            faults.append(Fault("index", name, "is not the file that the manifest lists"))
        index = index_file.load_index(raw, where=name)
    except DataError as error:
        faults.append(Fault("index", name, str(error)))
    try:
        data = read_settled(store, info.name, info.sha256)
    except DataError as error:
        return index, [*faults, Fault("shard", info.name, str(error))]
    if len(data) != info.bytes:
        faults.append(Fault("shard", info.name, f"{len(data)} bytes, the manifest says {info.bytes}"))
    elif hashlib.sha256(data).hexdigest() != info.sha256:
        faults.append(Fault("shard", info.name, "SHA-256 is not the manifest's"))
    if index is not None:
        faults += [*_check_index(info, index, data), *_check_samples(manifest, index, data)]
    return index, faults


def _check_index(info: ShardInfo, index: ShardIndex, data: bytes) -> Iterator[Fault]:
    """The index against the tar's own headers."""
    says = (index.shard, index.bytes, index.sha256, len(index.samples))
    if says != (info.name, info.bytes, info.sha256, info.samples):
        what = "disagrees with the manifest on the shard's name, length, hash or number of samples"
        yield Fault("index", index_name(info.name), what)
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            inside = {member.name: (member.offset_data, member.size) for member in tar}
    except tarfile.TarError as error:
        yield Fault("shard", info.name, f"not a whole tar file ({error})")
        return
    listed = {f"{e.key}.{s}": (span.offset, span.size) for e in index.samples for s, span in e.members.items()}
    for member in {name for name, _ in inside.items() ^ listed.items()}:
        what = f"lies at (offset, size) {inside.get(member)}, the index says {listed.get(member)}"
        if member not in listed or member not in inside:
            what = "is in the index but not in the tar" if member in listed else "is in the tar but not in the index"
        yield Fault("index", f"{info.name} {member}", what)


def _check_samples(manifest: Manifest, index: ShardIndex, data: bytes) -> Iterator[Fault]:
    """Every member of every sample, and the shard's class counts."""
    counts = []
    for entry in index.samples:
        where = f"{index.shard} {entry.key}"
        intact: dict[str, bytes] = {}
        for suffix, span in entry.members.items():
            member = data[span.offset : span.offset + span.size]
            if len(member) != span.size or zlib.crc32(member) != span.crc32:
                yield Fault("checksum", f"{where}.{suffix}", "bytes do not have the index's CRC-32")
                continue
            intact[suffix] = member
            if span.blocks is not None and not span.blocks.fit(member, entry.size_hw[0]):
                yield Fault("index", f"{where}.{suffix}", "blocks of rows are not those of its bytes")
        for name in manifest.members:
            if member_suffix(entry.members, name) is None:
                yield Fault("index", where, f"has no member {name!r}")
        labels = yield from _check_members(manifest, entry, intact, where)
        yield from _compare_labels(manifest, entry, labels, where)
        counts.append({m: _histogram(label) for m, label in labels.items()})
    if merge_counts(counts) != merge_counts([index.counts]):
        yield Fault("count", index_name(index.shard), "class counts are not those of the labels")


def _check_members(
    manifest: Manifest, entry: Entry, intact: Mapping[str, bytes], where: str
) -> Generator[Fault, None, dict[str, Any]]:
    """Decode the members, each on its own merits; returns the labels by member."""
    labels: dict[str, Any] = {}
    taxonomies = label_taxonomies(manifest)
    for suffix, data in intact.items():
        member, size_hw = suffix.removesuffix(".png"), entry.size_hw
        try:
            if suffix == "json":
                parse_json(data)
            elif suffix in index_file.IMAGE_SUFFIXES:
                size_hw = decode_picture(data).size_hw
            elif member in taxonomies:
                labels[member] = decode_ids(data)
                size_hw = labels[member].shape
        except (UnreadableError, ValueError) as error:
            yield Fault("decode", f"{where}.{suffix}", f"not JSON ({error})" if suffix == "json" else str(error))
            continue
        if size_hw != entry.size_hw:
            yield Fault("size", f"{where}.{suffix}", f"is {size_hw}, the index says {entry.size_hw}")
        if member in labels:
            label, taxonomy = labels[member], taxonomies[member]
            strange = np.unique(label[(label >= taxonomy.num_classes) & (label != IGNORE_INDEX)])
            if strange.size:
                what = f"ids {strange[:8].tolist()} are outside the {taxonomy.num_classes} classes of {taxonomy.name}"
                yield Fault("label", f"{where}.{suffix}", what)
    return labels


def _compare_labels(manifest: Manifest, entry: Entry, labels: Mapping[str, Any], where: str) -> Iterator[Fault]:
    """Labels against the index and against one another."""
    if "native" not in labels:
        return
    if tuple(_histogram(labels["native"])) != entry.classes:
        yield Fault("count", where, "classes present are not those that the index lists")
    if "universal" not in labels or labels["native"].shape != labels["universal"].shape:
        return
    with contextlib.suppress(DataError):  # ids outside the taxonomy: said already
        mapped = remap_label(labels["native"], universal_remap(manifest.native), where=where)
        if not np.array_equal(mapped, labels["universal"]):
            yield Fault("label", f"{where}.universal.png", "is not the native label in universal ids")


def _histogram(label: Any) -> dict[int, tuple[int, int]]:
    """Class id -> (pixels, 1), ascending, without the ignored."""
    pixels = np.bincount(label.ravel())
    return {i: (int(pixels[i]), 1) for i in np.flatnonzero(pixels).tolist() if i != IGNORE_INDEX}
