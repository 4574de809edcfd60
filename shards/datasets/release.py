"""A release as downloaded: a folder, and the zip archives that lie in it as if they were unpacked there.

Names come from lists, JSON files and archives of other people, so none may lead out of the folder by `..`. Links are
whoever made the folder's own and are followed wherever they lead (large releases often lie on several disks); one that
leads in a circle is an error, not an endless walk.
"""

from __future__ import annotations

import bisect
import errno
import functools
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from segstream.shards.codecs.images import TooLargeError, check_bytes
from segstream.shards.errors import DataError
from segstream.shards.files import refused

_PACKED = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".7z", ".rar")
BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError)  # the last: encrypted, or packed by unknown means
MAC_COPIES = "__MACOSX/"  # what macOS adds to archives: copies of names, not of files


class Release:
    """Read access to one release; picklable, and each process opens the archives for itself.

    A zip at the top of the folder counts as unpacked there, with and without its top folder if it has a single one;
    files on disk go first. Paths are relative to the root, with `/`.
    """

    def __init__(self, root: Path):
        self.root = root

    def __reduce__(self) -> tuple[type[Release], tuple[Path]]:
        return Release, (self.root,)

    def __str__(self) -> str:
        return str(self.root)

    def has(self, path: str) -> bool:
        """There is such a file, or a link of that name, wherever it leads: reading it will say."""
        if escapes(path):
            return False
        place = self.root / path
        return place.is_symlink() or place.is_file() or self._zipped(path) is not None

    def has_folder(self, path: str) -> bool:
        """There is such a folder, on disk or in an archive."""
        return not escapes(path) and ((self.root / path).is_dir() or any(z.has_folder(path) for z in self._archives))

    def below(self, folder: str, end: str = "") -> tuple[str, ...]:
        """Paths of all files below a folder whose names end so, relative to it, sorted.

        Raises:
            DataError: a folder cannot be listed, or a link leads in a circle.
        """
        prefix = f"{folder.strip('/')}/" if folder.strip("/.") else ""
        on_disk = () if escapes(folder) else walk(self.root / folder)
        found = {name for name in on_disk if name.endswith(end)}
        for archive in self._archives:
            found.update(name for name in archive.below(prefix) if name.endswith(end))
        return tuple(sorted(found))

    def size(self, path: str) -> int:
        """Bytes of a file; 0 if it is missing."""
        try:
            return self._place(path).stat().st_size
        except OSError:
            member = self._zipped(path)
            return member[1].file_size if member else 0

    def read(self, path: str) -> bytes:
        """A file's bytes.

        Raises:
            FileNotFoundError: there is none.
            OSError: it cannot be read, is larger than what is read, or is no path below the root; `strerror` says why.
        """
        place = self._place(path)
        try:
            check_bytes(self.size(path))
            return place.read_bytes()
        except TooLargeError as error:
            raise OSError(errno.EFBIG, str(error), path) from error
        except FileNotFoundError:
            member = self._zipped(path)
            if member is None:
                raise
            return member[0].read(member[1])

    def required(self, path: str, advice: str) -> bytes:
        """A file's bytes, without which the release is of no use.

        Raises:
            DataError: it cannot be read; `advice` says what to do.
        """
        with refused(f"{self}/{path}: cannot be read", advice):
            return self.read(path)

    def packed(self) -> tuple[str, ...]:
        """Names of archives at the top that are not read in place."""
        return tuple(path.name for path in self._top(_PACKED))

    def _place(self, path: str) -> Path:
        """Where a path lies on disk.

        Raises:
            PermissionError: it is none below the root.
        """
        if escapes(path):
            raise PermissionError(errno.EPERM, f"absolute, or with `..`; paths are relative to {self.root}", path)
        return self.root / path

    def _zipped(self, path: str) -> tuple[_Archive, zipfile.ZipInfo] | None:
        return next(((z, z.members[path]) for z in self._archives if path in z.members), None)

    @functools.cached_property
    def _archives(self) -> tuple[_Archive, ...]:
        zips = ((path, path.stat()) for path in self._top((".zip",)) if path.is_file())
        return tuple(_archive(path, state.st_size, state.st_mtime_ns) for path, state in zips)

    def _top(self, ends: tuple[str, ...]) -> list[Path]:
        try:
            return sorted(path for path in self.root.iterdir() if path.name.lower().endswith(ends))
        except OSError:
            return []


