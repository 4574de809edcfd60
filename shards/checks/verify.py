"""Every promise of a shard set, tested against its bytes: all faults are found and listed, by class of fault."""

from __future__ import annotations

import functools
import hashlib
import io
import tarfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from segstream.shards.checks.stats import label_taxonomies
from segstream.shards.codecs.images import UnreadableError, decode_ids, decode_picture
from segstream.shards.errors import DataError
from segstream.shards.format import manifest as manifests
from segstream.shards.format.index import Counts, Row, ShardIndex, index_name, load_index, member_suffix, merge_counts
from segstream.shards.format.manifest import Manifest, ShardInfo
from segstream.shards.format.reader import read_manifest
from segstream.shards.parallel import as_they_finish
from segstream.shards.schema import parse_json
from segstream.shards.storage.open import Store, open_store
from segstream.shards.taxonomy import IGNORE_INDEX, remap_label, universal_remap

FaultClass = Literal["manifest", "shard", "index", "checksum", "decode", "size", "label", "count"]
FAULT_CLASSES: tuple[FaultClass, ...] = (
    "manifest",  # missing, unreadable, or of another version
    "shard",  # missing, of another length or hash, not a tar
    "index",  # missing, unreadable, or at odds with the tar
    "checksum",  # a member's bytes
    "decode",  # an image, label or JSON that cannot be read
    "size",  # image, label and index do not agree on it
    "label",  # an id outside the taxonomy, or labels that contradict one another
    "count",  # class counts of index or manifest
)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Fault:
    """One broken promise."""

    kind: FaultClass
    where: str
    """File, and key of the sample."""
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
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


def verify(url: str | Path, *, workers: int = 1, progress: Callable[[int, int], None] | None = None) -> Report:
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
        return _report(store.url, 0, 0, [Fault(kind="manifest", where=manifests.NAME, what=str(error))])
    faults: list[Fault] = []
    indexes: dict[int, ShardIndex] = {}
    check = functools.partial(_check_shard, store, manifest)
    results = as_they_finish(check, manifest.shards, workers=workers, what=f"verify {store.url}")
    for done, (n, (index, found)) in enumerate(results, 1):
        faults += found
        if index is not None:
            indexes[n] = index
        if progress:
            progress(done, len(manifest.shards))
    ordered = [indexes[n] for n in sorted(indexes)]
    faults += _across_shards(manifest, ordered)
    return _report(store.url, len(ordered), sum(len(i.rows) for i in ordered), faults)


def _report(url: str, shards: int, samples: int, faults: list[Fault]) -> Report:
    by_kind: dict[FaultClass, list[Fault]] = defaultdict(list)
    for fault in sorted(faults):
        by_kind[fault.kind].append(fault)
    ordered = {kind: tuple(by_kind[kind]) for kind in FAULT_CLASSES if kind in by_kind}
    return Report(url=url, shards=shards, samples=samples, faults=ordered)


def _across_shards(manifest: Manifest, indexes: list[ShardIndex]) -> Iterator[Fault]:
    """What only all shards together can show."""
    if len(indexes) < len(manifest.shards):
        return  # the missing one is the fault
    if _plain(merge_counts([i.counts for i in indexes])) != _plain(manifest.counts):
        yield Fault(kind="count", where=manifests.NAME, what="class counts are not the sums of those of the shards")
    seen: dict[str, str] = {}
    for index in indexes:
        for row in index.rows:
            if row.key in seen:
                yield Fault(kind="index", where=f"{index.shard} {row.key}", what=f"key is also in {seen[row.key]}")
            seen[row.key] = index.shard


def _check_shard(store: Store, manifest: Manifest, info: ShardInfo) -> tuple[ShardIndex | None, list[Fault]]:
    faults: list[Fault] = []
    index: ShardIndex | None = None
    name = index_name(info.name)
    try:
        raw = _stored(store, name, info.index_sha256)
        if hashlib.sha256(raw).hexdigest() != info.index_sha256:
            faults.append(Fault(kind="index", where=name, what="is not the file that the manifest lists"))
        index = load_index(raw, where=name)
    except DataError as error:
        faults.append(Fault(kind="index", where=name, what=str(error)))
    try:
        data = _stored(store, info.name, info.sha256)
    except DataError as error:
        return index, [*faults, Fault(kind="shard", where=info.name, what=str(error))]
    if len(data) != info.bytes:
        what = f"{len(data)} bytes, the manifest says {info.bytes}"
        faults.append(Fault(kind="shard", where=info.name, what=what))
    elif hashlib.sha256(data).hexdigest() != info.sha256:
        faults.append(Fault(kind="shard", where=info.name, what="SHA-256 is not the manifest's"))
    if index is not None:
        faults += _check_index(info, index, data)
        faults += _check_samples(manifest, index, data)
    return index, faults


def _stored(store: Store, name: str, sha256: str) -> bytes:
    """A file as it lies in the store: with the hash that it should have, or else as two readings agree on it."""
    seen = {sha256}

    def check(data: bytes) -> None:
        found = hashlib.sha256(data).hexdigest()
        if found not in seen:
            seen.add(found)
            raise DataError(f"SHA-256 {found}, expected {sha256}")

    return store.read(name, check=check if store.remote else None)


