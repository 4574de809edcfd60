import hashlib
import io
import tarfile

import numpy as np
import pytest
import webdataset as wds

from segstream.shards.errors import DataError
from segstream.shards.format.writer import Sample, write_shard


def samples(keys):
    rng = np.random.default_rng(0)
    return [
        Sample(
            key=key,
            size_hw=(2, 3),
            classes=(1,),
            members={"native.png": rng.bytes(int(rng.integers(0, 3000))), "jpg": rng.bytes(512), "json": b"{}"},
        )
        for key in keys
    ]


@pytest.mark.parametrize(
    "keys", [["a", "b/c", "d%2Ee"], ["x" * 97 + "/" + "y" * 90], ["z" * 200]], ids=["short", "path", "long"]
)
def test_bytes_are_those_of_webdatasets_own_writer(tmp_path, keys):
    written = write_shard(tmp_path / "shard.tar", samples(keys))
    file = io.BytesIO()
    with wds.TarWriter(file, encoder=False, mtime=0) as tar:
        for sample in samples(keys):
            tar.write({"__key__": sample.key, **sample.members})
    data = (tmp_path / "shard.tar").read_bytes()
    assert data == file.getvalue()
    assert (written.bytes, written.sha256) == (len(data), hashlib.sha256(data).hexdigest())


def test_spans_are_those_of_the_tars_headers(tmp_path):
    written = write_shard(tmp_path / "shard.tar", samples(["a", "n" * 150]))
    with tarfile.open(tmp_path / "shard.tar") as tar:
        places = {m.name: (m.offset_data, m.size) for m in tar}
    spans = {f"{r.key}.{s}": (span.offset, span.size) for r in written.rows for s, span in r.members.items()}
    assert spans == places


def test_a_failing_source_leaves_nothing(tmp_path):
    def broken():
        yield from samples(["a"])
        raise RuntimeError("source")

    with pytest.raises(RuntimeError, match="source"):
        write_shard(tmp_path / "shard.tar", broken())
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_gone(tmp_path):
    with pytest.raises(DataError, match=r"none/shard\.tar: cannot be written \(No such file or directory\)"):
        write_shard(tmp_path / "none" / "shard.tar", samples(["a"]))
