import os
import pickle
import threading

import pytest

from segstream.shards.format.reader import open_shards
from segstream.shards.storage import cached
from segstream.shards.storage.cache import ShardCache
from segstream.shards.storage.cached import CachedStore
from tests.shards.servers import serving


@pytest.fixture
def cheap(monkeypatch):
    """Whole shards are fetched as soon as their bytes have been paid for."""
    monkeypatch.setattr(cached, "REQUEST_COST", 0)


def settled(shards):
    """Wait for what is being fetched."""
    for progress in shards._store._by_process.values():
        for thread in list(progress.threads.values()):
            thread.join(20)


def test_ranges_come_first_and_whole_shards_behind_them(ade, tmp_path, cheap):
    expected = [open_shards(ade).read(i, "image") for i in range(5)]
    with serving(ade) as server, open_shards(server.url, cache=ShardCache(tmp_path / "cache")) as shards:
        assert isinstance(shards._store, CachedStore)
        assert shards.read(0, "image") == expected[0]
        assert server.requests[-1][2] != "bytes=0-10239"  # a range, no whole shard
        assert not list((tmp_path / "cache").glob("*.tar"))
        for _ in range(20):
            shards.read(0, "image")
        settled(shards)
        info = shards.manifest.shards[0]
        assert (tmp_path / "cache" / f"{info.sha256}.tar").read_bytes() == (ade / info.name).read_bytes()
        before = len(server.requests)
        assert [shards.read(i, "image") for i in (0, 1)] == expected[:2]
        assert pickle.loads(pickle.dumps(shards)).read(1, "image") == expected[1]
        assert all("shard-000000.tar" not in path for _, path, _ in server.requests[before:])


def test_a_few_reads_fetch_no_whole_shard(ade, tmp_path, monkeypatch):
    monkeypatch.setattr(cached, "REQUEST_COST", 10)
    with serving(ade) as server, open_shards(server.url, cache=ShardCache(tmp_path / "cache")) as shards:
        for i in range(5):
            shards.read(i, "json")
        settled(shards)
    assert not list((tmp_path / "cache").glob("*.tar"))


def test_damage_in_the_cache_is_mended_from_the_store(ade, tmp_path, cheap):
    with serving(ade) as server, open_shards(server.url, cache=ShardCache(tmp_path / "cache")) as shards:
        expected = shards.read(0, "image")
        for _ in range(20):
            shards.read(0, "image")
        settled(shards)
        (file,) = (tmp_path / "cache").glob("*.tar")
        for damage in (bytes(file.stat().st_size), b"", file.read_bytes()[:600]):
            file.write_bytes(damage)
            assert shards.read(0, "image") == expected
            assert not file.exists()


def test_a_cache_that_cannot_be_filled_costs_speed_alone(ade, tmp_path, cheap, monkeypatch, caplog):
    def full(*args):
        raise OSError(28, "No space left on device")

    with serving(ade) as server, open_shards(server.url, cache=ShardCache(tmp_path / "cache")) as shards:
        monkeypatch.setattr(os, "posix_fallocate", full)
        for _ in range(30):
            assert shards.read(0, "image") == open_shards(ade).read(0, "image")
        settled(shards)
    assert "No space left" in caplog.text
    assert not list((tmp_path / "cache").glob("*.[tp]ar*"))


def test_samples_come_while_whole_shards_are_on_their_way(ade, tmp_path, cheap, monkeypatch):
    """Two shards at a time, in pieces; whoever waits for a sample waits for neither."""
    monkeypatch.setattr(cached, "PIECE", 4096)
    expected = [open_shards(ade).read(i, "image") for i in range(5)]
    go_on, pieces = threading.Event(), CachedStore._pieces
    started = []

    def held(self, name, size, stop):
        started.append(name)
        go_on.wait(20)
        yield from pieces(self, name, size, stop)

    monkeypatch.setattr(CachedStore, "_pieces", held)
    with serving(ade) as server, open_shards(server.url, cache=ShardCache(tmp_path / "cache")) as shards:
        for _ in range(20):
            assert [shards.read(i, "image") for i in range(5)] == expected
        assert sorted(started) == ["shard-000000.tar", "shard-000001.tar"]
        assert not list((tmp_path / "cache").glob("*.tar"))
        before = len(server.requests)
        go_on.set()
        settled(shards)
        assert len(list((tmp_path / "cache").glob("*.tar"))) == 2
        asked = [range_ for _, _, range_ in server.requests[before:]]
        sizes = [
            int(stop) + 1 - int(start) for start, _, stop in (r.removeprefix("bytes=").partition("-") for r in asked)
        ]
        assert sum(sizes) == sum(info.bytes for info in shards.manifest.shards[:2])
        assert max(sizes) == 4096
        assert [shards.read(i, "image") for i in range(4)] == expected[:4]
        assert len(server.requests) == before + len(asked)
