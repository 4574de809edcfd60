"""Whole shards of remote sets kept in a local folder, up to a size; shared by any number of processes.

`ShardCache` is the folder; `CachedStore` is a remote store that answers from it where it can.
Files are named by their content (`SHA256.tar`), so nothing in the folder can be out of date, and sets, versions and
stores that hold the same shard share it. Everything here may be deleted at any time.
"""

import contextlib
import hashlib
import logging
import os
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from segstream.shards.errors import DataError, UsageError
from segstream.shards.files import PART, if_offered, lock, make_folder
from segstream.shards.storage.base import REQUEST_COST, Check, Store

FOLDER, BYTES = "SEGSTREAM_CACHE", "SEGSTREAM_CACHE_BYTES"  # environment variables
DEFAULT_BYTES = 20 * 10**9
PIECE = 8 << 20  # bytes of a shard in memory while it is fetched
NUM_FETCHES = 2  # whole shards on their way at a time, in one process
_NAMES = "[0-9a-f]" * 64  # what is named otherwise is not the cache's
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_log = logging.getLogger(__name__)


class ShardCache:
    """A folder of shards that never grows beyond `max_bytes`; the one unused for longest goes first."""

    def __init__(self, folder: Path, max_bytes: int = DEFAULT_BYTES):
        """Create the folder.

        Raises:
            DataError: the system refuses.
        """
        make_folder(folder, asked_by=FOLDER)
        self.folder, self.max_bytes = folder, max_bytes

    def read(self, sha256: str, start: int, length: int | None) -> bytes | None:
        """Bytes of a shard, fewer than `length` if it ends early; None if it is not here."""
        try:
            with self.path(sha256).open("rb") as file:
                with contextlib.suppress(OSError):  # another user's, or on a file system that is not written
                    os.utime(file.fileno())
                file.seek(start)
                return file.read(length)
        except OSError:
            return None

    def holds(self, sha256: str) -> bool:
        """The shard is here now."""
        return self.path(sha256).exists()

    def fill(self, sha256: str, size: int, pieces: Iterable[bytes]) -> bool:
        """Store a shard, unless it is here, another process is at it, or there is no room even without all others.

        It takes its name once it is complete and has its hash; the part of a killed process is overwritten or removed.

        Returns:
            The shard is here now.

        Raises:
            DataError: the pieces are not the shard.
            OSError: the disk refuses.
        """
        part = self.path(sha256).with_suffix(PART)
        with _held(part) as handle:
            if handle is None or self.holds(sha256) or not self._reserve(handle, part, size):
                return self.holds(sha256)
            digest = hashlib.sha256()
            at = 0
            for piece in pieces:
                digest.update(piece)
                at += os.pwrite(handle, piece, at)
            if at != size or digest.hexdigest() != sha256:
                raise DataError(f"{at} bytes with SHA-256 {digest.hexdigest()}, expected {size} with {sha256}")
            os.fsync(handle)
            part.replace(self.path(sha256))
            return True

    def path(self, sha256: str) -> Path:
        """Where a shard lies if it is here.

        Raises:
            DataError: that is no SHA-256.
        """
        if not re.fullmatch(_NAMES, sha256):
            raise DataError(f"{sha256[:200]!r}: not a SHA-256, so no shard of the cache; convert the set again")
        return self.folder / f"{sha256}.tar"

    def _reserve(self, handle: int, part: Path, size: int) -> bool:
        """Take `size` bytes for a part, removing what has gone unused for longest. One process at a time."""
        with (self.folder / "lock").open("wb") as file:
            lock(file.fileno(), wait=True)
            room = self.max_bytes - size
            for other in set(self.folder.glob(_NAMES + PART)) - {part}:
                with _held(other, create=False) as abandoned:
                    room -= 0 if abandoned is not None else _stat(other)[1]
            kept = sorted((*_stat(path), path) for path in self.folder.glob(f"{_NAMES}.tar"))
            used = sum(bytes_ for _, bytes_, _ in kept)
            if room < 0:
                return False
            for _, bytes_, path in kept:
                if used <= room:
                    break
                path.unlink(missing_ok=True)
                used -= bytes_
            os.ftruncate(handle, size)  # which others count, and which every file system offers
            with if_offered():
                os.posix_fallocate(handle, 0, size)
            return True


