"""What files of strangers may make this machine do."""

import time
import zipfile

import pytest
import torch

from segstream.model.weights_file import read_weights_file
from segstream.shards.errors import DataError


def shared(depth, width=10):
    value = [1]
    for _ in range(depth):
        value = [value] * width
    return value


def looped():
    value = {"state_dict": {}}
    value["state_dict"]["again"] = [value]
    return value


def nested(depth):
    value = {}
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"w": torch.zeros(()).expand(10**6, 10**6)}, "its tensors claim 4,000,000,000,000 bytes, in a file of"),
        ({f"w{i}": torch.zeros(()).expand(10**8) for i in range(4)}, "its tensors claim 1,600,000,000 bytes"),
        (shared(20), "its values are nested 50 deep, or shared so that more than 1,000,000 are met"),
        ({"w": torch.ones(1), "args": {"a": shared(30)}}, "its values are nested"),
        (looped(), "its values are nested"),
        (nested(60), "its values are nested"),
        ({"w": torch.ones(3).to_sparse()}, "holds a tensor that is torch.sparse_coo"),
        ({"w": torch.ones(3, device="meta")}, "holds a tensor that is torch.strided, on meta"),
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_what_claims_more_than_it_stores_is_refused_at_once(tmp_path, content, text, zipped):
    path = tmp_path / "w.pt"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    began = time.monotonic()
    with pytest.raises(DataError, match=f"w.pt: {text}"):
        read_weights_file(path)
    assert time.monotonic() - began < 10


def repacked(source, target, **changes):
    """An archive again, packed, with other bytes for some of its records."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, changes.get(name.rpartition("/")[2], old.read(name)))


def test_records_that_unpack_to_more_than_the_file_are_refused(tmp_path):
    torch.save({"w": torch.zeros(5)}, tmp_path / "w.pt")
    repacked(tmp_path / "w.pt", tmp_path / "bomb.pt", **{"0": bytes(50_000_000)})
    with pytest.raises(DataError, match=r"bomb.pt: its records unpack to 50,\d{3},\d{3} bytes, in a file of \d\d,"):
        read_weights_file(tmp_path / "bomb.pt")


def test_a_buffer_of_any_size_is_not_made(tmp_path):
    torch.save({"w": torch.zeros(1), "b": bytearray(5)}, tmp_path / "w.pt")
    with pytest.raises(DataError, match=r"w.pt: its pickle makes a bytearray, of any size"):
        read_weights_file(tmp_path / "w.pt")


def test_a_storage_shorter_than_its_pickle_says_is_not_read_beyond_its_end(tmp_path):
    torch.save({"w": torch.arange(5000.0)}, tmp_path / "w.pt")
    with zipfile.ZipFile(tmp_path / "w.pt") as old, zipfile.ZipFile(tmp_path / "short.pt", "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name)[:8] if name.endswith("/0") else old.read(name))
    with pytest.raises(DataError, match=r"short.pt: "):
        read_weights_file(tmp_path / "short.pt")


def test_what_was_found_is_said(tmp_path):
    pointer = tmp_path / "pointer.pth"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(
        DataError, match=r"56 bytes, the first b'version https://git-lfs.' \(no zip and no safetensors\): no p"
    ):
        read_weights_file(pointer)
    with pytest.raises(DataError, match=r": cannot be read \(Is a directory\)"):
        read_weights_file(tmp_path)


def test_safetensors_without_their_package_are_told_in_a_line(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "safetensors.torch", None)
    (tmp_path / "w.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    with pytest.raises(DataError, match=r"safetensors is not installed; pip install 'segstream\[safetensors\]'"):
        read_weights_file(tmp_path / "w.safetensors")
