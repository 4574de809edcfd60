"""Where shard sets live: one byte-range interface over URLs. Local files today; other schemes join `open_store`."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from shards.errors import DataError, UsageError


class Store(Protocol):
    """Read access to the files of one shard set; safe to use from several threads, picklable."""

    url: str

    def read(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        """Bytes [start, start + length) of a file, to its end if `length` is None.

        Raises:
            DataError: there is no such file, it cannot be read, or it ends early.
        """
        ...

    def size(self, name: str) -> int | None:
        """Bytes of a file, None if there is none."""
        ...


class LocalStore:
    """A folder of this machine."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.url = str(folder)

    def read(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        """See `Store.read`."""
        path = self.folder / name
        try:
            with path.open("rb", buffering=0) as file:
                file.seek(start)
                data = file.readall() if length is None else _read_exactly(file, length)
        except FileNotFoundError as error:
            raise DataError(f"{path}: missing; run the conversion again, it keeps what is whole") from error
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror or error}); check the disk") from error
        if length is not None and len(data) != length:
            raise DataError(
                f"{path}: ends after {start + len(data)} bytes, expected {start + length}; run the conversion again"
            )
        return data

    def size(self, name: str) -> int | None:
        """See `Store.size`."""
        try:
            return (self.folder / name).stat().st_size
        except OSError:
            return None


def open_store(url: str | Path) -> Store:
    """The store of a shard set's URL.

    Raises:
        UsageError: a scheme that is not supported.
        DataError: no such folder.
    """
    folder = local_path(url)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give the folder DATASET/SPLIT that `segstream shard` wrote")
    return LocalStore(folder)


def local_path(url: str | Path) -> Path:
    """The folder that a path or file:// URL names.

    Raises:
        UsageError: another kind of URL.
    """
    if isinstance(url, Path) or "://" not in url:
        return Path(url)
    parts = urlsplit(url)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        raise UsageError(f"{url}: {parts.scheme}:// is not supported here; give a path or a file:// URL")
    return Path(unquote(parts.path))


def _read_exactly(file: object, length: int) -> bytes:
    pieces = []
    while length > 0 and (piece := file.read(length)):  # type: ignore[attr-defined]
        pieces.append(piece)
        length -= len(piece)
    return b"".join(pieces)
