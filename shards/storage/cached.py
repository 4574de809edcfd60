"""A remote store with a `ShardCache` before it: ranges at first, whole shards behind them."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from segstream.shards.errors import DataError
from segstream.shards.storage.cache import ShardCache
from segstream.shards.storage.open import REQUEST_COST, Check, Store

PIECE = 8 << 20  # bytes of a shard in memory while it is fetched
NUM_FETCHES = 2  # whole shards on their way at a time, in one process
_log = logging.getLogger(__name__)


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
                _log.warning("%s/%s: damaged in the cache (%s); fetched again", self.url, name, error)
                self._cache.drop(known[0])
        data = self._store.read(name, start, length, check=check)
        if known is not None and length is not None:
            self._pay(name, length)
        return data

    def size(self, name: str) -> int | None:
        """See `Store.size`."""
        return self._store.size(name)

    def close(self) -> None:
        """Stop fetching and let go of connections; the store can be used again."""
        mine = self._by_process.pop(os.getpid(), None)
        if mine is not None:
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
        except _StoppedError:
            pass
        except (DataError, OSError) as error:
            _log.warning("%s/%s: not cached (%s); its samples are read one by one", self.url, name, error)
        finally:
            with mine.lock:
                mine.paid.pop(name, None)  # whatever happened, trying again has to be earned again
                mine.threads.pop(name, None)

    def _pieces(self, name: str, size: int, stop: threading.Event) -> Iterator[bytes]:
        for at in range(0, size, PIECE):
            if stop.is_set():
                raise _StoppedError
            yield self._store.read(name, at, min(PIECE, size - at))


class _StoppedError(Exception):
    """The store was closed while a shard was on its way."""
