"""Files written whole or not at all, and locks that die with their process."""

import contextlib
import errno
import fcntl
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

from segstream.shards import files
from segstream.shards.errors import DataError, UsageError
from segstream.shards.files import (
    append,
    break_links,
    lock,
    replacing,
    sole_writer,
    staging,
    user_folder,
    write_bytes,
    write_text,
    writing,
)

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


def _made(folder: Path, *, fails: bool = False) -> list[str]:
    """The files that a piece of work finds; it then writes one more."""
    with staging(folder) as part:
        assert part != folder
        found = sorted(file.name for file in part.iterdir())
        (part / f"file-{len(found)}").write_text("done")
        if fails:
            raise OSError("not ours to explain")
    return found


def test_a_folder_appears_whole_and_work_that_failed_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "out" / "a"
    for kept in ([], ["file-0"]):
        with pytest.raises(OSError, match="not ours to explain"):
            _made(folder, fails=True)
        assert not folder.exists()
        assert sorted(f.name for f in (tmp_path / "out/.partial/a").iterdir()) == [*kept, f"file-{len(kept)}"]
    assert _made(folder) == ["file-0", "file-1"]
    assert sorted(file.name for file in folder.iterdir()) == ["file-0", "file-1", "file-2"]
    assert _made(folder) == []  # what is whole is no place to go on in: it is replaced
    assert [file.name for file in folder.iterdir()] == ["file-0"]
    assert not (tmp_path / "out/.partial").exists()
    with staging(folder, when=False) as place:
        assert place == folder


def test_work_of_former_code_is_not_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError, match="not ours"):
        _made(tmp_path / "a", fails=True)
    monkeypatch.setattr(files, "_our_code", lambda: "edited")
    assert _made(tmp_path / "a") == []


def test_links_become_files_of_their_own(tmp_path: Path) -> None:
    cache, run = tmp_path / "cache", tmp_path / "run"
    for folder in (cache, run):
        folder.mkdir()
    for name in ("hard", "soft"):
        (cache / name).write_text("cached")
        (cache / name).chmod(0o444)
    (run / "hard").hardlink_to(cache / "hard")
    (run / "soft").symlink_to(cache / "soft")
    (run / "own").write_text("own")
    break_links(run.rglob("*"))
    for path in run.iterdir():
        assert path.read_text() == ("own" if path.name == "own" else "cached")
        path.write_text("written")
    assert {path.read_text() for path in cache.iterdir()} == {"cached"}


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EIO])
def test_what_a_file_system_does_not_offer_is_done_without(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    for module, name in ((fcntl, "flock"), (fcntl, "lockf"), (os, "fsync")):
        monkeypatch.setattr(module, name, refuse)
    refused = (
        pytest.raises(DataError, match="/a: cannot be written") if number == errno.EIO else contextlib.nullcontext()
    )
    with refused, writing(tmp_path / "a") as file, sole_writer(tmp_path):
        assert lock(file.fileno(), children=False)
    assert (tmp_path / "a").exists() == (number != errno.EIO)


def test_a_full_disk_names_the_file(tmp_path):
    (tmp_path / "log").symlink_to("/dev/full")
    with pytest.raises(DataError, match=r"/log: cannot be written \(No space left on device\); check the folder"):
        append(tmp_path / "log", b"1")
    append(tmp_path / "deep/a", b"1")
    append(tmp_path / "deep/a", b"2")
    assert (tmp_path / "deep/a").read_bytes() == b"12"


def test_a_left_over_part_that_is_a_link_is_not_written_through(tmp_path):
    (tmp_path / "cached").write_text("cached")
    (tmp_path / "a.part").symlink_to("cached")
    write_text(tmp_path / "a", "caf\udce9")
    assert (tmp_path / "cached").read_text() == "cached"
    assert (tmp_path / "a").read_bytes() == b"caf\xe9"


def test_without_a_home_a_variable_is_asked_for(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert user_folder("XDG_CACHE_HOME", ".cache") == Path("/somewhere")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/a")
    assert user_folder("XDG_CACHE_HOME", ".cache") == Path("/home/a/.cache")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
    with pytest.raises(UsageError, match=r"^no HOME, and user \d+ is not in passwd; set HOME or XDG_CACHE_HOME$"):
        user_folder("XDG_CACHE_HOME", ".cache")
