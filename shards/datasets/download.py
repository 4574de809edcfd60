"""Releases that may be had without registration: downloaded, resumed, checked, remembered, unpacked.

Below the target folder, `archives/` holds what was downloaded (and may be deleted once unpacked), `downloads.json` what
is known of it: the SHA-256 of the first complete download, with which any later one is compared.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from segstream.shards.datasets.registry import Archive, registry
from segstream.shards.datasets.unpack import unpack
from segstream.shards.errors import DataError, UsageError
from segstream.shards.files import PART, make_folder, sole_writer, writing
from segstream.shards.schema import parse

RECORDS = "downloads.json"
ARCHIVES = "archives"
_REJECTED = ".rejected"
_TRIES = 8  # in a row, none of which got further than those before
_LONGEST_WAIT_S = 60.0
_TIMEOUT_S = 60.0
_CHUNK = 1 << 20
_TRY_AGAIN = (408, 425, 429)  # and all from 500 on
_NOTHING_MORE = 416

Report = Callable[[int, int], None]
Watch = Callable[[str, str], AbstractContextManager[Report]]
"""(what, unit) -> where to tell how far it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is remembered of an archive."""

    url: str | None = None
    bytes: int | None = None
    """Of the whole file, as the server or the file itself told."""
    validator: str | None = None
    """Entity tag or date of the content of which a part is here."""
    sha256: str | None = None
    """Of the first complete download."""
    unpacked: bool = False


def download(
    name: str,
    folder: Path,
    *,
    watch: Watch = lambda what, unit: contextlib.nullcontext(lambda done, total: None),
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Record]:
    """Download a release and unpack it, so that `folder` is its raw root; goes on where an earlier run stopped.

    Args:
        watch: opened for each download and each unpacking, and told how many MB of how many are done.
        sleep: waits between tries.

    Returns:
        By archive, what is remembered of it.

    Raises:
        UsageError: an unknown dataset, or one whose archives the registry has no addresses of.
        DataError: a server that fails for good, a file of another size or content than known, a damaged or unsafe
            archive, a disk that refuses.
    """
    facts = registry().get(name)
    if facts is None or not facts.downloads:
        can = ", ".join(known for known, f in registry().items() if f.downloads)
        where = f"; get it from {facts.home}" if facts else ""
        raise UsageError(f"{name!r} cannot be downloaded from here{where} (--download knows {can})")
    make_folder(folder / ARCHIVES)
    with sole_writer(folder):
        book = _Book(folder / RECORDS)
        for archive in facts.archives:
            known = book.get(archive.name)
            if known.unpacked and all((folder / target).is_dir() for target in archive.unpack.values()):
                continue
            path = folder / archive.name if archive.inside else folder / ARCHIVES / archive.name
            if archive.inside and not path.is_file():
                raise DataError(
                    f"{path}: missing; remove {archive.inside} from {folder / RECORDS} and run again to unpack it anew"
                )
            digest = known.sha256
            if archive.url:
                with watch(f"download {archive.name}", "MB") as report:
                    digest = _obtain(archive, path, book, report, sleep)
            with watch(f"unpack {archive.name}", "MB") as report:
                unpack(path, archive.unpack, folder, report)
            book.put(archive.name, sha256=digest, unpacked=True)
    return book.records


class _Book:
    """The records on disk; every change is written at once."""

    def __init__(self, path: Path):
        self.path = path
        self.records: dict[str, Record] = {}
        if path.exists():
            try:
                content = json.loads(path.read_bytes())
                self.records = {name: parse(Record, known, at=f"{path}: {name}") for name, known in content.items()}
            except (OSError, ValueError, AttributeError) as error:
                raise DataError(
                    f"{path}: cannot be read ({error}); mend it, or remove it to trust new files"
                ) from error

    def get(self, name: str) -> Record:
        return self.records.get(name, Record())

    def put(self, name: str, **changes: Any) -> None:
        self.records[name] = replace(self.get(name), **changes)
        with writing(self.path, advice="make room, then run the same command again") as file:
            file.write(json.dumps({n: asdict(record) for n, record in self.records.items()}, indent=2).encode() + b"\n")


def _obtain(archive: Archive, path: Path, book: _Book, report: Report, sleep: Callable[[float], None]) -> str:
    """Have the whole archive at `path`, of the size and content that are known; its SHA-256."""
    assert archive.url is not None
    part = path.with_name(path.name + PART)
    fresh = not path.exists()
    if fresh:
        _fetch(archive, part, book, report, sleep)
    here = part if fresh else path
    size = here.stat().st_size
    digests = _digests(here)
    wrong = _difference(archive, book.get(archive.name), size, digests)
    if wrong:
        rejected = here.replace(path.with_name(path.name + _REJECTED))
        raise DataError(
            f"{archive.name}: {wrong}; it is kept as {rejected}; run again to download it anew, or if the publisher "
            f"has changed it and you trust that, remove its entry from {book.path}"
        )
    here.replace(path)
    book.put(archive.name, url=archive.url, bytes=size, validator=None, unpacked=False)
    return digests["sha256"]  # recorded once the archive has proved whole, by being unpacked


def _difference(archive: Archive, known: Record, size: int, digests: dict[str, str]) -> str | None:
    """How a whole file differs from what is known of it."""
    if archive.bytes is not None and size != archive.bytes:
        return f"{size} bytes, expected {archive.bytes}"
    algorithm, _, digest = (archive.digest or "").partition(":")
    if digest and digests[algorithm] != digest:
        return f"{algorithm} {digests[algorithm]}, published is {digest}"
    if known.sha256 is not None and digests["sha256"] != known.sha256:
        return f"sha256 {digests['sha256']}, the first download had {known.sha256}"
    return None


def _digests(path: Path) -> dict[str, str]:
    hashes = {name: hashlib.new(name, usedforsecurity=False) for name in ("md5", "sha256")}
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            for one in hashes.values():
                one.update(chunk)
    return {name: one.hexdigest() for name, one in hashes.items()}


def _fetch(archive: Archive, part: Path, book: _Book, report: Report, sleep: Callable[[float], None]) -> None:
    """Try until the whole file is at `part`; gives up after some tries in a row that brought nothing new."""
    furthest, failures = _size(part), 0
    while True:
        try:
            _try(archive, part, book, report)
            return
        except _TryAgainError as error:
            reason = str(error)
        furthest, failures = max(furthest, _size(part)), 0 if _size(part) > furthest else failures + 1
        if failures >= _TRIES:
            raise DataError(
                f"{archive.url}: {reason}, {_TRIES} times in a row; {_size(part)} bytes are kept, and the same command "
                f"goes on there"
            )
        sleep(min(2.0 ** max(failures - 1, 0), _LONGEST_WAIT_S))


class _TryAgainError(Exception):
    """It may work the next time."""


def _try(archive: Archive, part: Path, book: _Book, report: Report) -> None:
    """One request for what is still missing.

    Raises:
        _TryAgainError: it failed, or ended early.
        DataError: it will not work.
    """
    known, have = book.get(archive.name), _size(part)
    if known.validator is None:  # nothing tells that the rest would be of the same content
        have = 0
    if have and have == known.bytes:
        return
    with _open(archive, part, known, have) as response:
        total = _total(response)
        if archive.bytes is not None and total not in (None, archive.bytes):
            raise DataError(
                f"{archive.url}: {total} bytes, expected {archive.bytes}; the publisher offers another file"
            )
        validator = _validator(response)
        resumed = response.status == http.client.PARTIAL_CONTENT
        same = (_start(response), total) == (have, known.bytes) and validator in (None, known.validator)
        if resumed and not same:
            part.unlink()
            raise _TryAgainError("the server sends another part, or another file, than was asked for")
        if not resumed:
            part.unlink(missing_ok=True)
            book.put(archive.name, url=archive.url, bytes=total, validator=validator)
        _receive(response, part, report, total)
    if total is not None and _size(part) != total:
        raise _TryAgainError(f"the connection ended after {_size(part)} of {total} bytes")


@contextlib.contextmanager
def _open(archive: Archive, part: Path, known: Record, have: int) -> Iterator[http.client.HTTPResponse]:
    headers = {"User-Agent": "segstream", "Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": known.validator or ""}
    assert archive.url is not None
    try:
        with urllib.request.urlopen(
            urllib.request.Request(archive.url, headers=headers), timeout=_TIMEOUT_S
        ) as response:
            if response.headers.get_content_type() == "text/html":
                raise DataError(
                    f"{archive.url}: the server sends a web page instead of the file; download {archive.name} with a "
                    f"browser into {part.parent} and run again"
                )
            yield response
    except urllib.error.HTTPError as error:
        if error.code == _NOTHING_MORE:
            part.unlink(missing_ok=True)
        elif error.code not in _TRY_AGAIN and error.code < http.client.INTERNAL_SERVER_ERROR:
            raise DataError(
                f"{archive.url}: the server answers {error.code} ({error.reason}); it may have moved: download "
                f"{archive.name} yourself into {part.parent} and run again"
            ) from error
        raise _TryAgainError(f"the server answers {error.code} ({error.reason})") from error
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        raise _TryAgainError(f"the connection failed ({getattr(error, 'reason', None) or error})") from error


def _receive(response: http.client.HTTPResponse, part: Path, report: Report, total: int | None) -> None:
    try:
        file = part.open("ab")
    except OSError as error:
        raise _refused(part, error) from error
    with file:
        while chunk := response.read1(_CHUNK):  # what has come, so that a cut loses none of it
            try:
                file.write(chunk)
            except OSError as error:
                raise _refused(part, error) from error
            done = file.tell()
            report(done // 10**6, (total or done) // 10**6)


def _refused(path: Path, error: OSError) -> DataError:
    return DataError(f"{path}: cannot be written ({error.strerror}); make room, then run the same command again")


def _total(response: http.client.HTTPResponse) -> int | None:
    """Bytes of the whole file, if the server says."""
    if response.status == http.client.PARTIAL_CONTENT:
        last = response.headers.get("Content-Range", "").rpartition("/")[2]
    else:
        last = response.headers.get("Content-Length", "")
    return int(last) if last.isdecimal() else None


def _start(response: http.client.HTTPResponse) -> int | None:
    first = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(first[1]) if first else None


def _validator(response: http.client.HTTPResponse) -> str | None:
    """What `If-Range` takes: a strong entity tag, or a date."""
    tag = response.headers.get("ETag")
    if tag is not None and not tag.startswith("W/"):
        return tag
    return response.headers.get("Last-Modified")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
