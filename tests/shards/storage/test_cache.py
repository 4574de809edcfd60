import errno
import fcntl
import hashlib
import multiprocessing
import os
import pickle
import random
import signal
import threading
import time

import pytest

from segstream.shards.errors import DataError, UsageError
from segstream.shards.format.reader import open_shards
from segstream.shards.storage import cache as cache_module
from segstream.shards.storage.cache import CachedStore, ShardCache, cache_from_environment
from tests.shards.servers import serving


def blob(n, size=1000):
    data = random.Random(n).randbytes(size)
    return hashlib.sha256(data).hexdigest(), data


def put(cache, n, size=1000):
    sha256, data = blob(n, size)
    cache.fill(sha256, size, [data[:300], data[300:]])
    return sha256


def test_what_was_put_in_comes_out_and_wrong_content_is_refused_and_leaves_nothing(tmp_path):
    cache = ShardCache(tmp_path / "a" / "b", 10_000)
    sha256, data = blob(1)
    assert cache.read(sha256, 0, 10) is None
    for pieces in ([data[:999]], [data[:999], b"x"], [data, b"x"]):
        with pytest.raises(DataError, match="expected 1000"):
            cache.fill(sha256, 1000, pieces)
        assert not cache.holds(sha256)
        assert [path.name for path in cache.folder.iterdir()] == ["lock"]
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


def test_what_is_no_sha256_names_no_file_and_what_is_not_the_caches_stays(tmp_path):
    cache = ShardCache(tmp_path / "cache", 1500)
    for name in ("thesis.tar", "thesis.part"):
        (cache.folder / name).write_bytes(bytes(1000))
    for wrong in ("../../thesis", str(tmp_path / "thesis"), "", "A" * 64, f"{blob(1)[0]}\n"):
        for act in (lambda: cache.read(wrong, 0, 1), lambda: cache.holds(wrong), lambda: cache.fill(wrong, 1, [b"x"])):  # noqa: B023
            with pytest.raises(DataError, match="not a SHA-256"):
                act()
    put(cache, 1)
    assert cache.holds(put(cache, 2))
    assert {path.name for path in tmp_path.rglob("thesis*")} == {"thesis.tar", "thesis.part"}


def test_another_users_cache_is_read(ade, tmp_path, cheap, monkeypatch):
    """Its files may be read, but neither touched nor removed."""
    expected = open_shards(ade).read(0, "image")

    def refused(*_, **__):
        raise PermissionError(1, "Operation not permitted")

    with serving(ade) as server, open_shards(server.url, cache=ShardCache(tmp_path)) as shards:
        for _ in range(20):
            shards.read(0, "image")
        settled(shards)
        monkeypatch.setattr(os, "utime", refused)
        before = len(server.requests)
        assert shards.read(0, "image") == expected
        assert len(server.requests) == before
        monkeypatch.setattr(type(tmp_path), "unlink", refused)
        (file,) = tmp_path.glob("*.tar")
        file.write_bytes(bytes(file.stat().st_size))
        assert shards.read(0, "image") == expected


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
    monkeypatch.setenv("SEGSTREAM_CACHE", str(ade / "manifest.json" / "cache"))
    with pytest.raises(DataError, match=r"json/cache: cannot be created .*choose another SEGSTREAM_CACHE"):
        cache_from_environment()
    monkeypatch.setenv("SEGSTREAM_CACHE_BYTES", "lots")
    with pytest.raises(UsageError, match="SEGSTREAM_CACHE_BYTES=lots: not a size"):
        cache_from_environment()


@pytest.fixture
def cheap(monkeypatch):
    """Whole shards are fetched as soon as their bytes have been paid for."""
    monkeypatch.setattr(cache_module, "REQUEST_COST", 0)


@pytest.fixture
def cached(ade, tmp_path):
    """(the set `ade` behind a server and a cache, the server, the cache's folder)"""
    with serving(ade) as server, open_shards(server.url, cache=ShardCache(tmp_path / "cache")) as shards:
        yield shards, server, tmp_path / "cache"


