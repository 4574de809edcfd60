"""A set that revision 1600adb wrote is read, and written again byte for byte, but for the manifest's digest of itself.

It is of every kind of member: three of four drawn images (one was damaged, so it is listed as left out), JPEGs with row
blocks, relabelled by records of which one was applied to each image.
"""

import hashlib
import tarfile
from pathlib import Path

import pytest

from segstream.shards.checks.verify import verify
from segstream.shards.format.index import dump_index, load_index
from segstream.shards.format.manifest import dump_manifest, load_manifest
from segstream.shards.format.reader import open_shards
from segstream.shards.format.writer import ShardSample, write_shard

SET = Path(__file__).parents[2] / "data/revision-1600adb/shards/bdd/train"


def test_it_is_sound():
    report = verify(SET)
    assert report.ok
    assert (report.shards, report.samples) == (2, 3)


def test_its_members_are_read():
    with open_shards(SET) as shards:
        assert [shards.entry(i).key for i in range(3)] == ["0-x%2Ey", "1-x%2Ey", "3-x%2Ey"]
        assert [shards.entry(i).size_hw for i in range(3)] == [(130, 190)] * 3
        for i, tar in enumerate(("shard-000000.tar", "shard-000000.tar", "shard-000001.tar")):
            with tarfile.open(SET / tar) as file:
                for member in shards.manifest.members:
                    suffix = {"image": "jpg", "json": "json"}.get(member, f"{member}.png")
                    stored = file.extractfile(f"{shards.entry(i).key}.{suffix}")
                    assert stored is not None
                    assert shards.read(i, member) == stored.read()
        for member, head in (("image", b"\xff\xd8"), ("native", b"\x89PNG")):
            rows = shards.read_rows(1, member, 70, 80)
            assert rows is not None
            assert rows.top <= 70
            assert rows.bottom >= 80
            assert rows.head.startswith(head)


def test_what_its_manifest_says_of_relabelling_and_of_samples_left_out():
    manifest = open_shards(SET).manifest
    (left_out,) = manifest.skipped
    assert (left_out.key, left_out.reason) == ("2-x%2Ey", "damaged or truncated JPEG")
    assert manifest.relabel is not None
    assert (manifest.relabel.applied, manifest.relabel.total) == (2, 5)
    assert manifest.relabel.examples[0].image == "train/2-x.y"


def test_its_manifest_and_indexes_would_be_written_the_same():
    data = (SET / "manifest.json").read_bytes()
    written = dump_manifest(load_manifest(data, where=""))
    digest = hashlib.sha256(data).hexdigest()
    assert written == data.removesuffix(b"\n}\n") + f',\n "digest": "{digest}"\n}}\n'.encode()
    assert load_manifest(written, where="").digest == load_manifest(data, where="").digest == digest
    for path in SET.glob("*.idx.json"):
        assert dump_index(load_index(path.read_bytes(), where="")) == path.read_bytes()


@pytest.mark.parametrize("number", [0, 1])
def test_its_tars_would_be_written_the_same(tmp_path, number):
    name = f"shard-{number:06d}"
    index = load_index((SET / f"{name}.idx.json").read_bytes(), where="")
    data = (SET / f"{name}.tar").read_bytes()
    samples = [
        ShardSample(
            key=row.key,
            size_hw=row.size_hw,
            classes=row.classes,
            members={suffix: data[span.offset : span.offset + span.size] for suffix, span in row.members.items()},
            blocks={suffix: span.blocks for suffix, span in row.members.items() if span.blocks},
        )
        for row in index.samples
    ]
    written = write_shard(tmp_path / "a.tar", samples)
    assert (tmp_path / "a.tar").read_bytes() == data
    assert (written.bytes, written.sha256, written.samples) == (index.bytes, index.sha256, index.samples)
