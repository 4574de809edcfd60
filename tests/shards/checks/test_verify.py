import hashlib
import json
import tarfile
import zlib

import numpy as np
import pytest

from segstream.shards.checks.verify import verify
from segstream.shards.codecs.images import encode_jpeg
from segstream.shards.codecs.png import encode_label
from segstream.shards.format.reader import open_shards
from segstream.shards.format.writer import ShardSample, write_shard
from tests.shards.servers import serving
from tests.shards.shared import edit_manifest
from tests.shards.trees import picture


def faults(folder):
    report = verify(folder)
    assert not report.ok
    return {kind: [(f.where, f.what) for f in found] for kind, found in report.faults.items()}


def rewrite(folder, shard, replace):
    """Replace members of one shard and make all hashes and spans agree with it, as a faulty writer would."""
    tar_path, idx_path = folder / f"{shard}.tar", folder / f"{shard}.idx.json"
    with tarfile.open(tar_path) as tar:
        stored = {m.name: tar.extractfile(m).read() for m in tar}
    stored |= replace
    index = json.loads(idx_path.read_text())
    samples = [
        ShardSample(
            key=s["key"],
            size_hw=tuple(s["size_hw"]),
            classes=tuple(s["classes"]),
            members={suffix: stored[f"{s['key']}.{suffix}"] for suffix in s["members"]},
        )
        for s in index["samples"]
    ]
    written = write_shard(tar_path, samples)
    for sample, row in zip(index["samples"], written.samples, strict=True):
        sample["members"] = {k: [v.offset, v.size, v.crc32] for k, v in row.members.items()}
        sample.pop("blocks", None)  # of the members that were
        assert all(zlib.crc32(stored[f"{row.key}.{k}"]) == v.crc32 for k, v in row.members.items())
    index |= {"bytes": written.bytes, "sha256": written.sha256}
    relist(folder, shard, index, bytes=written.bytes, sha256=written.sha256)


def relist(folder, shard, index, **changes):
    data = json.dumps(index).encode()
    (folder / f"{shard}.idx.json").write_bytes(data)

    def change(manifest):
        info = next(s for s in manifest["shards"] if s["name"] == f"{shard}.tar")
        manifest["totals"]["bytes"] += changes.get("bytes", info["bytes"]) - info["bytes"]
        info |= {"index_sha256": hashlib.sha256(data).hexdigest(), **changes}

    edit_manifest(folder, change)


def label(value, width=32):
    return encode_label(np.full((24, width), value, np.uint8))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_whole_set_has_no_fault(ade, workers):
    calls = []
    report = verify(ade, workers=workers, progress=lambda *a: calls.append(a))
    assert report.ok
    assert (report.shards, report.samples) == (3, 5)
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_an_incomplete_set(ade):
    (ade / "manifest.json").unlink()
    assert faults(ade) == {
        "manifest": [("manifest.json", "incomplete: there is no manifest.json, which is written last")]
    }
    (ade / "manifest.json").write_text("{")
    assert list(faults(ade)) == ["manifest"]


@pytest.mark.parametrize("damage", ["checksum", "place"])
def test_blocks_of_rows_that_do_not_fit_their_member(ade, damage):
    index = json.loads((ade / "shard-000001.idx.json").read_text())
    key, (_, sizes, crc32s) = index["samples"][0]["key"], index["samples"][0]["blocks"]["native.png"]
    if damage == "checksum":
        crc32s[1] ^= 1
    else:
        sizes[0] += 1
    relist(ade, "shard-000001", index)
    where = f"shard-000001.tar {key}.native.png"
    assert faults(ade) == {"index": [(where, "blocks of rows are not those of its bytes")]}


def test_flipped_bits_are_traced_to_the_member(ade):
    tar = ade / "shard-000001.tar"
    index = json.loads((ade / "shard-000001.idx.json").read_text())
    data = bytearray(tar.read_bytes())
    data[index["samples"][1]["members"]["universal.png"][0] + 3] ^= 4
    tar.write_bytes(data)
    assert faults(ade) == {
        "shard": [("shard-000001.tar", "SHA-256 is not the manifest's")],
        "checksum": [("shard-000001.tar ADE_train_00000004.universal.png", "bytes do not have the index's CRC-32")],
        "count": [("shard-000001.idx.json", "class counts are not those of the labels")],
    }