def settled(shards):
    """Wait for what is being fetched."""
    for progress in shards._store._by_process.values():
        for thread in list(progress.threads.values()):
            thread.join(20)


def read_often(shards):
    """The first image, until its shard has been fetched."""
    images = {shards.read(0, "image") for _ in range(20)}
    settled(shards)
    (image,) = images
    return image


def test_ranges_come_first_and_whole_shards_behind_them(ade, cheap, cached):
    shards, server, folder = cached
    expected = [open_shards(ade).read(i, "image") for i in range(5)]
    assert isinstance(shards._store, CachedStore)
    assert shards.read(0, "image") == expected[0]
    assert server.requests[-1][2] != "bytes=0-10239"  # a range, no whole shard
    assert not list(folder.glob("*.tar"))
    read_often(shards)
    info = shards.manifest.shards[0]
    assert (folder / f"{info.sha256}.tar").read_bytes() == (ade / info.name).read_bytes()
    before = len(server.requests)
    assert [shards.read(i, "image") for i in (0, 1)] == expected[:2]
    assert pickle.loads(pickle.dumps(shards)).read(1, "image") == expected[1]
    assert all("shard-000000.tar" not in path for _, path, _ in server.requests[before:])


def test_a_few_reads_fetch_no_whole_shard(cached, monkeypatch):
    shards, _, folder = cached
    monkeypatch.setattr(cache_module, "REQUEST_COST", 10)
    for i in range(5):
        shards.read(i, "json")
    settled(shards)
    assert not list(folder.glob("*.tar"))


def test_damage_in_the_cache_is_mended_from_the_store(cheap, cached):
    shards, _, folder = cached
    expected = read_often(shards)
    (file,) = folder.glob("*.tar")
    for damage in (bytes(file.stat().st_size), b"", file.read_bytes()[:600]):
        file.write_bytes(damage)
        assert shards.read(0, "image") == expected
        assert not file.exists()


def test_a_cache_that_cannot_be_filled_costs_speed_alone(ade, cheap, cached, monkeypatch, caplog):
    def full(*args):
        raise OSError(28, "No space left on device")

    shards, _, folder = cached
    monkeypatch.setattr(os, "posix_fallocate", full)
    for _ in range(2):
        assert read_often(shards) == open_shards(ade).read(0, "image")
    assert "No space left" in caplog.text
    assert not list(folder.glob("*.[tp]ar*"))


def test_where_no_space_can_be_reserved_a_shard_is_kept_all_the_same(tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    cache = ShardCache(tmp_path)
    assert cache.holds(put(cache, 1))


def test_samples_come_while_whole_shards_are_on_their_way(ade, cheap, cached, monkeypatch):
    """Two shards at a time, in pieces; whoever waits for a sample waits for neither."""
    monkeypatch.setattr(cache_module, "PIECE", 4096)
    expected = [open_shards(ade).read(i, "image") for i in range(5)]
    go_on, pieces, started = threading.Event(), CachedStore._pieces, []

    def held(self, name, size, stop):
        started.append(name)
        go_on.wait(20)
        yield from pieces(self, name, size, stop)

    monkeypatch.setattr(CachedStore, "_pieces", held)
    shards, server, folder = cached
    for _ in range(20):
        assert [shards.read(i, "image") for i in range(5)] == expected
    assert sorted(started) == ["shard-000000.tar", "shard-000001.tar"]
    assert not list(folder.glob("*.tar"))
    before = len(server.requests)
    go_on.set()
    settled(shards)
    assert len(list(folder.glob("*.tar"))) == 2
    asked = [range_.removeprefix("bytes=").split("-") for _, _, range_ in server.requests[before:]]
    sizes = [int(stop) + 1 - int(start) for start, stop in asked]
    assert sum(sizes) == sum(info.bytes for info in shards.manifest.shards[:2])
    assert max(sizes) == 4096
    assert [shards.read(i, "image") for i in range(4)] == expected[:4]
    assert len(server.requests) == before + len(asked)
