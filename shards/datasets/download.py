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
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from segstream.shards.datasets.registry import Archive, registry
from segstream.shards.datasets.unpack import unpack
from segstream.shards.errors import DataError, UsageError
from segstream.shards.files import PART, make_folder, sole_writer, write_text
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

Progress = Callable[[int, int], None]
Watch = Callable[[str, str], AbstractContextManager[Progress]]
"""(what, unit) -> where to tell how far it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
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
) -> dict[str, Download]:
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
        remembered = _Remembered.load(folder / RECORDS)
        for archive in facts.archives:
            known = remembered.get(archive.name)
            if known.unpacked and all((folder / target).is_dir() for target in archive.unpack.values()):
                continue
            path = folder / archive.name if archive.inside else folder / ARCHIVES / archive.name
            if archive.inside and not path.is_file():
                raise DataError(
                    f"{path}: missing; remove {archive.inside} from {folder / RECORDS} and run again to unpack it anew"
                )
            digest = known.sha256
            if archive.url:
                with watch(f"download {archive.name}", "MB") as progress:
                    digest = _obtain(_Transfer(archive, path, remembered, progress), sleep)
            with watch(f"unpack {archive.name}", "MB") as progress:
                unpack(path, archive.unpack, folder, progress)
            remembered.put(archive.name, sha256=digest, unpacked=True)
    return remembered.downloads


@dataclass(slots=True)
class _Remembered:
    """`downloads.json`; every change is written at once."""

    path: Path
    downloads: dict[str, Download] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> _Remembered:
        if not path.exists():
            return cls(path)
        try:
            content = json.loads(path.read_bytes())
            return cls(path, {name: parse(Download, known, at=f"{path}: {name}") for name, known in content.items()})
        except (OSError, ValueError, AttributeError) as error:
            raise DataError(f"{path}: cannot be read ({error}); mend it, or remove it to trust new files") from error

    def get(self, name: str) -> Download:
        return self.downloads.get(name, Download())

    def put(self, name: str, **changes: Any) -> None:
        self.downloads[name] = replace(self.get(name), **changes)
        write_text(self.path, json.dumps({n: asdict(one) for n, one in self.downloads.items()}, indent=2) + "\n")


@dataclass(frozen=True, slots=True)
class _Transfer:
    """One archive on its way from the publisher."""

    archive: Archive
    path: Path
    remembered: _Remembered
    progress: Progress

    @property
    def part(self) -> Path:
        """What is here of it."""
        return self.path.with_name(self.path.name + PART)

    @property
    def have(self) -> int:
        """Bytes of that."""
        return self.part.stat().st_size if self.part.exists() else 0

    def request(self) -> str | None:
        """Ask once for what is still missing.

        Returns:
            Why it should be tried again; None if the file is whole.

        Raises:
            DataError: it will not work.
        """
        known, have = self.remembered.get(self.archive.name), self.have
        if known.validator is None:  # nothing tells that the rest would be of the same content
            have = 0
        if have and have == known.bytes:
            return None
        headers = {"User-Agent": "segstream", "Accept-Encoding": "identity"}
        if have:
            headers |= {"Range": f"bytes={have}-", "If-Range": known.validator or ""}
        url = str(self.archive.url)
        try:
            with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT_S) as response:
                return self._receive(response, known, have)
        except urllib.error.HTTPError as error:
            answer = f"the server answers {error.code} ({error.reason})"
            if error.code == _NOTHING_MORE:
                self.part.unlink(missing_ok=True)
            elif error.code not in _TRY_AGAIN and error.code < http.client.INTERNAL_SERVER_ERROR:
                raise DataError(
                    f"{url}: {answer}; it may have moved: download {self.archive.name} yourself into "
                    f"{self.part.parent} and run again"
                ) from error
            return answer
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            return f"the connection failed ({getattr(error, 'reason', None) or error})"

    def _receive(self, response: http.client.HTTPResponse, known: Download, have: int) -> str | None:
        archive, part = self.archive, self.part
        if response.headers.get_content_type() == "text/html":
            raise DataError(
                f"{archive.url}: the server sends a web page instead of the file; download {archive.name} with a "
                f"browser into {part.parent} and run again"
            )
        start, total = _range(response)
        if archive.bytes is not None and total not in (None, archive.bytes):
            raise DataError(
                f"{archive.url}: {total} bytes, expected {archive.bytes}; the publisher offers another file"
            )
        validator = _validator(response)
        if response.status != http.client.PARTIAL_CONTENT:
            part.unlink(missing_ok=True)
            self.remembered.put(archive.name, url=archive.url, bytes=total, validator=validator)
        elif (start, total) != (have, known.bytes) or validator not in (None, known.validator):
            part.unlink()
            return "the server sends another part, or another file, than was asked for"
        with _refusals(part):
            file = part.open("ab")
        with file:
            while chunk := response.read1(_CHUNK):  # what has come, so that a cut loses none of it
                with _refusals(part):
                    file.write(chunk)
                done = file.tell()
                self.progress(done // 10**6, (total or done) // 10**6)
        if total is not None and self.have != total:
            return f"the connection ended after {self.have} of {total} bytes"
        return None


def _obtain(transfer: _Transfer, sleep: Callable[[float], None]) -> str:
    """Have the whole archive, of the size and content that are known; its SHA-256."""
    archive, path, remembered = transfer.archive, transfer.path, transfer.remembered
    here = path
    if not path.exists():
        here = transfer.part
        _fetch(transfer, sleep)
    size, digests = here.stat().st_size, _digests(here)
    if wrong := _difference(archive, remembered.get(archive.name), size, digests):
        rejected = here.replace(path.with_name(path.name + _REJECTED))
        raise DataError(
            f"{archive.name}: {wrong}; it is kept as {rejected}; run again to download it anew, or if the publisher "
            f"has changed it and you trust that, remove its entry from {remembered.path}"
        )
    here.replace(path)
    remembered.put(archive.name, url=archive.url, bytes=size, validator=None, unpacked=False)
    return digests["sha256"]  # recorded once the archive has proved whole, by being unpacked


def _fetch(transfer: _Transfer, sleep: Callable[[float], None]) -> None:
    """Try until the whole file is here; gives up after some tries in a row that brought nothing new."""
    furthest, failures = transfer.have, 0
    while reason := transfer.request():
        furthest, failures = max(furthest, transfer.have), 0 if transfer.have > furthest else failures + 1
        if failures >= _TRIES:
            raise DataError(
                f"{transfer.archive.url}: {reason}, {_TRIES} times in a row; {transfer.have} bytes are kept, and the "
                f"same command goes on there"
            )
        sleep(min(2.0 ** max(failures - 1, 0), _LONGEST_WAIT_S))


def _difference(archive: Archive, known: Download, size: int, digests: dict[str, str]) -> str | None:
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


@contextlib.contextmanager
def _refusals(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{path}: cannot be written ({error.strerror}); make room, then run the same command again"
        ) from error


def _range(response: http.client.HTTPResponse) -> tuple[int | None, int | None]:
    """Where the bytes begin in the whole file, and how many that has; None where the server does not say."""
    if response.status == http.client.PARTIAL_CONTENT:
        found = re.match(r"bytes (\d+)-[^/]*/(\d+)?", response.headers.get("Content-Range", ""))
        return (int(found[1]), int(found[2]) if found[2] else None) if found else (None, None)
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() else None


def _validator(response: http.client.HTTPResponse) -> str | None:
    """What `If-Range` takes: a strong entity tag, or a date."""
    tag = response.headers.get("ETag")
    return tag if tag is not None and not tag.startswith("W/") else response.headers.get("Last-Modified")
