import hashlib
import io
import json
import tarfile
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from segstream.pipeline.samples import label_views
from segstream.shards.checks.verify import verify
from segstream.shards.convert.convert import convert, plan_shards
from segstream.shards.datasets.layout import split_list
from segstream.shards.errors import DataError, UsageError
from segstream.shards.files import sole_writer
from segstream.shards.format.centroids import add_centroids
from segstream.shards.format.left_out import BadSamplesError
from segstream.shards.format.reader import open_shards
from segstream.shards.taxonomy import load_taxonomy
from tests.shards import trees

ADE = "ade20k-150"
ENDS = {"images": "jpg", "annotations": "png"}


def converted(raw, out, **changes):
    options = {"dataset": ADE, "split": "train", "raw": raw, "out": str(out), "shard_samples": 2, **changes}
    return convert(**options)


def content(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def members(folder):
    """File name -> bytes over all tars, by the standard library alone."""
    found = {}
    for path in sorted(folder.rglob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                assert member.name not in found
                found[member.name] = tar.extractfile(member).read()
    return found


def decoded(data):
    return np.asarray(Image.open(io.BytesIO(data)))


@pytest.fixture
def raw(tmp_path):
    return trees.ade20k(tmp_path / "raw")


def test_a_set_is_what_the_format_says(raw, tmp_path):
    summary = converted(raw, tmp_path / "out")
    folder = tmp_path / "out" / ADE / "train"
    assert summary.url == str(folder)
    names = [f"shard-00000{n}.{end}" for n in range(3) for end in ("idx.json", "tar")]
    assert sorted(p.name for p in folder.iterdir()) == ["manifest.json", *names]
    manifest = json.loads((folder / "manifest.json").read_text())
    size = sum(p.stat().st_size for p in folder.glob("*.tar"))
    assert manifest["totals"] == {"samples": 5, "shards": 3, "bytes": size}
    assert [s["samples"] for s in manifest["shards"]] == [2, 2, 1]
    for shard in manifest["shards"]:
        assert hashlib.sha256((folder / shard["name"]).read_bytes()).hexdigest() == shard["sha256"]
    universal = load_taxonomy("universal").classes
    native = load_taxonomy(ADE)
    pixels = np.zeros(256, int)
    for n in range(1, 6):
        key = f"ADE_train_{n:08d}"
        stored = {name.partition(".")[2]: data for name, data in members(folder).items() if name.startswith(key)}
        assert sorted(stored) == ["jpg", "json", "native.png", "universal.png"]
        assert stored["jpg"] == (raw / f"images/training/{key}.jpg").read_bytes()  # not encoded once more
        names = np.array([*native.classes, *[""] * 105, ""])[decoded(stored["native.png"])]
        mapped = np.array([*universal, *[""] * 61, ""])[decoded(stored["universal.png"])]
        by_class = {"wall": "wall", "building": "building", "sky": "sky", "flag": "flag", "bar": "", "": ""}
        assert np.array_equal(np.vectorize(by_class.get)(names), mapped)
        assert json.loads(stored["json"]) == {
            "dataset": ADE,
            "split": "train",
            "licence": manifest["licence"],
            "image": f"images/training/{key}.jpg",
            "label": f"annotations/training/{key}.png",
            "original_size_hw": [24, 32],
        }
        pixels += np.bincount(decoded(stored["native.png"]).ravel(), minlength=256)
    assert {c["id"]: c["pixels"] for c in manifest["classes"]["native"]} == {
        i: n for i, n in enumerate(pixels[:255].tolist()) if n
    }


def test_the_index_gives_every_members_bytes(raw, tmp_path):
    folder = tmp_path / "out" / ADE / "train"
    converted(raw, tmp_path / "out")
    stored = members(folder)
    seen = set()
    for path in sorted(folder.glob("*.idx.json")):
        index = json.loads(path.read_text())
        tar = (folder / index["shard"]).read_bytes()
        for sample in index["samples"]:
            for suffix, (offset, size, crc) in sample["members"].items():
                data = tar[offset : offset + size]
                assert data == stored[f"{sample['key']}.{suffix}"]
                assert zlib.crc32(data) == crc
                seen.add(f"{sample['key']}.{suffix}")
            native = decoded(stored[f"{sample['key']}.native.png"])
            assert sample["size_hw"] == list(native.shape)
            assert sample["classes"] == sorted(set(native.ravel().tolist()) - {255})
    assert seen == stored.keys()


def test_bytes_do_not_depend_on_workers_place_or_run_and_progress_counts_samples(raw, tmp_path):
    calls = []
    converted(raw, tmp_path / "one", progress=lambda done, total: calls.append((done, total)))
    converted(raw, tmp_path / "two", workers=2)
    converted(trees.ade20k(tmp_path / "other" / "raw"), tmp_path / "three", workers=3)
    assert content(tmp_path / "one") == content(tmp_path / "two") == content(tmp_path / "three")
    assert calls == [(2, 5), (4, 5), (5, 5)]


def test_validation_images_are_the_sources_own_bytes(raw, tmp_path):
    summary = converted(raw, tmp_path / "out", split="val", short_side=8)  # concerns training only
    stored = members(tmp_path / "out")
    for path in (raw / "images/validation").iterdir():
        assert stored[path.name] == path.read_bytes()
    with open_shards(summary.url) as shards:
        assert shards.manifest.params["short_side"] is None
        assert shards.manifest.universal is not None


def test_validation_pngs_stay_lossless_and_labels_of_held_out_data_are_not_mapped(tmp_path):
    raw = trees.kitti(tmp_path / "raw")
    converted(raw, tmp_path / "out", dataset="kitti-19", split="val")
    stored = members(tmp_path / "out")
    for stem in split_list("kitti-19", "val")[:3]:
        assert np.array_equal(decoded(stored[f"{stem}.png"]), Image.open(raw / f"training/image_2/{stem}.png"))
    assert sum(".native." in name for name in stored) == 3
    assert not any("universal" in name for name in stored)


def test_training_pngs_become_jpegs_and_large_images_shrink(tmp_path):
    raw = trees.cityscapes(tmp_path / "raw")
    converted(raw, tmp_path / "out", dataset="cityscapes-19", short_side=12)
    stored = members(tmp_path / "out")
    images = {name: data for name, data in stored.items() if name.endswith(".jpg")}
    assert sorted(images) == [f"{c}/{c}_000000_000019_leftImg8bit.jpg" for c in ("aachen", "ulm")]
    for name, data in images.items():
        key = name.removesuffix(".jpg")
        original = Image.open(raw / f"leftImg8bit/train/{key}.png")
        averaged = np.asarray(original).reshape(12, 2, 16, 2, 3).mean((1, 3))
        assert decoded(data).shape == (12, 16, 3)
        assert np.abs(decoded(data) - averaged).mean() < 10  # colour is stored at half the resolution
        for member in ("native", "universal"):
            assert decoded(stored[f"{key}.{member}.png"]).shape == (12, 16)
        assert json.loads(stored[f"{key}.json"])["original_size_hw"] == [24, 32]


def test_turned_images_are_stored_upright_and_their_labels_must_be_upright_too(raw, tmp_path):
    exif, path = Image.Exif(), raw / "images/validation/ADE_val_00000001.jpg"
    exif[0x0112] = 6
    trees.save(path, trees.picture(np.random.default_rng(0), (32, 24)), exif=exif)
    converted(raw, tmp_path / "out", split="val")
    stored = decoded(members(tmp_path / "out")["ADE_val_00000001.png"])  # lossless
    assert np.array_equal(stored, np.rot90(np.asarray(Image.open(path)), -1))


def test_samples_are_sorted_by_key_whatever_the_list_says_and_a_limit_takes_the_first(tmp_path):
    raw, listed = trees.kitti(tmp_path / "raw", count=9), list(split_list("kitti-19", "train")[:9])
    assert sorted(listed) != listed
    for limit in (9, 3):
        with open_shards(converted(raw, tmp_path / "out", dataset="kitti-19", limit=limit).url) as shards:
            assert [shards.entry(i).key for i in range(len(shards))] == sorted(listed)[:limit]


def break_ade(raw):
    """One of each kind of bad sample; path -> reason."""
    images, labels = ([f"{kind}/training/ADE_train_0000000{n}.{end}" for n in range(6)] for kind, end in ENDS.items())
    for path, cut in ((labels[1], 30), (images[2], 200)):
        (raw / path).write_bytes((raw / path).read_bytes()[:-cut])
    label = np.ones((24, 32), np.uint8)
    trees.save(raw / labels[3], label[:, 1:])
    label[:2] = 151
    trees.save(raw / labels[4], label)
    (raw / labels[5]).unlink()
    return {
        labels[1]: "truncated PNG",
        images[2]: "does not decode",
        labels[3]: f"label is 24 x 31, {images[3]} is 24 x 32 (height x width)",
        labels[4]: "64 of 768 pixels carry ids [151], which ade20k-151 does not have",
        labels[5]: "missing file",
    }


@pytest.mark.parametrize("workers", [1, 2])
def test_all_bad_samples_are_reported_and_stop_the_run(tmp_path, workers):
    raw = trees.ade20k(tmp_path / "raw", train=7)
    expected = break_ade(raw)
    with pytest.raises(BadSamplesError, match=r"ade20k-150 train in .*: 5 of 7 samples cannot be used") as error:
        converted(raw, tmp_path / "out", skip_bad=4, workers=workers)
    found = {r.path: r.reason for r in error.value.left_out}
    assert found.keys() == expected.keys()
    for path, reason in expected.items():
        assert reason in found[path]
    message = str(error.value)
    assert "\n" not in message
    assert "and 2 more" in message
    assert "--skip-bad 5" in message
    with pytest.raises(DataError, match=r"incomplete: no manifest\.json"):
        open_shards(tmp_path / "out" / ADE / "train")


def test_allowed_bad_samples_are_left_out_and_listed(tmp_path):
    raw = trees.ade20k(tmp_path / "raw", train=7)
    expected = break_ade(raw)
    summary = converted(raw, tmp_path / "out", skip_bad=5)
    assert {r.path for r in summary.skipped} == expected.keys()
    with open_shards(summary.url) as shards:
        assert shards.manifest.skipped == summary.skipped
        assert [shards.entry(i).key[-1] for i in range(len(shards))] == ["6", "7"]
        assert shards.shard_sizes == (1, 1)  # of shards all of whose samples are bad there is none
    again = converted(raw, tmp_path / "out2", skip_bad=100)
    assert again.digest == summary.digest  # how many would have been allowed shapes nothing


def test_mending_a_bad_file_redoes_its_shard_only(tmp_path):
    raw = trees.ade20k(tmp_path / "raw")
    label = raw / "annotations/training/ADE_train_00000003.png"
    whole = label.read_bytes()
    label.write_bytes(whole[:-30])
    with pytest.raises(BadSamplesError):
        converted(raw, tmp_path / "out")
    label.write_bytes(whole)
    summary = converted(raw, tmp_path / "out")
    assert summary.resumed_shards == 2
    converted(raw, tmp_path / "fresh")
    assert content(tmp_path / "out") == content(tmp_path / "fresh")


def test_listed_images_that_are_absent_are_counted_and_no_image_at_all_is_an_error(tmp_path):
    raw = trees.voc(tmp_path / "raw", count=3)
    summary = converted(raw, tmp_path / "out", dataset="voc2012", split="val")
    assert (summary.samples, summary.absent) == (3, 1446)
    with open_shards(summary.url) as shards:
        assert shards.manifest.absent == 1446
    for path in (raw / "JPEGImages").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"no images; 1449 listed images are absent, e\.g\. JPEGImages/2007_"):
        converted(raw, tmp_path / "out", dataset="voc2012", split="val")


def test_two_images_of_one_key_are_an_error(tmp_path):
    for end in ("jpg", "png"):
        trees.save(tmp_path / f"a.{end}", np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "list.txt").write_text("a.jpg a.png\na.png a.png\n")
    own = tmp_path / "own.yaml"
    own.write_text("{name: own, splits: {train: {list: list.txt}}, classes: [{name: a}]}")
    with pytest.raises(DataError, match="have the same key 'a', which is a path without its suffix"):
        converted(tmp_path, tmp_path / "out", dataset=str(own))


# --- resuming ---


def test_a_repeated_run_keeps_everything(raw, tmp_path):
    first = converted(raw, tmp_path / "out")
    folder = tmp_path / "out" / ADE / "train"
    before = content(folder), {p: p.stat().st_mtime_ns for p in folder.glob("shard*")}
    second = converted(raw, tmp_path / "out", workers=2)
    assert (second.resumed_shards, second.digest) == (3, first.digest)
    assert before == (content(folder), {p: p.stat().st_mtime_ns for p in folder.glob("shard*")})


@pytest.mark.parametrize(
    "file", ["images/training/ADE_train_00000004.jpg", "annotations/training/ADE_train_00000004.png"]
)
def test_a_changed_source_file_redoes_its_shard(raw, tmp_path, file):
    converted(raw, tmp_path / "out")
    other = trees.ade20k(tmp_path / "other", seed=9)
    (raw / file).write_bytes((other / file).read_bytes())
    assert converted(raw, tmp_path / "out").resumed_shards == 2
    converted(raw, tmp_path / "fresh")
    assert content(tmp_path / "out") == content(tmp_path / "fresh")


@pytest.mark.parametrize("change", [{"short_side": 12}, {"jpeg_quality": 80}, {"limit": 3}, {"shard_samples": 3}])
def test_a_changed_parameter_redoes_everything(raw, tmp_path, change):
    converted(raw, tmp_path / "out")
    assert converted(raw, tmp_path / "out", **change).resumed_shards == 0
    converted(raw, tmp_path / "fresh", **change)
    assert content(tmp_path / "out") == content(tmp_path / "fresh")  # no shard of the other run is left


DAMAGE = {
    "tar cut": lambda tar, index: tar.write_bytes(tar.read_bytes()[:-512]),
    "tar changed": lambda tar, index: tar.write_bytes(tar.read_bytes()[:600] + b"!" + tar.read_bytes()[601:]),
    "tar gone": lambda tar, index: tar.unlink(),
    "index gone": lambda tar, index: index.unlink(),
    "index cut": lambda tar, index: index.write_bytes(index.read_bytes()[:-9]),
    "index edited": lambda tar, index: index.write_text(index.read_text().replace('"size_hw":[', '"size_hw": [')),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_leftovers_are_redone(raw, tmp_path, damage):
    converted(raw, tmp_path / "out")
    fresh = content(tmp_path / "out")
    folder = tmp_path / "out" / ADE / "train"
    DAMAGE[damage](folder / "shard-000001.tar", folder / "shard-000001.idx.json")
    (folder / "shard-000009.tar").write_bytes(b"of a larger run")
    (folder / "shard-000000.tar.77.part").write_bytes(b"of a killed run")
    assert converted(raw, tmp_path / "out").resumed_shards == 2
    assert content(tmp_path / "out") == fresh


def test_a_wrong_call_leaves_a_finished_set_alone_and_a_failing_run_takes_its_manifest_away(raw, tmp_path):
    converted(raw, tmp_path / "out")
    before = content(tmp_path / "out")
    for change in ({"raw": tmp_path / "nowhere"}, {"split": "tran"}, {"dataset": "ade20k"}):
        with pytest.raises(DataError):
            converted(**{"raw": raw, "out": tmp_path / "out", **change})
    assert content(tmp_path / "out") == before
    (raw / "annotations/training/ADE_train_00000001.png").write_bytes(b"")
    with pytest.raises(BadSamplesError, match="empty file"):
        converted(raw, tmp_path / "out")
    assert not (tmp_path / "out" / ADE / "train" / "manifest.json").exists()


def test_two_writers_at_once_are_refused(raw, tmp_path):
    folder = tmp_path / "out" / ADE / "train"
    folder.mkdir(parents=True)
    with sole_writer(folder), pytest.raises(DataError, match="another process is writing here"):
        converted(raw, tmp_path / "out")
    converted(raw, tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"workers": 0}, "workers: 0; must be at least 1"),
        ({"short_side": 0}, "short_side: 0"),
        ({"limit": 0}, "limit: 0"),
        ({"skip_bad": -1}, "skip_bad: -1"),
        ({"jpeg_quality": 101}, "jpeg_quality: 101; must be 1 to 100"),
    ],
)
def test_parameters_out_of_range(tmp_path, changes, message):
    with pytest.raises(UsageError, match=message):
        converted(tmp_path, tmp_path, **changes)


