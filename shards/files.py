"""Files that appear whole or not at all, and one writer at a time per folder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from segstream.shards.errors import DataError

PART = ".part"  # suffix of a file being written; whatever bears it is nobody's data
ADVICE = "check the folder and free space"
RUN_AGAIN = "make room or choose another --out, then run the same command again: finished shards are kept"
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextlib.contextmanager
def replacing(path: Path, *, advice: str = ADVICE, durable: bool = False, ending: str = PART) -> Iterator[Path]:
    """A neighbour of `path` to write to: it takes the name `path` once the block has ended well, and goes otherwise.

    One process at a time may write `path`; see `sole_writer`.

    Args:
        advice: what to do if the system refuses.
        durable: not even a power cut shortly after leaves less than the whole file.
        ending: of the neighbour's name, for libraries that go by it.

    Raises:
        DataError: the system refuses a write (disk full, quota, permission); `path` is what it was before.
    """
    part = path.with_name(path.name + ending)
    try:
        yield part
        if durable:
            _sync(part)
        part.replace(path)
        if durable:
            _sync(path.parent)  # without this, a power cut may forget the rename
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror or error}); {advice}") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def writing(path: Path, *, advice: str = ADVICE, durable: bool = True) -> Iterator[BinaryIO]:
    """Open a file for `replacing` `path`; raises as it does."""
    with replacing(path, advice=advice, durable=durable) as part, part.open("wb") as file:
        yield file


def write_bytes(path: Path, data: bytes, *, advice: str = ADVICE) -> None:
    """Write a file whole or not at all, and its folder if need be.

    Raises:
        DataError: the system refuses.
    """
    with replacing(path, advice=advice) as part:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8; as `write_bytes` does."""
    write_bytes(path, text.encode())


def make_folder(folder: Path, *, asked_by: str = "--out") -> None:
    """Create a folder and its parents; `asked_by` is where the user named it.

    Raises:
        DataError: the system refuses.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: cannot be created ({error.strerror}); choose another {asked_by}") from error


@contextlib.contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Hold a folder for the block; the lock dies with its process, so a killed run never blocks the next.

    Raises:
        DataError: another process holds it.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        if not lock(handle):
            raise DataError(f"{folder}: another process is writing here; wait for it, or stop it")
        yield
    finally:
        os.close(handle)


def lock(handle: int, *, wait: bool = False, children: bool = True) -> bool:
    """Lock an open file or folder until it is closed, at the latest by the end of this process.

    Args:
        wait: until nobody else holds it.
        children: processes that inherit the open file hold it too, and keep it if they live longer. Without, the
            file has to be open for writing, and this process must not open and close it again meanwhile.

    Returns:
        It is ours; False if another process holds it. Where a file system knows no locks, nobody is kept out.
    """
    try:
        (fcntl.flock if children else fcntl.lockf)(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return True


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
