"""Files and folders that appear whole or not at all, and one writer at a time per folder."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from segstream.shards.errors import DataError, UsageError

PART = ".part"  # suffix of a file being written; whatever bears it is nobody's data
ADVICE = "check the folder and free space"
RUN_AGAIN = "make room or choose another --out, then run the same command again: finished shards are kept"
STAGED = ".partial"  # folder of folders that are not whole yet
_NOT_OFFERED = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EPERM, errno.EINVAL)


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
        with refused(f"{path}: cannot be written", advice):
            part.unlink(missing_ok=True)  # a killed process left it; a cache may have linked it since
            yield part
            if durable:
                _sync(part)
            part.replace(path)
            if durable:
                _sync(path.parent)  # without this, a power cut may forget the rename
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def writing(path: Path, *, advice: str = ADVICE, durable: bool = True) -> Iterator[BinaryIO]:
    """Open a file for `replacing` `path`; raises as it does."""
    with replacing(path, advice=advice, durable=durable) as part, part.open("wb") as file:
        yield file


def write_bytes(path: Path, data: bytes, *, advice: str = ADVICE, durable: bool = False) -> None:
    """Write a file whole or not at all, and its folder if need be; arguments and errors as of `replacing`."""
    with replacing(path, advice=advice, durable=durable) as part:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8; as `write_bytes` does. File names that are not UTF-8 keep their bytes."""
    write_bytes(path, text.encode(errors="surrogateescape"))


def read_left(path: Path) -> dict[str, Any]:
    """The object in a JSON file that an earlier call left; {} if there is none that can be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def append(path: Path, data: bytes) -> None:
    """Add to a file in one write; the next start may find a part of it, if the process was killed.

    Raises:
        DataError: the system refuses.
    """
    with refused(f"{path}: cannot be written"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab", buffering=0) as file:
            if file.write(data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def user_folder(variable: str, name: str) -> Path:
    """The folder that an environment variable names, or `name` in the user's home.

    Raises:
        UsageError: the user has no home: neither HOME nor an entry in passwd, as in a container run under a number.
    """
    try:
        return Path(os.environ.get(variable) or Path.home() / name)
    except RuntimeError as error:
        raise UsageError(f"no HOME, and user {os.getuid()} is not in passwd; set HOME or {variable}") from error


def digest(path: Path, algorithm: str = "sha256") -> str:
    """Of a file's content, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def make_folder(folder: Path, *, asked_by: str = "--out") -> Path:
    """Create a folder and its parents; `asked_by` is where the user named it.

    Raises:
        DataError: the system refuses.
    """
    with refused(f"{folder}: cannot be created", f"choose another {asked_by}"):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def staging(folder: Path, *, when: bool = True) -> Iterator[Path]:
    """A namesake of `folder` in `.partial/` beside it, which takes its place once the block has ended well.

    Until then it stays, however the process ends, and is handed out again as it was left, so that work can go on in
    it: a pipeline that deletes a stage's output before each start does not delete this. If our code has changed since,
    it is handed out empty: what a stage makes must not be partly the work of former code.

    Args:
        when: otherwise it is `folder` itself, and nothing is done.

    Raises:
        DataError: the system refuses.
    """
    if not when:
        yield folder
        return
    part, code, now = folder.parent / STAGED / folder.name, folder.parent / STAGED / f"{folder.name}.code", _our_code()
    with refused(f"{part}: cannot be made"):
        if part.exists() and (not code.exists() or code.read_text(encoding="utf-8") != now):
            shutil.rmtree(part)
        part.mkdir(parents=True, exist_ok=True)
        write_text(code, now)
    yield part
    with refused(f"{part}: cannot be moved to {folder}"):
        if folder.exists():
            shutil.rmtree(folder)
        part.rename(folder)
        code.unlink()
    with contextlib.suppress(OSError):  # others may be at work there
        part.parent.rmdir()


@contextlib.contextmanager
def refused(what: str, advice: str = ADVICE) -> Iterator[None]:
    """The system's refusals in the block become a DataError: what cannot be done, why, and the advice."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{what} ({error.strerror or error}); {advice}") from error


def _our_code() -> str:
    """Digest of all files, code and tables, that conversion and training may depend on."""
    package = Path(__file__).parents[1]
    rooms = [path for room in ("shards", "pipeline", "model") for path in (package / room).rglob("*")]
    files = sorted(f for f in (*package.glob("*.py"), *rooms) if f.is_file() and f.suffix != ".pyc")
    digests = [f"{f.relative_to(package)} {hashlib.sha256(f.read_bytes()).hexdigest()}" for f in files]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def break_links(paths: Iterable[Path]) -> None:
    """Put copies in the place of files that are links or have other names, as in a cache that linked them here.

    Writing to them then changes nothing elsewhere.

    Raises:
        DataError: the system refuses.
    """
    for path in paths:
        if path.is_file() and (path.is_symlink() or path.stat().st_nlink > 1):
            write_bytes(path, path.read_bytes())


@contextlib.contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Hold a folder for the block; the lock dies with its process, so a killed run never blocks the next.

    Raises:
        DataError: another process holds it.
    """
    with _opened(folder) as handle:
        if not lock(handle):
            raise DataError(f"{folder}: another process is writing here; wait for it, or stop it")
        yield


def lock(handle: int, *, wait: bool = False, children: bool = True) -> bool:
    """Lock an open file or folder until it is closed, at the latest by the end of this process.

    Args:
        wait: until nobody else holds it.
        children: processes that inherit the open file hold it too, and keep it if they live longer. Without, the
            file has to be open for writing, and this process must not open and close it again meanwhile.

    Returns:
        It is ours; False if another process holds it. Where a file system knows no locks, nobody is kept out.
    """
    with if_offered():
        try:
            (fcntl.flock if children else fcntl.lockf)(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise
    return True


@contextlib.contextmanager
def if_offered() -> Iterator[None]:
    """For what is left out where the file system does not offer it: locks, flushing a folder, reserving space."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NOT_OFFERED:
            raise


def _sync(path: Path) -> None:
    with _opened(path) as handle, if_offered():
        os.fsync(handle)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    handle = os.open(path, os.O_RDONLY)
    try:
        yield handle
    finally:
        os.close(handle)
