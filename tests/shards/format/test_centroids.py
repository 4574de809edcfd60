import hashlib
import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest

from segstream.shards.checks.verify import verify
from segstream.shards.errors import DataError
from segstream.shards.format.centroids import SUMMARY, add_centroids, centroids_of
from segstream.shards.format.reader import open_shards
from segstream.shards.storage.cache import ShardCache
from tests.shards.servers import serving
from tests.shards.shared import edit_manifest, refusal

COLUMNS = ("class_id", "sample", "tile", "pixels")
TILE = 16


def literal(labels, tile):
    """Pixel by pixel; returns {(class, sample, tile): (x, y, pixels)}."""
    places = {}
    for sample, (label, (height, width)) in enumerate(labels):
        h, w = label.shape
        for y, x in np.argwhere(label != 255).tolist():
            number = y * height // h // tile * -(-width // tile) + x * width // w // tile
            places.setdefault((int(label[y, x]), sample, number), []).append((x, y))
    return {key: (*np.mean(found, axis=0), len(found)) for key, found in sorted(places.items())}


def assert_same(found, expected):
    keys = zip(*(getattr(found, name).tolist() for name in COLUMNS[:3]), strict=True)
    assert list(keys) == list(expected)
    values = np.array(list(expected.values())).reshape(-1, 3)
    assert found.pixels.tolist() == values[:, 2].tolist()
    assert np.abs(found.xy - values[:, :2]).max(initial=0) < 1e-4
    assert [getattr(found, n).dtype for n in (*COLUMNS, "xy")] == [np.int32] * 3 + [np.int64, np.float32]


def drawn(seed=0):
    """Labels of odd sizes with the sizes of their sources: smaller than a tile, of several, scaled, all ignored."""
    rng = np.random.default_rng(seed)
    sizes = [((5, 7), (5, 7)), ((33, 50), (33, 50)), ((31, 29), (97, 91)), ((16, 16), (16, 16)), ((9, 40), (60, 333))]
    for stored, source in sizes:
        yield rng.choice([0, 1, 2, 7, 254, 255], stored).astype(np.uint8), source
        yield (
            np.kron(rng.choice([0, 3, 255], (11, 13)), np.ones((5, 5)))[: stored[0], : stored[1]].astype(np.uint8),
            source,
        )
    yield np.full((20, 20), 255, np.uint8), (20, 20)


def test_centroids_are_those_of_a_literal_count_of_pixels():
    labels = list(drawn())
    assert_same(centroids_of(labels, TILE), literal(labels, TILE))
    assert_same(centroids_of(labels[-1:], TILE), {})


def test_remapped_centroids_are_those_of_remapped_labels():
    table = np.full(256, 255, np.int32)
    table[[0, 1, 2, 3]] = [300, 5, 5, 5]
    table[254] = -1
    labels = [(label.astype(int), source) for label, source in drawn()]
    mapped = [(np.where(table < 0, 255, table)[label], source) for label, source in labels]
    assert_same(centroids_of(drawn(), TILE).remap(table), literal(mapped, TILE))


@pytest.fixture
def made(ade):
    add_centroids(ade, tile=TILE)
    return ade


def test_a_set_gives_centroids_of_every_label_member_and_their_counts(made):
    with open_shards(made) as shards:
        for member, classes in (("native", 150), ("universal", 194)):
            counts = shards.centroid_counts(member)
            assert (counts.shape, counts.dtype) == ((3, classes), np.int64)
            for shard in range(3):
                found = shards.centroids(shard, member)
                assert np.array_equal(np.bincount(found.class_id, minlength=classes), counts[shard])
                assert np.array_equal(np.unique(found.sample), np.arange(shards.shard_sizes[shard]))
        assert refusal(lambda: shards.centroids(0, "universal-relabeled")) == (
            f"{made}: has no labels 'universal-relabeled'; it holds native, universal"
        )
        digest = shards.centroids_digest
    add_centroids(made, tile=1024)
    assert open_shards(made).centroids_digest != digest


def test_any_store_gives_the_same(made, tmp_path):
    cache = ShardCache(tmp_path / "cache", 1 << 20)
    faulty = {"share": 0.3, "faults": ("flip", "truncate", "503"), "seed": 2}
    with serving(made, **faulty) as server, open_shards(server.url, cache=cache) as there, open_shards(made) as here:
        assert there.centroids_digest == here.centroids_digest
        for member in ("native", "universal"):
            assert np.array_equal(there.centroids(1, member).xy, here.centroids(1, member).xy)
        assert "flip" in server.failed
        (made / FILE).unlink()
        assert refusal(lambda: there.centroids(0, "native")) == (
            f"{server.url}/{FILE}: missing; run `segstream stats FOLDER --centroids`"
        )


def edit_summary(folder, **changes):
    """With the digest as it would be."""
    said = json.loads((folder / SUMMARY).read_text()) | changes
    said.pop("digest")
    digest = hashlib.sha256(json.dumps(said).encode()).hexdigest()
    (folder / SUMMARY).write_text(json.dumps(said | {"digest": digest}) + "\n")


def edit_file(folder, change):
    """With the hash of its content as it would be."""
    path = folder / FILE
    head, _, body = path.read_bytes().partition(b"\n")
    columns = np.frombuffer(body, "<i4").reshape(6, -1).copy()
    change(columns)
    said = json.loads(head) | {"content": hashlib.sha256(columns.tobytes()).hexdigest()}
    path.write_bytes(json.dumps(said).encode() + b"\n" + columns.tobytes())