def test_images_without_labels(tmp_path):
    paths = ("bravo_ACDC/a.png", "bravo_SMIYC/b.jpg")
    for path in paths:
        trees.save(tmp_path / "raw" / path, trees.picture(np.random.default_rng(0)))
    summary = converted(tmp_path / "raw", tmp_path / "out", dataset="bravo", split="test")
    stored = members(tmp_path / "out")
    assert {path: stored.pop(path) for path in paths} == {p: (tmp_path / "raw" / p).read_bytes() for p in paths}
    assert sorted(stored) == ["bravo_ACDC/a.json", "bravo_SMIYC/b.json"]
    assert json.loads(stored["bravo_ACDC/a.json"])["label"] is None
    assert verify(summary.url).ok
    with open_shards(summary.url) as shards:
        assert shards.manifest.members == ("image", "json")
        assert shards.manifest.universal is None
        assert shards.entry(0).classes == ()
        with pytest.raises(DataError, match=r"no member 'native'; this set holds image, json"):
            shards.read(0, "native")
        with pytest.raises(DataError, match=r"mix\.bravo: its shards hold images without labels"):
            label_views("native", {"bravo": shards.manifest})


def test_targets_that_cannot_be_used(raw, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be created"):
        converted(raw, tmp_path / "file")
    with pytest.raises(UsageError, match="gs:// is not supported"):
        converted(raw, "gs://bucket/x")
    converted(raw, f"file://{tmp_path}/url")
    assert (tmp_path / "url" / ADE / "train" / "manifest.json").exists()


@given(st.lists(st.integers(0, 100)), st.integers(1, 5), st.integers(1, 150))
def test_shards_keep_order_and_limits_and_are_filled(sizes, max_samples, max_bytes):
    shards = list(plan_shards(((n, s) for n, s in enumerate(sizes)), max_samples=max_samples, max_bytes=max_bytes))
    assert [n for shard in shards for n in shard] == list(range(len(sizes)))
    for i, shard in enumerate(shards):
        used = sum(sizes[n] for n in shard)
        assert len(shard) <= max_samples
        assert used <= max_bytes or len(shard) == 1
        if i + 1 < len(shards):  # the next sample did not fit
            assert len(shard) == max_samples or used + sizes[shards[i + 1][0]] > max_bytes


def test_centroids_change_nothing_else_and_are_the_same_whenever_they_are_made(raw, tmp_path):
    plain, at_once, later = (tmp_path / name for name in ("plain", "at_once", "later"))
    converted(raw, plain)
    converted(raw, at_once, centroids=True, workers=2, staged=True)
    converted(raw, later)
    add_centroids(later / ADE / "train")
    made = content(at_once)
    assert made == content(later)
    more = sorted(set(made) - set(content(plain)))
    assert {name: made[name] for name in set(made) - set(more)} == content(plain)
    names = [f"shard-00000{n}.{member}.centroids" for n in range(3) for member in ("native", "universal")]
    assert more == [f"{ADE}/train/{name}" for name in ["centroids.json", *names]]
    converted(raw, at_once)  # again: they are still those of the set
    assert content(at_once) == made
    converted(raw, at_once, shard_samples=5)
    left = {path.name for path in (at_once / ADE / "train").glob("*.centroids")}
    assert left == {"shard-000000.native.centroids", "shard-000000.universal.centroids"}
    with pytest.raises(DataError, match="converted again"):
        open_shards(at_once / ADE / "train").centroid_counts("native")
    assert list(verify(at_once / ADE / "train").faults) == ["centroids"]


def test_a_set_without_labels_has_no_centroids(tmp_path):
    raw = trees.save(tmp_path / "raw/bravo_ACDC/fog/a.png", np.zeros((8, 8, 3), np.uint8)).parents[2]
    url = convert("bravo", split="test", raw=raw, out=tmp_path, centroids=True).url
    assert verify(url).ok
    with pytest.raises(DataError, match=r"has no labels 'native'; it holds images only"):
        open_shards(url).centroid_counts("native")
