import fcntl
import hashlib
import multiprocessing
import os
import random
import signal
import time

import pytest

from segstream.shards.errors import DataError, UsageError
from segstream.shards.format.reader import open_shards
from segstream.shards.storage import cache as cache_module
from segstream.shards.storage.cache import ShardCache, cache_from_environment
from segstream.shards.storage.cached import CachedStore
from tests.shards.servers import serving


def blob(n, size=1000):
    data = random.Random(n).randbytes(size)
    return hashlib.sha256(data).hexdigest(), data


def put(cache, n, size=1000):
    sha256, data = blob(n, size)
    cache.fill(sha256, size, [data[:300], data[300:]])
    return sha256


def test_what_was_put_in_comes_out(tmp_path):
    cache = ShardCache(tmp_path / "a" / "b", 10_000)
    sha256, data = blob(1)
    assert cache.read(sha256, 0, 10) is None
    assert put(cache, 1) == sha256
    assert cache.read(sha256, 0, None) == data
    assert cache.read(sha256, 500, 100) == data[500:600]
    assert {path.name for path in cache.folder.iterdir()} == {f"{sha256}.tar", "lock"}


def test_the_longest_unused_goes_and_the_cap_holds(tmp_path):
    cache = ShardCache(tmp_path, 3500)
    keys = [put(cache, n) for n in range(3)]
    for n, key in enumerate(keys):
        os.utime(tmp_path / f"{key}.tar", (n, n))
    cache.read(keys[0], 0, 1)  # used just now
    keys.append(put(cache, 3))
    assert [cache.holds(key) for key in keys] == [True, False, True, True]
    keys.append(put(cache, 4, 2000))
    assert [cache.holds(key) for key in keys] == [False, False, False, True, True]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 3500
    assert put(cache, 5, 3501) not in {path.stem for path in tmp_path.iterdir()}
    assert cache.holds(keys[4])  # what cannot fit displaces nothing


def test_wrong_content_is_refused_and_leaves_nothing(tmp_path):
    cache = ShardCache(tmp_path, 10_000)
    sha256, data = blob(1)
    for pieces in ([data[:999]], [data[:999], b"x"], [data, b"x"]):
        with pytest.raises(DataError, match="expected 1000"):
            cache.fill(sha256, 1000, pieces)
        assert not cache.holds(sha256)
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_a_part_in_another_process_hands_counts_and_an_abandoned_one_goes(tmp_path):
    cache = ShardCache(tmp_path, 2500)
    first = put(cache, 1)
    part = tmp_path / f"{blob(2)[0]}.part"
    part.write_bytes(bytes(1000))
    with part.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert not cache.fill(blob(2)[0], 1000, [blob(2)[1]])  # that one is being fetched
        third = put(cache, 3)
        assert not cache.holds(first)  # 1000 in flight + 1000 new leave no room for it
        assert cache.holds(third)
        assert part.exists()
    put(cache, 4)
    assert cache.holds(third)
    assert not part.exists()


def fill_for_ever(folder, started):
    sha256, data = blob(1, 100_000)

    def slow():
        yield data[:50_000]
        started.set()
        time.sleep(60)

    ShardCache(folder, 10**6).fill(sha256, 100_000, slow())


def test_a_killed_process_leaves_nothing_that_counts(tmp_path):
    context = multiprocessing.get_context("fork")
    started = context.Event()
    child = context.Process(target=fill_for_ever, args=(tmp_path, started))
    child.start()
    assert started.wait(20)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    cache = ShardCache(tmp_path, 10**6)
    sha256, data = blob(1, 100_000)
    assert not cache.holds(sha256)
    assert cache.fill(sha256, 100_000, [data])
    assert cache.read(sha256, 0, None) == data


def churn(folder, seed, failures):
    cache, rng = ShardCache(folder, 5500), random.Random(seed)
    for _ in range(150):
        n = rng.randrange(12)
        sha256, data = blob(n)
        found = cache.read(sha256, 100, 200)
        if found is None:
            cache.fill(sha256, 1000, [data])
        elif found != data[100:300]:
            failures.put(n)
        if sum(cache_module._stat(path)[1] for path in folder.glob("*.*")) > 5500 + 1000:
            failures.put("too large")  # a file may be counted twice while it is renamed


def test_processes_may_share_a_folder(tmp_path):
    context = multiprocessing.get_context("fork")
    failures = context.SimpleQueue()
    children = [context.Process(target=churn, args=(tmp_path, seed, failures)) for seed in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0] * 4
    assert failures.empty()
    assert not list(tmp_path.glob("*.part"))
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 5500


def test_the_environment_asks_for_a_cache(ade, tmp_path, monkeypatch):
    monkeypatch.delenv("SEGSTREAM_CACHE", raising=False)
    assert cache_from_environment() is None
    monkeypatch.setenv("SEGSTREAM_CACHE", str(tmp_path / "c"))
    for text, expected in (("", 20 * 10**9), ("123", 123), ("1.5G", 1_500_000_000), ("2 TB", 2 * 10**12)):
        monkeypatch.setenv("SEGSTREAM_CACHE_BYTES", text)
        assert cache_from_environment().max_bytes == expected
    with serving(ade) as server, open_shards(server.url) as shards:
        assert shards._store._cache.folder == tmp_path / "c"
    assert not isinstance(open_shards(ade)._store, CachedStore)
    monkeypatch.setenv("SEGSTREAM_CACHE_BYTES", "lots")
    with pytest.raises(UsageError, match="SEGSTREAM_CACHE_BYTES=lots: not a size"):
        cache_from_environment()


def test_a_folder_that_cannot_be_names_the_variable(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SEGSTREAM_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(DataError, match=r"file/cache: cannot be created .*choose another SEGSTREAM_CACHE"):
        cache_from_environment()
