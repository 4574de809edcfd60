"""What a store of shard sets is: one byte-range interface. Local folders are here, others in the modules beside."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote

from segstream.shards.errors import DataError, UsageError

REQUEST_COST = 1 << 20  # bytes that a connection could have carried in the time of one request: 20 ms at 50 MB/s
Check = Callable[[bytes], None]
"""Raises DataError if bytes are not those that were meant."""


class Store(Protocol):
    """Read access to the files of one shard set; safe to use from several threads, picklable."""

    url: str
    remote: bool
    """A request takes time and may fail on its way."""

    def read(self, name: str, start: int = 0, length: int | None = None, *, check: Check | None = None) -> bytes:
        """Bytes [start, start + length) of a file, to its end if `length` is None.

        Args:
            check: asked about what was read; from a remote store, bytes that it refuses are fetched again.

        Raises:
            DataError: there is no such file, it cannot be read, it ends early, or `check` refuses it.
        """

    def size(self, name: str) -> int | None:
        """Bytes of a file, None if there is none."""

    def close(self) -> None:
        """Let go of connections and threads; the store can be used again."""


class LocalStore:
    """A folder of this machine."""

    remote = False

    def __init__(self, folder: Path):
        self.folder = folder
        self.url = str(folder)

    def read(self, name: str, start: int = 0, length: int | None = None, *, check: Check | None = None) -> bytes:
        """See `Store.read`."""
        path = self.folder / name
        try:
            with path.open("rb", buffering=0) as file:
                file.seek(start)
                data = file.read(-1 if length is None else length)
        except FileNotFoundError as error:
            raise DataError(f"{path}: missing; run the conversion again, it keeps what is whole") from error
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
        if length is not None and len(data) != length:
            what = f"ends after {start + len(data)} bytes, expected {start + length}"
            raise DataError(f"{path}: {what}; run the conversion again")
        if check is not None:
            check(data)
        return data

    def size(self, name: str) -> int | None:
        """See `Store.size`."""
        try:
            return (self.folder / name).stat().st_size
        except OSError:
            return None

    def close(self) -> None:
        """See `Store.close`; nothing is held open."""


def scheme_of(url: str | Path) -> str:
    """What stands before `://`, in small letters; `file` for a path."""
    return url.partition("://")[0].lower() if isinstance(url, str) and "://" in url else "file"


def below(url: str, *names: str) -> str:
    """The URL of what lies below another; a query, where the kind of URL has one, stays at its end."""
    queried = scheme_of(url) in ("http", "https", "dvc")
    root, mark, query = url.partition("?") if queried else (url, "", "")
    return "/".join((root.removesuffix("/"), *names)) + mark + query


def local_path(url: str | Path) -> Path:
    """The folder that a path or file:// URL names.

    Raises:
        UsageError: another kind of URL.
    """
    if isinstance(url, Path) or "://" not in url:
        return Path(url)
    host, slash, path = url.partition("://")[2].partition("/")
    if scheme_of(url) != "file" or host not in ("", "localhost"):
        raise UsageError(f"{url}: {scheme_of(url)}:// is not supported here; give a path or a file:// URL")
    return Path(unquote(slash + path))
