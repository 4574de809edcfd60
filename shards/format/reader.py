"""Open a shard set by URL and read members of any sample by its byte range, every read verified by CRC-32."""

import bisect
import hashlib
import itertools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from zlib_ng import zlib_ng

from segstream.shards.codecs.row_blocks import EncodedRows
from segstream.shards.errors import DataError
from segstream.shards.format import manifest as manifests
from segstream.shards.format.centroids import SUMMARY, Centroids, Summary, centroids_name, load_centroids, load_summary
from segstream.shards.format.index import Entry, ShardIndex, index_name, load_index, member_suffix
from segstream.shards.format.manifest import Manifest
from segstream.shards.storage.base import REQUEST_COST, Store
from segstream.shards.storage.cache import CachedStore, ShardCache, cache_from_environment
from segstream.shards.storage.open import open_store

T = TypeVar("T")


class ShardSet(AbstractContextManager["ShardSet"]):
    """A complete shard set; samples are numbered in (shard, position) order. Threads may share it; it pickles."""

    def __init__(self, store: Store, manifest: Manifest):
        self.url = store.url
        self.manifest = manifest
        self.shard_sizes = tuple(s.samples for s in manifest.shards)
        self._store = store
        self._ends = tuple(itertools.accumulate(self.shard_sizes))
        self._indexes: dict[int, ShardIndex] = {}
        self._centroids: Summary | None = None

    def __len__(self) -> int:
        return self.manifest.samples

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Forget the indexes read so far and let go of connections; the set can be used again."""
        self._indexes.clear()
        self._centroids = None
        self._store.close()

    def index(self, shard: int) -> ShardIndex:
        """The index of a shard by its position, read once.

        Raises:
            DataError: it is missing or not the one the manifest lists.
        """
        if shard not in self._indexes:  # two threads may both read it; they find the same
            info = self.manifest.shards[shard]
            name = index_name(info.name)

            def check(data: bytes) -> None:
                if hashlib.sha256(data).hexdigest() != info.index_sha256:
                    raise DataError(f"{self.url}/{name}: not the index that the manifest lists; convert again")

            index = load_index(self._store.read(name, check=check), where=f"{self.url}/{name}")
            stated = (info.name, info.bytes, info.sha256, info.samples)
            if (found := (index.shard, index.bytes, index.sha256, len(index.samples))) != stated:
                raise DataError(f"{self.url}/{name}: is of shard {found}, the manifest lists {stated}; convert again")
            self._indexes[shard] = index
        return self._indexes[shard]

    def entry(self, i: int) -> Entry:
        """The sample with global number `i`.

        Raises:
            IndexError: outside 0..len-1.
        """
        return self._find(i)[1]

    def read(self, i: int, member: str) -> bytes:
        """A member's bytes: `image`, `native`, `universal`, `universal-relabeled` or `json`.

        Raises:
            DataError: the sample has no such member, or its bytes are missing, cut short or fail their checksum.
        """
        name, entry, suffix = self._member(i, member)
        span = entry.members[suffix]
        return self._pieces(name, span.offset, (span.size,), (span.crc32,), lambda _: f"{entry.key}.{suffix}")[0]

    def read_rows(self, i: int, member: str, top: int, bottom: int) -> EncodedRows | None:
        """The blocks of a member that hold rows top to bottom - 1, or None where only the whole can be had.

        Raises:
            DataError: as `read`; of a block that fails its checksum, which one.
        """
        name, entry, suffix = self._member(i, member)
        span, height = entry.members[suffix], entry.size_hw[0]
        if span.blocks is None or not 0 <= top < bottom <= height:
            return None
        blocks, offset = span.blocks, span.offset
        first, last = top // blocks.rows, -(-bottom // blocks.rows)

        def read(start: int, stop: int) -> list[bytes]:
            def what(n: int) -> str:
                return f"{entry.key}.{suffix}: {f'block {start + n - 1} of its rows' if start + n else 'its header'}"

            at = offset + sum(blocks.sizes[:start])
            return self._pieces(name, at, blocks.sizes[start:stop], blocks.crc32s[start:stop], what)

        between = sum(blocks.sizes[1 : 1 + first])  # from a remote store, cheaper read than asked for apart
        if between < (REQUEST_COST if self._store.remote else 1):
            head, *pieces = read(0, 1 + last)
            pieces = pieces[first:]
        else:
            head, *pieces = [*read(0, 1), *read(1 + first, 1 + last)]
        return EncodedRows(first * blocks.rows, min(last * blocks.rows, height), head, tuple(pieces))

    def centroids(self, shard: int, member: str) -> Centroids:
        """Where each class lies in each tile of a shard's labels; read anew each time.

        Args:
            shard: its position.
            member: `native`, `universal` or `universal-relabeled`.

        Raises:
            DataError: the set has no centroids, or not of this member; or they are damaged, or of another conversion.
        """
        counts, tile, index = self.centroid_counts(member)[shard], self._summary().tile, self.index(shard)
        return self._load(centroids_name(index.shard, member), lambda d: load_centroids(d, index, member, tile, counts))

    def centroid_counts(self, member: str) -> npt.NDArray[np.int64]:
        """(shards, classes) int64 centroids of a label member; those of a look-up that merges classes: count `remap`'s.

        Raises:
            DataError: as `centroids`.
        """
        counts = self._summary().counts
        if member not in counts:
            raise DataError(f"{self.url}: has no labels {member!r}; it holds {', '.join(counts) or 'images only'}")
        return counts[member]

    @property
    def centroids_digest(self) -> str:
        """Names all centroids of the set; raises as `centroids`."""
        return self._summary().digest

    def _summary(self) -> Summary:
        if self._centroids is None:
            self._centroids = self._load(SUMMARY, lambda data: load_summary(data, self.manifest))
        return self._centroids

    def _load(self, name: str, load: Callable[[bytes], T]) -> T:
        """What `load` makes of a file of centroids; errors name it and what makes it."""
        made: list[T] = []
        folder = "FOLDER" if self._store.remote else self.url
        advice = f"run `segstream stats {folder} --centroids`"

        def check(data: bytes) -> None:
            try:
                made.append(load(data))
            except DataError as error:
                raise DataError(f"{self.url}/{name}: {error}; {advice}") from error

        if self._store.size(name) is None:
            raise DataError(f"{self.url}/{name}: missing; {advice}")
        self._store.read(name, check=check)
        return made[-1]

    def _pieces(
        self, name: str, offset: int, sizes: Sequence[int], crc32s: Sequence[int], what: Callable[[int], str]
    ) -> list[bytes]:
        """Read neighbouring pieces of a shard, each checked; `what` names the n-th in an error."""
        ends = list(itertools.accumulate(sizes))

        def check(data: bytes) -> None:
            view = memoryview(data)
            for n, (end, size, crc32) in enumerate(zip(ends, sizes, crc32s, strict=True)):
                if zlib_ng.crc32(view[end - size : end]) != crc32:
                    where = f"{what(n)} fails its checksum (bytes {offset + end - size} to {offset + end})"
                    raise DataError(f"{self.url}/{name}: {where}; run the conversion again to rewrite this shard")

        data = self._store.read(name, offset, ends[-1], check=check)
        return [data[end - size : end] for end, size in zip(ends, sizes, strict=True)]

    def _member(self, i: int, member: str) -> tuple[str, Entry, str]:
        """A sample's shard, the sample, and the member's suffix."""
        name, entry = self._find(i)
        suffix = member_suffix(entry.members, member)
        if suffix is None:
            held = f"this set holds {', '.join(self.manifest.members)}"
            raise DataError(f"{self.url}/{name}: sample {entry.key!r} has no member {member!r}; {held}")
        return name, entry, suffix

    def _find(self, i: int) -> tuple[str, Entry]:
        """A sample's shard and the sample."""
        if not 0 <= i < len(self):
            raise IndexError(f"{self.url}: sample {i} of {len(self)}")
        shard = bisect.bisect_right(self._ends, i)
        start = self._ends[shard - 1] if shard else 0
        return self.manifest.shards[shard].name, self.index(shard).samples[i - start]


