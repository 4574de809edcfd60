"""Releases that may be had without registration: downloaded, resumed, checked, remembered, unpacked.

Of a zip or tar, parts are unpacked to other places; nothing is written outside the target folder, and no links at all.

Below the target folder, `archives/` holds what was downloaded (and may be deleted once unpacked), `downloads.json` what
is known of it: the SHA-256 of the first complete download, with which any later one is compared.
"""

import functools
import gzip
import json
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any, NamedTuple

from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError

from segstream.shards.datasets.registry import Archive, registry
from segstream.shards.datasets.release import BROKEN_ZIP, MAC_COPIES, escapes
from segstream.shards.errors import DataError, UsageError
from segstream.shards.files import PART, digest, make_folder, refused, replacing, sole_writer, write_text
from segstream.shards.schema import parse
from segstream.shards.storage import remote
from segstream.shards.storage.http import HttpOrigin
from segstream.shards.storage.remote import Retries, TransientError

RECORDS = "downloads.json"
ARCHIVES = "archives"
_REJECTED = ".rejected"
_CHUNK = 1 << 20
_OK, _PARTIAL, _NOTHING_MORE = 200, 206, 416
_TAR_BLOCK = 512

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
    watch: Watch = lambda what, unit: nullcontext(lambda done, total: None),
    retries: Retries | None = None,
) -> dict[str, Download]:
    """Download a release and unpack it, so that `folder` is its raw root; goes on where an earlier run stopped.

    Args:
        watch: opened for each download and each unpacking, and told how many MB of how many are done.
        retries: how long a server is tried that sends nothing new; by default as SEGSTREAM_RETRY_S says.

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
    retries = retries or remote.retries_from_environment()
    make_folder(folder / ARCHIVES)
    with sole_writer(folder):
        remembered = _Remembered(folder / RECORDS)
        for archive in facts.archives:
            known = remembered[archive.name]
            if known.unpacked and all((folder / target).is_dir() for target in archive.unpack.values()):
                continue
            path = folder / archive.name if archive.inside else folder / ARCHIVES / archive.name
            if archive.inside and not path.is_file():
                advice = f"remove {archive.inside} from {folder / RECORDS} and run again to unpack it anew"
                raise DataError(f"{path}: missing; {advice}")
            sha256 = known.sha256
            if archive.url:
                with watch(f"download {archive.name}", "MB") as progress:
                    sha256 = _Transfer(archive, path, remembered, progress).obtain(retries)
            with watch(f"unpack {archive.name}", "MB") as progress:
                unpack(path, archive.unpack, folder, progress)
            remembered.put(archive.name, sha256=sha256, unpacked=True)
    return remembered


class _Remembered(dict[str, Download]):
    """`downloads.json`; every change is written at once."""

    def __init__(self, path: Path):
        self.path = path
        try:
            for name, known in (json.loads(path.read_bytes()) if path.exists() else {}).items():
                self[name] = parse(Download, known, at=f"{path}: {name}")
        except (OSError, ValueError, AttributeError) as error:
            raise DataError(f"{path}: cannot be read ({error}); mend it, or remove it to trust new files") from error

    def __missing__(self, name: str) -> Download:
        return Download()

    def put(self, name: str, **changes: Any) -> None:
        self[name] = replace(self[name], **changes)
        write_text(self.path, json.dumps({n: asdict(one) for n, one in self.items()}, indent=2) + "\n")


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

    def obtain(self, retries: Retries) -> str:
        """Have the whole archive, of the size and content that are known; its SHA-256."""
        archive, here = self.archive, self.path if self.path.exists() else self.part
        if here == self.part:
            furthest = self.have

            def once() -> None:
                nonlocal furthest
                before = furthest
                try:
                    self._request(origin)
                except TransientError as error:
                    furthest = max(furthest, self.have)
                    error.args, error.further = (f"{error}; {self.have} bytes are kept",), furthest > before
                    raise

            with closing(HttpOrigin(str(archive.url))) as origin:
                remote.tried(once, where=origin.url, retries=retries, heard=self.have > 0)
        size, sha256, first = here.stat().st_size, digest(here), self.remembered[archive.name].sha256
        algorithm, _, published = (archive.digest or "sha256:").partition(":")
        wrong = None
        if archive.bytes not in (None, size):
            wrong = f"{size} bytes, expected {archive.bytes}"
        elif published and (found := digest(here, algorithm)) != published:
            wrong = f"{algorithm} {found}, published is {published}"
        elif first not in (None, sha256):
            wrong = f"sha256 {sha256}, the first download had {first}"
        if wrong:
            rejected = here.replace(self.path.with_name(self.path.name + _REJECTED))
            kept = f"it is kept as {rejected}; run again to download it anew"
            trust = f"if the publisher has changed it and you trust that, remove its entry from {self.remembered.path}"
            raise DataError(f"{archive.name}: {wrong}; {kept}, or {trust}")
        here.replace(self.path)
        self.remembered.put(archive.name, url=archive.url, bytes=size, validator=None, unpacked=False)
        return sha256  # recorded once the archive has proved whole, by being unpacked

    def _request(self, origin: HttpOrigin) -> None:
        """Ask once for what is still missing.

        Raises:
            TransientError: it is not all here yet.
            DataError: it will not work.
        """
        known, have = self.remembered[self.archive.name], self.have
        if known.validator is None:  # nothing tells that the rest would be of the same content
            have = 0
        if have and have == known.bytes:
            return
        headers = {"Range": f"bytes={have}-", "If-Range": known.validator or ""} if have else {}
        try:
            response = origin.request("GET", "", headers, accept=(_OK, _PARTIAL, _NOTHING_MORE))
        except (remote.MissingError, DataError) as error:
            said = str(error).removeprefix(f"{origin.url}: ")
            yourself = f"download {self.archive.name} yourself into {self.part.parent} and run again"
            raise DataError(f"{origin.url}: {said}; it may have moved: {yourself}") from error
        try:
            with refused(f"{self.part}: cannot be written", "make room, then run the same command again"):
                self._receive(response, known, have)
        except HTTPError as error:
            raise TransientError(f"the connection failed ({error})") from error
        finally:
            response.close()

    def _receive(self, response: BaseHTTPResponse, known: Download, have: int) -> None:
        archive, part = self.archive, self.part
        if response.status == _NOTHING_MORE:
            part.unlink(missing_ok=True)
            raise TransientError("the server has less than is here")
        if response.headers.get("Content-Type", "").partition(";")[0] == "text/html":
            advice = f"download {archive.name} with a browser into {part.parent} and run again"
            raise DataError(f"{archive.url}: the server sends a web page instead of the file; {advice}")
        total, tag = remote.number(response.headers.get("Content-Length")), response.headers.get("ETag")
        # what `If-Range` takes: a strong entity tag, or a date
        validator = tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified")
        if response.status == _PARTIAL:
            total, sent = known.bytes, response.headers.get("Content-Range", "")
            asked = sent.startswith(f"bytes {have}-") and sent.endswith(f"/{total or '*'}")
            if not asked or validator not in (None, known.validator):
                part.unlink()
                raise TransientError("the server sends another part, or another file, than was asked for")
        else:
            if archive.bytes is not None and total not in (None, archive.bytes):
                what = f"{total} bytes, expected {archive.bytes}"
                raise DataError(f"{archive.url}: {what}; the publisher offers another file")
            part.unlink(missing_ok=True)
            self.remembered.put(archive.name, url=archive.url, bytes=total, validator=validator)
        with part.open("ab") as file:
            while chunk := response.read1(_CHUNK, decode_content=False):  # what has come: a cut loses none of it
                file.write(chunk)
                done = file.tell()
                self.progress(done // 10**6, (total or done) // 10**6)
        if total is not None and self.have != total:
            raise TransientError(f"the connection ended after {self.have} of {total} bytes")


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
                    raise DataError(f"{path}: holds the name {member.name!r}, which is absolute or has `..`; remove it")
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
        raise DataError(f"{path}: cannot be unpacked ({what}); remove it and run again") from error
    except OSError as error:
        where = error.filename or path
        raise DataError(f"{where}: cannot be written ({error.strerror or error}); make room and run again") from error
    if missing:
        raise DataError(f"{path}: holds nothing below {', '.join(sorted(missing))}; put the archive there that does")
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