FILE = "shard-000000.native.centroids"
CANNOT = f"{FILE}: numbers that native labels of shard-000000.tar cannot have, other counts, or another order"
CHANGED = f"{FILE}: damaged, or not version 1 of tiles of"
NONE = f"{SUMMARY}: not a summary"
COUNTS = {"native": [[0] * 150] * 3, "universal": [[0] * 194] * 3}


def cut(name):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-4])


DAMAGE = {
    "no summary": (lambda f: (f / SUMMARY).unlink(), f"{SUMMARY}: missing"),
    "no file": (lambda f: (f / FILE).unlink(), f"{FILE}: missing"),
    "cut short": (cut(FILE), CHANGED),
    "summary cut short": (cut(SUMMARY), NONE),
    "converted again": (
        lambda f: edit_manifest(f, lambda m: m.update(absent=1)),
        f"{SUMMARY}: of set .*converted again",
    ),
    "version": (lambda f: edit_summary(f, version=2), f"{NONE}.*not of version 1"),
    "another tile": (lambda f: edit_summary(f, tile=32), CHANGED),
    "no tile": (lambda f: edit_summary(f, tile=0), NONE),
    "tile of text": (lambda f: edit_summary(f, tile="16"), NONE),
    "halves": (lambda f: edit_summary(f, counts=COUNTS | {"native": [[0.5] * 150] * 3}), NONE),
    "below 0": (lambda f: edit_summary(f, counts=COUNTS | {"native": [[-1] * 150] * 3}), NONE),
    "no member": (lambda f: edit_summary(f, counts={"native": COUNTS["native"]}), NONE),
    "other classes": (lambda f: edit_summary(f, counts=COUNTS | {"native": [[0] * 75] * 6}), NONE),
    "other counts": (lambda f: edit_summary(f, counts=COUNTS), CANNOT),
    "sample": (lambda f: edit_file(f, lambda c: c[1].fill(2)), CANNOT),
    "class": (lambda f: edit_file(f, lambda c: c[0].fill(300)), CANNOT),
    "negative": (lambda f: edit_file(f, lambda c: c[2].fill(-1)), CANNOT),
    "x": (lambda f: edit_file(f, lambda c: c[3].view("f4").fill(31.5)), CANNOT),
    "y": (lambda f: edit_file(f, lambda c: c[4].view("f4").fill(np.nan)), CANNOT),
    "pixels": (lambda f: edit_file(f, lambda c: np.add(c[5], 1, out=c[5])), CANNOT),
    "order": (lambda f: edit_file(f, lambda c: c.__setitem__(slice(None), c[:, ::-1])), CANNOT),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_what_is_missing_damaged_or_of_another_set_is_told_with_the_command(made, kind):
    change, what = DAMAGE[kind]
    change(made)
    with open_shards(made) as shards, pytest.raises(DataError, match=what) as caught:
        shards.centroids(0, "native")
    assert str(caught.value).endswith(f"; run `segstream stats {made} --centroids`")
    told = [f"{where}: {why}" for faults in verify(made).faults.values() for _, where, why in faults]
    assert any(re.search(what, line) for line in told) != (kind == "no summary")


KILLED = """
import os, signal, sys
from segstream.shards.format.centroids import add_centroids
if __name__ == "__main__":
    kill = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    add_centroids(sys.argv[1], tile=16, workers=int(sys.argv[2]), progress=kill)
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_run_goes_on_and_links_are_not_written_through(ade, tmp_path, workers):
    (tmp_path / "killed.py").write_text(KILLED)
    done = subprocess.run([sys.executable, tmp_path / "killed.py", ade, str(workers)], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    before = {path: path.stat().st_mtime_ns for path in ade.glob("*.centroids")}
    assert (len(before) >= 2, (ade / SUMMARY).exists()) == (True, False)
    elsewhere = tmp_path / "elsewhere"
    (elsewhere).write_text("linked")
    (ade / "shard-000002.native.centroids").unlink(missing_ok=True)
    os.link(elsewhere, ade / "shard-000002.native.centroids")
    add_centroids(ade, tile=TILE, workers=workers)
    assert elsewhere.read_text() == "linked"
    now = {path: path.stat().st_mtime_ns for path in before}
    assert {p for p in now if now[p] != before[p]} <= {ade / "shard-000002.native.centroids"}
    assert not list(ade.glob("*.part"))
    whole = {path.name: path.read_bytes() for path in ade.glob("*centroids*")}
    assert len(whole) == 7
    for path in ade.glob("*centroids*"):
        path.unlink()
    add_centroids(ade, tile=TILE)
    assert {path.name: path.read_bytes() for path in ade.glob("*centroids*")} == whole


def test_what_cannot_be_made_is_told(ade, tmp_path):
    with pytest.raises(DataError, match=r"^s3://bucket/set: s3:// is not supported here; give a path"):
        add_centroids("s3://bucket/set")
    with pytest.raises(DataError, match="incomplete"):
        add_centroids(tmp_path)
    tar = ade / "shard-000001.tar"
    tar.write_bytes(tar.read_bytes().replace(b"original_size_hw", b"original_size_wh"))
    with pytest.raises(DataError, match=r"shard-000001\.tar: ADE_train_00000003\.json fails its checksum"):
        add_centroids(ade)
    assert not (ade / SUMMARY).exists()


def test_a_server_that_fails_is_not_blamed_on_centroids(made, monkeypatch):
    monkeypatch.setenv("SEGSTREAM_RETRY_S", "0")
    with serving(made) as server, open_shards(server.url) as there:
        there.centroid_counts("native")
        server.share, server.faults = 1.0, ("503",)
        told = refusal(lambda: there.centroids(0, "native"))
        assert "failed 1 times" in told
        assert "--centroids" not in told