@dataclass(frozen=True, slots=True)
class _Archive:
    """An open zip."""

    path: Path
    file: zipfile.ZipFile
    members: Mapping[str, zipfile.ZipInfo]
    """By path, and by path below the single top folder."""
    names: tuple[str, ...]
    """Those paths, sorted."""

    def below(self, prefix: str) -> Iterator[str]:
        if not prefix:  # of all there is, each file once
            yield from {member.filename for member in self.members.values()}
            return
        for name in self.names[bisect.bisect_left(self.names, prefix) :]:
            if not name.startswith(prefix):
                return
            yield name.removeprefix(prefix)

    def has_folder(self, path: str) -> bool:
        return next(self.below(f"{path.strip('/')}/"), None) is not None

    def read(self, member: zipfile.ZipInfo) -> bytes:
        try:
            with self.file.open(member) as file:
                return file.read(member.file_size + 1)  # no more is unpacked, whatever follows
        except BROKEN_ZIP as error:
            raise OSError(errno.EIO, f"member of {self.path}: {error}", member.filename) from error


@functools.lru_cache(maxsize=64)
def _archive(path: Path, size: int, changed: int) -> _Archive:
    """Open a zip and list it, once per process and state of the file.

    Raises:
        DataError: not a whole zip, or one with names that cannot be unpacked.
    """
    try:
        file = zipfile.ZipFile(path)
    except (*BROKEN_ZIP, OSError, ValueError) as error:  # the last: offsets before the file's beginning
        raise DataError(f"{path}: not a whole zip ({error}); download it again, or remove it") from error
    members: dict[str, zipfile.ZipInfo] = {}
    for member in file.infolist():
        name = member.filename
        if member.is_dir() or name.startswith(MAC_COPIES) or name.rpartition("/")[2].startswith("._"):
            continue
        if escapes(name):
            raise DataError(f"{path}: holds the name {name!r}, which is absolute or has `..`; remove the archive")
        if name in members and members[name].CRC != member.CRC:
            raise DataError(f"{path}: holds two different files {name!r}; download it again")
        members[name] = member
    tops = {name.partition("/")[0] for name in members}
    if len(tops) == 1:
        top = f"{tops.pop()}/"
        members |= {n.removeprefix(top): m for n, m in list(members.items()) if n.startswith(top)}
    return _Archive(path, file, members, tuple(sorted(members)))


def walk(folder: Path, relative: str = "", above: tuple[str, ...] = ()) -> Iterator[str]:
    """Paths of all files below a folder, relative to it; links are followed, and given where they lead nowhere.

    Args:
        relative, above: of the walk's own steps down: the path so far, and the true places of the folders passed.

    Raises:
        DataError: a folder cannot be listed, or a link leads in a circle.
    """
    real = os.path.realpath(folder)
    if real in above or (above and Path(above[0]).is_relative_to(real)):
        raise DataError(f"{folder}: a link to a folder above it, a circle; remove the link")
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror})") from error
    for entry in entries:
        if _is_folder(entry):
            yield from walk(folder / entry.name, f"{relative}{entry.name}/", (*above, real))
        elif not entry.name.startswith("._") and (entry.is_symlink() or entry.is_file()):
            yield relative + entry.name


def escapes(path: str) -> bool:
    """The name is absolute, or could lead out of its folder by `..`."""
    return path.startswith("/") or "\0" in path or ".." in path.split("/")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
