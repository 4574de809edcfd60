"""Files written whole or not at all, and locks that die with their process."""

import contextlib
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

from segstream.shards.errors import DataError
from segstream.shards.files import lock, replacing, sole_writer, write_bytes, write_text, writing

HOLD = "import sys, os; from segstream.shards.files import lock; sys.exit(not lock(os.open({path!r}, os.O_RDWR)))"


def test_a_file_and_its_folder_appear_whole(tmp_path: Path) -> None:
    write_bytes(tmp_path / "deep" / "a.bin", b"1")
    write_text(tmp_path / "deep" / "a.txt", "gr\u00fcn")
    assert (tmp_path / "deep" / "a.bin").read_bytes() == b"1"
    assert (tmp_path / "deep" / "a.txt").read_text(encoding="utf-8") == "gr\u00fcn"
    assert len(list((tmp_path / "deep").iterdir())) == 2


def test_what_fails_leaves_the_former_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"before")
    with contextlib.suppress(RuntimeError), writing(path) as file:
        file.write(b"half")
        assert (tmp_path / "a.part").exists()
        raise RuntimeError
    with pytest.raises(DataError, match=r"/a: cannot be written \(boom\); buy a disk"):
        _fail(path)
    assert [file.name for file in tmp_path.iterdir()] == ["a"]
    assert path.read_bytes() == b"before"


def _fail(path: Path) -> None:
    with replacing(path, advice="buy a disk", ending=".part.x") as part:
        part.write_bytes(b"half")
        assert part.name == "a.part.x"
        raise OSError("boom")


def test_a_durable_file_is_flushed_before_and_its_folder_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed = []
    monkeypatch.setattr(os, "fsync", lambda handle: flushed.append(str(Path(f"/proc/self/fd/{handle}").readlink())))
    with writing(tmp_path / "a") as file:
        file.write(b"1")
    assert flushed == [f"{tmp_path}/a.part", str(tmp_path)]
    write_bytes(tmp_path / "b", b"1")
    assert len(flushed) == 2


def test_a_folder_has_one_writer(tmp_path: Path) -> None:
    again = pytest.raises(DataError, match="another process is writing here")
    with sole_writer(tmp_path), again, sole_writer(tmp_path):
        pass
    with sole_writer(tmp_path):
        pass


@pytest.mark.parametrize("children", [True, False])
def test_another_process_is_kept_out_until_the_file_is_closed(tmp_path: Path, children: bool) -> None:
    def free() -> bool:
        code = HOLD.format(path=str(path)).replace("O_RDWR)", f"O_RDWR), children={children}")
        return subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

    path = tmp_path / "lock"
    with path.open("wb") as file:
        assert lock(file.fileno(), children=children)
        assert not free()
        child = multiprocessing.get_context("fork").Process(target=multiprocessing.Event().wait)
        child.start()
    assert free() is not children
    child.kill()
    child.join()
    assert free()