@dataclass(slots=True)
class _Progress:
    """What one process has read and is fetching."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    stop: threading.Event = field(default_factory=threading.Event)
    paid: dict[str, int] = field(default_factory=dict)
    """File -> what its range reads have cost so far, in bytes."""
    threads: dict[str, threading.Thread] = field(default_factory=dict)
    """File -> who fetches it whole."""


class CachedStore:
    """A remote store that answers from a cache where it can.

    Range reads of a shard that is not there go to the store at once, so the first batch waits for no whole shard.
    When they have cost as much as the whole shard would, it is fetched behind them: so reading a few samples never
    costs more than twice the best choice, and reading all of them soon comes from the local disk.
    """

    remote = True

    def __init__(self, store: Store, cache: ShardCache, shards: Mapping[str, tuple[str, int]]):
        """`shards`: file name -> (SHA-256, bytes), from the manifest."""
        self.url = store.url
        self._store, self._cache, self._shards = store, cache, dict(shards)
        self._by_process: dict[int, _Progress] = {}

    def __reduce__(self) -> tuple[object, ...]:
        return CachedStore, (self._store, self._cache, self._shards)

    def read(self, name: str, start: int = 0, length: int | None = None, *, check: Check | None = None) -> bytes:
        """See `Store.read`."""
        known = self._shards.get(name)
        if known is not None and (data := self._cache.read(known[0], start, length)) is not None:
            try:
                if len(data) != (known[1] - start if length is None else length):
                    raise DataError("cut short")
                if check is not None:
                    check(data)
                return data
            except DataError as error:
                _log.warning("%s/%s: the copy in the cache is refused (%s); fetched again", self.url, name, error)
                with contextlib.suppress(OSError):
                    self._cache.path(known[0]).unlink()
        data = self._store.read(name, start, length, check=check)
        if known is not None and length is not None:
            self._pay(name, length)
        return data

    def size(self, name: str) -> int | None:
        """See `Store.size`."""
        return self._store.size(name)

    def close(self) -> None:
        """Stop fetching and let go of connections; the store can be used again."""
        if mine := self._by_process.pop(os.getpid(), None):
            mine.stop.set()
            with mine.lock:
                threads = list(mine.threads.values())
            for thread in threads:
                thread.join(timeout=5)
        self._store.close()

    def _pay(self, name: str, length: int) -> None:
        size = self._shards[name][1]
        mine = self._by_process.setdefault(os.getpid(), _Progress())
        with mine.lock:
            mine.paid[name] = mine.paid.get(name, 0) + length + REQUEST_COST
            if (
                mine.paid[name] < size + REQUEST_COST
                or size > self._cache.max_bytes
                or name in mine.threads
                or len(mine.threads) >= NUM_FETCHES
            ):
                return
            thread = threading.Thread(target=self._fetch, args=(name, mine), name=f"fetch {name}", daemon=True)
            mine.threads[name] = thread
            thread.start()

    def _fetch(self, name: str, mine: _Progress) -> None:
        sha256, size = self._shards[name]
        try:
            self._cache.fill(sha256, size, self._pieces(name, size, mine.stop))
        except (DataError, OSError) as error:
            if not mine.stop.is_set():  # or the store was closed meanwhile
                _log.warning("%s/%s: not cached (%s); its samples are read one by one", self.url, name, error)
        finally:
            with mine.lock:
                mine.paid.pop(name, None)  # whatever happened, trying again has to be earned again
                mine.threads.pop(name, None)

    def _pieces(self, name: str, size: int, stop: threading.Event) -> Iterator[bytes]:
        for at in range(0, size, PIECE):
            if stop.is_set():
                return
            yield self._store.read(name, at, min(PIECE, size - at))


def cache_from_environment() -> ShardCache | None:
    """The cache that SEGSTREAM_CACHE (a folder) and SEGSTREAM_CACHE_BYTES (such as 200G) ask for; None if unset.

    Raises:
        UsageError: a size that is no size.
        DataError: the folder cannot be created.
    """
    folder = os.environ.get(FOLDER)
    if not folder:
        return None
    text = os.environ.get(BYTES) or str(DEFAULT_BYTES)
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?", text.strip().upper())
    if found is None:
        raise UsageError(f"{BYTES}={text}: not a size; write a number of bytes, or such as 500M or 200G")
    return ShardCache(Path(folder), int(float(found[1]) * _UNITS[found[2]]))


@contextlib.contextmanager
def _held(part: Path, *, create: bool = True) -> Iterator[int | None]:
    """Hold a part for the block and remove it after, unless it was renamed; None if another holds it.

    The lock dies with its process, so what a killed one left is held by nobody.
    """
    try:
        handle = os.open(part, os.O_RDWR | (os.O_CREAT if create else 0), 0o644)
    except FileNotFoundError:
        yield None
        return
    ours = False
    try:
        ours = lock(handle) and _same(handle, part)  # not if it was finished or removed between opening and locking
        yield handle if ours else None
    finally:
        if ours and _same(handle, part):
            part.unlink(missing_ok=True)
        os.close(handle)


def _same(handle: int, path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.fstat(handle).st_ino == path.stat().st_ino
    return False


def _stat(path: Path) -> tuple[int, int]:
    """(time of last use, bytes); zeros if it has just gone."""
    with contextlib.suppress(FileNotFoundError):
        found = path.stat()
        return found.st_mtime_ns, found.st_size
    return 0, 0
