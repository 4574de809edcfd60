import hashlib
import io
import subprocess
import sys
import tarfile

import numpy as np
import pytest
import webdataset as wds

from segstream.shards.errors import DataError
from segstream.shards.format.writer import ShardSample, write_shard


def samples(keys):
    rng = np.random.default_rng(0)
    return [
        ShardSample(
            key=key,
            size_hw=(2, 3),
            classes=(1,),
            members={"native.png": rng.bytes(int(rng.integers(0, 3000))), "jpg": rng.bytes(512), "json": b"{}"},
        )
        for key in keys
    ]


@pytest.mark.parametrize(
    "keys", [["a", "b/c", "d%2Ee"], ["x" * 97 + "/" + "y" * 90], ["z" * 200, "n" * 150]], ids=["short", "path", "long"]
)
def test_a_tar_is_as_if_written_sample_by_sample_and_its_spans_are_those_of_its_headers(tmp_path, keys):
    written = write_shard(tmp_path / "shard.tar", samples(keys))
    file = io.BytesIO()
    with wds.TarWriter(file, encoder=False, mtime=0) as tar:
        for sample in samples(keys):
            tar.write({"__key__": sample.key, **sample.members})
    data = (tmp_path / "shard.tar").read_bytes()
    assert data == file.getvalue()
    assert (written.bytes, written.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    with tarfile.open(tmp_path / "shard.tar") as tar:
        places = {m.name: (m.offset_data, m.size) for m in tar}
    assert {f"{e.key}.{s}": (m.offset, m.size) for e in written.samples for s, m in e.members.items()} == places


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


def test_a_process_that_only_writes_is_spared_torch():
    code = (
        "import sys; from segstream.shards.format.writer import load_tar_writer; load_tar_writer();"
        "import webdataset; assert 'torch' not in sys.modules; import torch; torch.zeros(1)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
