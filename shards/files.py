"""Files that appear whole or not at all, and one writer at a time per folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from segstream.shards.errors import DataError

PART = ".part"  # suffix of a file being written; whatever bears it is nobody's data


@contextlib.contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary neighbour of `path` that takes its name once the block has ended well.

    Raises:
        DataError: the system refuses a write (disk full, quota, permission); nothing is left under `path`'s name
            that was not there before.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}{PART}")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be written ({error.strerror or error}); make room or choose another --out, "
            f"then run the same command again: finished shards are kept"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


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
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(f"{folder}: another process is writing here; wait for it, or stop it") from error
        yield
    finally:
        os.close(handle)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)  # without this, a power cut may forget the rename
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