def open_shards(url: str | Path, *, cache: ShardCache | None = None) -> ShardSet:
    """Open the shard set of a path or URL (`.../DATASET/SPLIT`).

    Args:
        cache: keeps shards of remote sets; by default what SEGSTREAM_CACHE asks for.

    Raises:
        DataError: no manifest (the set is incomplete), another schema version, a shard missing or of another size.
        UsageError: a kind of URL that is not supported.
    """
    return open_set(open_store(url), cache or cache_from_environment())


def manifest_of(url: str | Path) -> manifests.Manifest:
    """The manifest of a path or URL; raises as `open_shards` does."""
    with open_shards(url) as shards:
        return shards.manifest


def open_set(store: Store, cache: ShardCache | None = None) -> ShardSet:
    """Open the shard set of a store; raises as `open_shards` does."""
    if store.size(manifests.NAME) is None:
        advice = "run the same `segstream shard` again, it resumes; or give the folder DATASET/SPLIT"
        raise DataError(f"{store.url}: incomplete: no {manifests.NAME} (it is written last); {advice}")
    manifest = manifests.load_manifest(read_manifest(store), where=f"{store.url}/{manifests.NAME}")
    for info in () if store.remote else manifest.shards:  # over a network, every read says so soon enough
        size = store.size(info.name)
        if size != info.bytes:
            found = "missing" if size is None else f"{size} bytes long, the manifest says {info.bytes}"
            raise DataError(f"{store.url}/{info.name}: {found}; run the same `segstream shard` again to mend it")
    if store.remote and cache is not None:
        store = CachedStore(store, cache, {info.name: (info.sha256, info.bytes) for info in manifest.shards})
    return ShardSet(store, manifest)


def read_manifest(store: Store) -> bytes:
    """The one file whose hash nothing else knows: from a remote store, what two readings agree on.

    Raises:
        DataError: it is missing, cannot be read, or does not settle.
    """
    data = store.read(manifests.NAME)
    return read_settled(store, manifests.NAME, hashlib.sha256(data).hexdigest()) if store.remote else data


def read_settled(store: Store, name: str, sha256: str) -> bytes:
    """A file as it lies in the store: of the hash it should have, or else, of a remote one, as two readings agree.

    Raises:
        DataError: as `read_manifest`.
    """
    seen = {sha256}

    def check(data: bytes) -> None:
        found = hashlib.sha256(data).hexdigest()
        if found not in seen:
            seen.add(found)
            raise DataError(f"SHA-256 {found}, expected {sha256}, or the same from two readings")

    return store.read(name, check=check if store.remote else None)
