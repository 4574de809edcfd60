import concurrent.futures
import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from segstream.shards.convert.convert import convert
from segstream.shards.errors import DataError, UsageError
from segstream.shards.format.reader import open_shards
from tests.shards import trees
from tests.shards.convert.test_convert import members
from tests.shards.servers import serving
from tests.shards.shared import edit_manifest


def test_samples_in_order_with_their_bytes(ade):
    stored = members(ade)
    with open_shards(ade) as shards:
        assert len(shards) == 5
        assert shards.shard_sizes == (2, 2, 1)
        for i in range(5):
            entry = shards.entry(i)
            assert entry.key == f"ADE_train_{i + 1:08d}"
            assert entry.size_hw == (24, 32)
            assert shards.read(i, "image") == stored[f"{entry.key}.jpg"]
            for member in ("native", "universal"):
                assert shards.read(i, member) == stored[f"{entry.key}.{member}.png"]
            assert json.loads(shards.read(i, "json"))["image"].endswith(f"{entry.key}.jpg")


@pytest.mark.parametrize("form", ["{}", "file://{}", "file://localhost{}"])
def test_paths_and_file_urls(ade, form):
    assert len(open_shards(form.format(ade))) == 5


def test_threads_and_copies_may_share_a_set(ade):
    shards = open_shards(ade)
    jobs = [(i % 5, m) for i in range(200) for m in ("image", "native", "universal")]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda job: shards.read(*job), jobs))
    fresh, copy = open_shards(ade), pickle.loads(pickle.dumps(shards))
    assert found == [fresh.read(*job) for job in jobs]
    assert copy.read(3, "native") == fresh.read(3, "native")


@pytest.mark.parametrize("i", [-1, 5])
def test_numbers_outside_the_set(ade, i):
    with pytest.raises(IndexError, match=f"sample {i} of 5"):
        open_shards(ade).entry(i)


def test_a_member_that_is_not_there(ade):
    with pytest.raises(DataError, match=r"shard-000000\.tar: sample 'ADE_train_00000001' has no member 'universal-rel"):
        open_shards(ade).read(0, "universal-relabeled")


def test_what_is_no_set(ade, tmp_path):
    (ade / "manifest.json").unlink()
    with pytest.raises(DataError, match=r"train: incomplete: no manifest\.json"):
        open_shards(ade)
    with pytest.raises(DataError, match="nowhere: no such folder"):
        open_shards(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="gs:// is not supported"):
        open_shards("gs://bucket/set")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda m: m | {"version": 9}, "manifest version 9, this program reads 1"),
        (lambda m: {k: v for k, v in m.items() if k != "shards"}, r"not a shard manifest \(manifest.shards: missing"),
        (lambda m: [m], "not a shard manifest"),
        (lambda m: {"version": 1}, r"not a shard manifest \(KeyError: 'taxonomies'\)"),
    ],
)
def test_manifests_of_another_kind(ade, edit, message):
    path = ade / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["digest"]
    path.write_text(json.dumps(edit(manifest)))
    with pytest.raises(DataError, match=message):
        open_shards(ade)


def test_class_tables_that_were_edited_are_noticed(ade):
    edit_manifest(ade, lambda manifest: manifest["taxonomies"]["native"]["classes"].reverse())
    with pytest.raises(DataError, match="does not match its digest"):
        open_shards(ade)


def test_missing_and_short_shards(ade):
    tar = ade / "shard-000001.tar"
    whole = tar.read_bytes()
    tar.write_bytes(whole[:-1])
    with pytest.raises(
        DataError, match=rf"shard-000001\.tar: {len(whole) - 1} bytes long, the manifest says {len(whole)}"
    ):
        open_shards(ade)
    tar.unlink()
    with pytest.raises(DataError, match=r"shard-000001\.tar: missing"):
        open_shards(ade)


def test_damage_after_opening_is_noticed_at_the_read(ade):
    shards = open_shards(ade)
    span = shards.entry(2).members["native.png"]
    tar = ade / "shard-000001.tar"
    data = bytearray(tar.read_bytes())
    data[span.offset + 40] ^= 1
    tar.write_bytes(data)
    with pytest.raises(DataError, match=r"shard-000001\.tar: ADE_train_00000003\.native\.png fails its checksum"):
        shards.read(2, "native")
    shards.read(2, "image")  # the rest is whole
    tar.write_bytes(data[: span.offset + 10])
    with pytest.raises(DataError, match=r"shard-000001\.tar: ends after \d+ bytes, expected"):
        shards.read(2, "native")


def test_an_index_of_another_run_is_refused(ade):
    shutil.copy(ade / "shard-000000.idx.json", ade / "shard-000001.idx.json")
    with pytest.raises(DataError, match=r"shard-000001\.idx\.json: not the index that the manifest lists"):
        open_shards(ade).entry(2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m | {"samples": 1}, r"of shard .*, 2\), the manifest lists .*, 1\)"),
        (lambda m: m | {"sha256": "0" * 64}, "of shard .* the manifest lists"),
    ],
)
def test_an_index_of_another_shard_is_refused(ade, change, message):
    def edit(manifest):
        manifest["shards"][0] = change(manifest["shards"][0])
        manifest["totals"]["samples"] = sum(shard["samples"] for shard in manifest["shards"])

    edit_manifest(ade, edit)
    with pytest.raises(DataError, match=message):
        open_shards(ade).entry(0)


def test_many_shards_hold_no_descriptors(ade):
    shards = open_shards(ade)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for i in range(len(shards)):
        shards.read(i, "image")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_the_digest_names_the_content(ade):
    before = open_shards(ade).manifest.digest
    assert open_shards(ade).manifest.digest == before
    edit_manifest(ade, lambda manifest: manifest.update(absent=1))
    assert open_shards(ade).manifest.digest != before


def test_over_a_network_a_part_is_one_request_unless_much_lies_between(tmp_path, monkeypatch):
    raw = trees.ade20k(tmp_path / "raw", train=2, size_hw=(300, 200))
    folder = Path(convert(dataset="ade20k-150", split="train", raw=raw, out=str(tmp_path / "out")).url)
    expected = open_shards(folder).read_rows(1, "native", 200, 250)
    with serving(folder) as server, open_shards(server.url) as shards:
        span = shards.entry(1).members["native.png"]
        before = len(server.requests)
        assert shards.read_rows(1, "native", 200, 250) == expected
        assert [asked for _, _, asked in server.requests[before:]] == [
            f"bytes={span.offset}-{span.offset + sum(span.blocks.sizes[:5]) - 1}"
        ]
        monkeypatch.setattr("segstream.shards.format.reader.REQUEST_COST", 1)
        assert shards.read_rows(1, "native", 200, 250) == expected
        assert len(server.requests) == before + 3


def test_reading_loads_no_converters_and_no_torch():
    code = "import sys, segstream.shards.format.reader; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    others = tuple(f"segstream.shards.{folder}" for folder in ("convert", "datasets", "synthetic"))
    assert not [name for name in loaded if name.startswith(others) or name in ("torch", "webdataset", "boto3")]
