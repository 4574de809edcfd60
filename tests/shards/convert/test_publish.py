from pathlib import Path

import numpy as np
import pytest

from segstream.shards.checks.verify import verify
from segstream.shards.convert.convert import convert
from segstream.shards.convert.publish import Target
from segstream.shards.errors import DataError
from segstream.shards.format.centroids import add_centroids
from segstream.shards.format.reader import open_shards
from segstream.shards.storage.remote import Retries
from tests.shards import trees
from tests.shards.servers import serving
from tests.shards.shared import edit_manifest

pytest.importorskip("boto3")
URL = "s3://bucket/sets/ade20k-150/train"


@pytest.fixture
def server(account, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    (tmp_path / "server" / "bucket").mkdir(parents=True)
    with serving(tmp_path / "server", s3=True) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        yield server


def written(server):
    return [Path(path.partition("?")[0]).name for method, path, _ in server.requests if method == "PUT"]


def to_bucket(tmp_path, **options):
    raw = trees.ade20k(tmp_path / "raw")
    return convert(dataset="ade20k-150", split="train", raw=raw, out="s3://bucket/sets/", **options)


def test_a_set_in_the_bucket_is_the_set_on_disk(ade, server, tmp_path):
    summary = to_bucket(tmp_path, shard_samples=2)
    assert summary.url == URL
    there = server.folder / "bucket/sets/ade20k-150/train"
    assert {p.name: p.read_bytes() for p in there.iterdir()} == {p.name: p.read_bytes() for p in ade.iterdir()}
    assert written(server)[-1] == "manifest.json"
    assert verify(URL).ok
    assert not list((tmp_path / "home").rglob("*.tar"))


def test_centroids_go_along_and_those_of_another_conversion_go_away(ade, server, tmp_path):
    add_centroids(ade)
    to_bucket(tmp_path, shard_samples=2, centroids=True)
    there = server.folder / "bucket/sets/ade20k-150/train"
    assert {p.name: p.read_bytes() for p in there.iterdir()} == {p.name: p.read_bytes() for p in ade.iterdir()}
    assert written(server)[-1] == "manifest.json"
    with open_shards(URL) as shards, open_shards(ade) as here:
        assert shards.centroids_digest == here.centroids_digest
        assert np.array_equal(shards.centroids(1, "universal").xy, here.centroids(1, "universal").xy)
    assert verify(URL).ok
    to_bucket(tmp_path, shard_samples=5)
    assert not list(there.glob("shard-000001.*"))
    assert not (there / "centroids.json").exists()
    assert verify(URL).ok


def test_again_uploads_nothing_and_a_smaller_set_leaves_no_surplus(ade, server, tmp_path):
    Target(URL).publish(ade)
    server.requests.clear()
    Target(URL).publish(ade)
    assert written(server) == []
    to_bucket(tmp_path, shard_samples=4)
    assert sorted(p.name for p in (server.folder / "bucket/sets/ade20k-150/train").iterdir()) == [
        "manifest.json",
        "shard-000000.idx.json",
        "shard-000000.tar",
        "shard-000001.idx.json",
        "shard-000001.tar",
    ]
    assert verify(URL).ok


def test_uploads_survive_faults_and_an_interrupted_one_is_incomplete_and_goes_on(ade, server):
    once = Retries(num_attempts=1)
    Target(URL, once).publish(ade)
    edit_manifest(ade, lambda manifest: manifest.update(absent=1))
    (server.folder / "bucket/sets/ade20k-150/train/shard-000002.tar").unlink()
    server.faults, server.share = ("503",), 0.0
    server.script = [None] * 6 + ["503"] * 3
    with pytest.raises(DataError, match=rf"{URL}/.*: failed 1 times"):
        Target(URL, once).publish(ade)
    server.script = []
    with pytest.raises(DataError, match="incomplete"):
        open_shards(URL)
    server.share = 0.3
    Target(URL, Retries(num_attempts=30, sleep=lambda seconds: None)).publish(ade)
    server.share = 0.0
    assert server.failed
    assert open_shards(URL).manifest == open_shards(ade).manifest
    assert verify(URL).ok


def test_a_bucket_that_refuses_says_so_before_the_conversion(server, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody-else")
    with pytest.raises(DataError, match=r"^s3://bucket/.*refused .*AWS_ACCESS_KEY_ID"):
        to_bucket(tmp_path)
    assert not (tmp_path / "home").exists()


def test_every_character_of_a_prefix_tells_sets_apart(ade, server, tmp_path):
    raw = trees.ade20k(tmp_path / "raw")
    for prefix in ("a?1", "a?2", "a#1", "a%41 b"):
        found = convert(dataset="ade20k-150", split="train", raw=raw, out=f"s3://bucket/{prefix}", shard_samples=2)
        there = server.folder / f"bucket/{prefix}/ade20k-150/train"
        assert {p.name: p.read_bytes() for p in there.iterdir()} == {p.name: p.read_bytes() for p in ade.iterdir()}
        assert open_shards(found.url).read(2, "image") == open_shards(ade).read(2, "image")
    assert len(list(server.folder.glob("bucket/*"))) == 4
