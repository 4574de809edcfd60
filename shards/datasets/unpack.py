"""Unpack parts of a zip or tar to other places; nothing is written outside the target folder, and no links at all."""

import functools
import gzip
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, NamedTuple

from segstream.shards.datasets.release import BROKEN_ZIP, MAC_COPIES, escapes
from segstream.shards.errors import DataError
from segstream.shards.files import replacing

_TAR_BLOCK = 512


class _Member(NamedTuple):
    name: str
    size: int
    plain: bool
    """A file, neither link nor device."""
    open: Callable[[], IO[bytes] | None]
    position: int
    """Where in the archive it begins, in bytes."""


def unpack(path: Path, rules: Mapping[str, str], folder: Path, progress: Callable[[int, int], None]) -> int:
    """Unpack those members whose names begin with one of the rules' prefixes, which is replaced by the rule's value.

    Files that are there in their full size are kept, so an interrupted unpacking goes on where it stopped.

    Args:
        progress: called with (MB of the archive done, MB in all).

    Returns:
        The number of files written.

    Raises:
        DataError: the archive is damaged, or holds none of the prefixes, or a name or link that leads out of the
            folder; or the disk refuses.
    """
    total = path.stat().st_size // 10**6
    written, missing, parents = 0, set(rules), set[Path]()
    try:
        with path.open("rb") as file:
            for member in _members(file, path):
                if escapes(member.name):
                    raise DataError(
                        f"{path}: holds the name {member.name!r}, which leads out of its folder; download the archive "
                        f"again"
                    )
                name = member.name.removeprefix("./")
                prefix = max((p for p in rules if name.startswith(p)), key=len, default=None)
                if prefix is None or name.endswith("/") or name.startswith(MAC_COPIES):
                    continue
                missing.discard(prefix)
                if not member.plain:
                    raise DataError(f"{path}: {name!r} is a link or device, not a file; download the archive again")
                target = folder / (rules[prefix] + name.removeprefix(prefix))
                if target.parent not in parents:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    if not target.parent.resolve().is_relative_to(folder.resolve()):
                        raise DataError(f"{target.parent}: a link out of {folder}; put a folder there")
                    parents.add(target.parent)
                written += _write(member, target)
                progress(member.position // 10**6, total)
    except (*BROKEN_ZIP, tarfile.TarError, gzip.BadGzipFile) as error:
        what = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"{path}: damaged ({what}); remove it and run again") from error
    except OSError as error:
        where = error.filename or path
        raise DataError(f"{where}: cannot be written ({error.strerror or error}); make room and run again") from error
    if missing:
        raise DataError(f"{path}: holds nothing below {', '.join(sorted(missing))}; is it the right archive?")
    progress(total, total)
    return written


def _members(file: IO[bytes], path: Path) -> Iterator[_Member]:
    if path.suffix == ".zip":
        with zipfile.ZipFile(file) as archive:
            for info in archive.infolist():
                plain = stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG)
                content = functools.partial(archive.open, info)
                yield _Member(info.filename, info.file_size, plain, content, info.header_offset)
        return
    with tarfile.open(fileobj=file, mode="r:*") as tar:
        for entry in tar:
            name = entry.name + "/" * entry.isdir()
            yield _Member(name, entry.size, entry.isreg(), functools.partial(tar.extractfile, entry), file.tell())
        assert tar.fileobj is not None
        if tar.fileobj is file:  # uncompressed: one that is cut between two members would pass as whole
            file.seek(tar.offset)
            if len(file.read(_TAR_BLOCK)) < _TAR_BLOCK:
                raise tarfile.ReadError("unexpected end of data")
        while tar.fileobj.read(1 << 20):  # to the checksum at the end
            pass


def _write(member: _Member, target: Path) -> bool:
    """Write a member to `target`; False if it is there."""
    if target.is_file() and not target.is_symlink() and target.stat().st_size == member.size:
        return False
    with replacing(target, advice="make room and run again") as part:
        part.unlink(missing_ok=True)  # it may be a link
        content = member.open()
        assert content is not None, "a plain file has content"
        with content, part.open("xb") as file:
            shutil.copyfileobj(content, file, 1 << 20)
            size = file.tell()
        if size != member.size:
            raise EOFError(f"{member.name}: {size} of {member.size} bytes")
    return True