def _check_index(info: ShardInfo, index: ShardIndex, data: bytes) -> Iterator[Fault]:
    """The index against the tar's own headers."""
    if (index.shard, index.bytes, index.sha256, len(index.rows)) != (info.name, info.bytes, info.sha256, info.samples):
        what = "disagrees with the manifest on the shard's name, length, hash or number of samples"
        yield Fault(kind="index", where=index_name(info.name), what=what)
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            inside = {member.name: (member.offset_data, member.size) for member in tar}
    except tarfile.TarError as error:
        yield Fault(kind="shard", where=info.name, what=f"not a whole tar file ({error})")
        return
    listed = {f"{r.key}.{s}": (span.offset, span.size) for r in index.rows for s, span in r.members.items()}
    for member in sorted(inside.keys() ^ listed.keys()):
        what = "is in the tar but not in the index" if member in inside else "is in the index but not in the tar"
        yield Fault(kind="index", where=f"{info.name} {member}", what=what)
    for member in sorted(inside.keys() & listed.keys()):
        if inside[member] != listed[member]:
            what = f"lies at (offset, size) {inside[member]}, the index says {listed[member]}"
            yield Fault(kind="index", where=f"{info.name} {member}", what=what)


def _check_samples(manifest: Manifest, index: ShardIndex, data: bytes) -> Iterator[Fault]:
    """Every member of every sample, and the shard's class counts."""
    counts: list[Counts] = []
    for row in index.rows:
        where = f"{index.shard} {row.key}"
        intact = {}
        for suffix, span in row.members.items():
            member = data[span.offset : span.offset + span.size]
            if len(member) != span.size or zlib.crc32(member) != span.crc32:
                yield Fault(kind="checksum", where=f"{where}.{suffix}", what="bytes do not have the index's CRC-32")
                continue
            intact[suffix] = member
            if span.blocks is not None and not span.blocks.fit(member, row.size_hw[0]):
                yield Fault(kind="index", where=f"{where}.{suffix}", what="blocks of rows are not those of its bytes")
        for member_name in manifest.members:
            if member_suffix(row.members, member_name) is None:
                yield Fault(kind="index", where=where, what=f"has no member {member_name!r}")
        yield from _check_image(row, intact, where)
        yield from _check_json(intact, where)
        labels: dict[str, Any] = {}
        yield from _read_labels(manifest, row, intact, where, labels)
        yield from _compare_labels(manifest, row, labels, where)
        counts.append({m: _histogram(label) for m, label in labels.items()})
    if _plain(merge_counts(counts)) != _plain(index.counts):
        yield Fault(kind="count", where=index_name(index.shard), what="class counts are not those of the labels")


def _check_image(row: Row, intact: Mapping[str, bytes], where: str) -> Iterator[Fault]:
    suffix = member_suffix(intact, "image")
    if suffix is None:
        return
    try:
        found = decode_picture(intact[suffix]).size_hw
    except UnreadableError as error:
        yield Fault(kind="decode", where=f"{where}.{suffix}", what=str(error))
        return
    if found != row.size_hw:
        yield Fault(kind="size", where=f"{where}.{suffix}", what=f"is {found}, the index says {row.size_hw}")


def _check_json(intact: Mapping[str, bytes], where: str) -> Iterator[Fault]:
    try:
        parse_json(intact.get("json", b"{}"))
    except ValueError as error:
        yield Fault(kind="decode", where=f"{where}.json", what=f"not JSON ({error})")


def _read_labels(
    manifest: Manifest, row: Row, intact: Mapping[str, bytes], where: str, labels: dict[str, Any]
) -> Iterator[Fault]:
    """Decode the label members into `labels`, each on its own merits."""
    for member, taxonomy in label_taxonomies(manifest).items():
        suffix = f"{member}.png"
        if suffix not in intact:
            continue
        try:
            label = decode_ids(intact[suffix])
        except UnreadableError as error:
            yield Fault(kind="decode", where=f"{where}.{suffix}", what=str(error))
            continue
        labels[member] = label
        if label.shape != row.size_hw:
            yield Fault(kind="size", where=f"{where}.{suffix}", what=f"is {label.shape}, the index says {row.size_hw}")
        strange = np.unique(label[(label >= taxonomy.num_classes) & (label != IGNORE_INDEX)])
        if strange.size:
            what = f"ids {strange[:8].tolist()} are outside the {taxonomy.num_classes} classes of {taxonomy.name}"
            yield Fault(kind="label", where=f"{where}.{suffix}", what=what)


def _compare_labels(manifest: Manifest, row: Row, labels: Mapping[str, Any], where: str) -> Iterator[Fault]:
    """Labels against the index and against one another."""
    if "native" not in labels:
        return
    if tuple(_histogram(labels["native"])) != row.classes:
        yield Fault(kind="count", where=where, what="classes present are not those that the index lists")
    if "universal" not in labels or labels["native"].shape != labels["universal"].shape:
        return
    try:
        mapped = remap_label(labels["native"], universal_remap(manifest.native), where=where)
    except DataError:
        return  # ids outside the taxonomy: said already
    if not np.array_equal(mapped, labels["universal"]):
        yield Fault(kind="label", where=f"{where}.universal.png", what="is not the native label in universal ids")


def _histogram(label: Any) -> dict[int, tuple[int, int]]:
    """Class id -> (pixels, 1), ascending, without the ignored."""
    pixels = np.bincount(label.ravel())
    return {i: (int(pixels[i]), 1) for i in np.flatnonzero(pixels).tolist() if i != IGNORE_INDEX}


def _plain(counts: Counts) -> dict[str, dict[int, tuple[int, int]]]:
    return {member: dict(by_id) for member, by_id in counts.items() if by_id}