def test_all_faults_are_listed_not_the_first(ade):
    (ade / "shard-000000.tar").unlink()
    (ade / "shard-000001.idx.json").unlink()
    (ade / "shard-000002.tar").write_bytes((ade / "shard-000002.tar").read_bytes()[:2000])
    found = faults(ade)
    assert "shard-000001.idx.json" in {w for w, _ in found["index"]}
    assert {"shard-000000.tar", "shard-000002.tar"} <= {w for w, _ in found["shard"]}
    assert "shard-000002.tar ADE_train_00000005.native.png" in {w for w, _ in found["checksum"]}


def test_an_index_that_was_changed(ade):
    path = ade / "shard-000000.idx.json"
    path.write_text(path.read_text().replace('"size_hw":[24,32]', '"size_hw":[24,33]', 1))
    found = faults(ade)
    assert found["index"] == [("shard-000000.idx.json", "is not the file that the manifest lists")]
    assert {w.split()[1] for w, _ in found["size"]} == {
        f"ADE_train_00000001.{end}" for end in ("jpg", "native.png", "universal.png")
    }


def test_members_the_index_misses_or_misplaces(ade):
    index = json.loads((ade / "shard-000000.idx.json").read_text())
    del index["samples"][0]["members"]["json"]
    index["samples"][1]["members"]["json"][0] += 512
    relist(ade, "shard-000000", index)
    found = dict(faults(ade)["index"])
    one, other = (f"shard-000000.tar ADE_train_0000000{n}" for n in (1, 2))
    assert found.keys() == {one, f"{one}.json", f"{other}.json"}
    assert found[one].startswith("has no member 'json'")
    assert found[f"{one}.json"].startswith("is in the tar but not in the index")
    assert "the index says" in found[f"{other}.json"]


@pytest.mark.parametrize(
    ("member", "data", "kind", "what"),
    [
        ("native.png", label(150), "label", "ids [150] are outside the 150 classes"),
        ("universal.png", label(194), "label", "ids [194] are outside the 194"),
        ("universal.png", label(3), "label", "is not the native label in universal"),
        ("native.png", label(3, width=31), "size", "is (24, 31), the index says (24, 32)"),
        ("native.png", label(3), "count", "classes present are not those"),
        ("native.png", b"\x89PNG", "decode", "begins with"),
        ("jpg", b"\xff\xd8\xff", "decode", "does not decode"),
        ("json", b"{", "decode", "not JSON"),
    ],
)
def test_what_a_faulty_writer_would_leave(ade, member, data, kind, what):
    rewrite(ade, "shard-000001", {f"ADE_train_00000003.{member}": data})
    found = faults(ade)
    assert any(what in text for _, text in found[kind]), found
    assert not {"shard", "checksum", "index"} & found.keys()


def test_an_image_of_another_size(ade, tmp_path):
    rewrite(
        ade, "shard-000001", {"ADE_train_00000003.jpg": encode_jpeg(picture(np.random.default_rng(0), (20, 30)), 90)}
    )
    assert faults(ade) == {
        "size": [("shard-000001.tar ADE_train_00000003.jpg", "is (20, 30), the index says (24, 32)")]
    }


def test_manifest_counts_must_be_the_sums(ade):
    edit_manifest(ade, lambda manifest: manifest["classes"]["native"][0].update(pixels=0))
    assert faults(ade) == {"count": [("manifest.json", "class counts are not the sums of those of the shards")]}


def test_over_a_network_only_what_is_stored_counts(ade):
    """Bytes that flip on their way are fetched again; those that lie there flipped are found, and named."""
    with serving(ade, share=0.3, faults=("flip",), seed=4) as server:
        for _ in range(2):
            assert verify(server.url).ok
        assert len(server.failed) >= 4
        span = open_shards(ade).entry(2).members["native.png"]
        tar = bytearray((ade / "shard-000001.tar").read_bytes())
        tar[span.offset + 40] ^= 1
        (ade / "shard-000001.tar").write_bytes(tar)
        assert verify(server.url).faults == verify(ade).faults
    assert [fault.where for fault in verify(ade).faults["checksum"]] == [
        "shard-000001.tar ADE_train_00000003.native.png"
    ]
