"""Reading over a network: what fails is tried again, what arrives is checked, nothing is ever silently short."""

import contextlib
import logging
import os
import random
import re
import ssl
import time
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from urllib3.util.ssl_match_hostname import CertificateError

from segstream.shards.errors import DataError, UsageError, public
from segstream.shards.storage.base import Check

PIECE = 16 << 20  # bytes of one request when a whole file is read
LONGEST_TEXT = 256 << 20  # bytes of a manifest, an index, a listing
RETRY_S = "SEGSTREAM_RETRY_S"  # environment variable
TOLD_AFTER = 4  # failures of one read: whoever waits for seconds may know what for
_log = logging.getLogger(__name__)

T = TypeVar("T")


class TransientError(Exception):
    """An attempt failed in a way that the next may not."""

    def __init__(self, cause: str, *, wait_s: float = 0.0, reached: bool = True, further: bool = False):
        """What failed.

        Args:
            wait_s: seconds the server asks us to wait.
            reached: a connection came about; else nothing answers at the address, the name has none, or no TLS is
                spoken there.
            further: it got further than those before, so their failures do not count any more.
        """
        super().__init__(public(" ".join(cause.split())))
        self.wait_s, self.reached, self.further = wait_s, reached, further


class MissingError(Exception):
    """The server says that there is no such file."""


class RangeRead(NamedTuple):
    """What one request brought."""

    data: bytes
    total: int
    """Bytes of the whole file."""
    version: str | None
    """Equal for equal contents of the file, such as its entity tag."""


class Origin(ABC):
    """A server's files, one attempt at a time.

    Threads share a client; forked and unpickled copies make their own.
    """

    def __init__(self, url: str, timeout_s: float):
        self.url, self._timeout_s = url.rstrip("/"), timeout_s
        self._clients: dict[int, Any] = {}
        """By process."""

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_clients": {}}

    @abstractmethod
    def get(self, name: str, start: int, stop: int) -> RangeRead:
        """Bytes [start, stop) of a file, or to its end where that comes sooner.

        Raises:
            TransientError: worth another attempt.
            MissingError: there is no such file.
            DataError: the server refuses, or cannot serve ranges.
        """

    @abstractmethod
    def head(self, name: str) -> int:
        """Bytes of a file. Raises as `get` does."""

    @abstractmethod
    def connect(self) -> Any:
        """A new client: whatever holds the connections. Raises as `get` does."""

    def client(self) -> Any:
        """This process's client, without retries of its own: `RemoteStore` does them, for all stores alike."""
        client = self._clients.get(os.getpid())  # without a lock: a fork may happen while another thread holds it
        return self._clients.setdefault(os.getpid(), self.connect()) if client is None else client

    def close(self) -> None:
        """Let go of connections; the origin can be used again."""
        if client := self._clients.pop(os.getpid(), None):
            (getattr(client, "close", None) or client.clear)()


def total_of(content_range: str | None, start: int) -> int:
    """Bytes of the whole file, by the header of an answer that should begin at `start`.

    Raises:
        TransientError: it does not.
    """
    found = re.fullmatch(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18})", content_range or "")
    if found is None or int(found[1]) != start:
        raise TransientError(f"other bytes were sent than asked for ({(content_range or '')[:80]!r})")
    return int(found[2])


def number(header: str | None) -> int | None:
    """What a header says, None if that is no number."""
    return int(header) if header and re.fullmatch(r"[0-9]{1,18}", header) else None


def require_plain(headers: Mapping[str, str], *, where: str) -> None:
    """Raise DataError if a file comes encoded: ranges of it would not be those of the file."""
    encoding = headers.get("Content-Encoding", "")
    if encoding not in ("", "identity", "aws-chunked"):
        what = f"the server sends it encoded ({encoding[:80]!r}) though it was asked not to"
        advice = "switch compression off for these files, on the server and on proxies before it"
        raise DataError(f"{where}: {what}; {advice}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """How long a failing request is tried: no attempt is begun once `budget_s` have passed."""

    budget_s: float = 120.0
    contact_s: float = 5.0
    """Instead of `budget_s` for a server that nothing was ever heard of: its URL is most likely mistyped."""
    num_attempts: int | None = None
    """At most; None: as many as fit."""
    first_wait_s: float = 0.1
    longest_wait_s: float = 10.0
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    chance: Callable[[], float] = random.random
    """Between 0 and 1: the jitter, so that a thousand readers do not come back in the same instant."""

    def wait_s(self, attempt: int, asked_s: float) -> float:
        """Seconds to wait after a failed attempt (counted from 1): twice as long each time, half of it by chance."""
        full = min(self.first_wait_s * 2.0 ** (attempt - 1), self.longest_wait_s)
        return max(full * (0.5 + 0.5 * self.chance()), min(asked_s, self.longest_wait_s))


def retries_from_environment() -> Retries:
    """What SEGSTREAM_RETRY_S (seconds) asks for.

    Raises:
        UsageError: it is no number of seconds.
    """
    text = os.environ.get(RETRY_S)
    if not text:
        return Retries()
    with contextlib.suppress(ValueError):
        if 0 <= (budget_s := float(text)) < float("inf"):
            return Retries(budget_s=budget_s, contact_s=budget_s)
    raise UsageError(f"{RETRY_S}={text}: not a number of seconds; write such as 600, or 0 to try once")


class RemoteStore:
    """A `Store` on top of an `Origin`."""

    remote = True

    def __init__(self, origin: Origin, retries: Retries | None = None):
        self.url = origin.url
        self._origin, self._retries = origin, retries or retries_from_environment()
        self._heard = False

    def read(self, name: str, start: int = 0, length: int | None = None, *, check: Check | None = None) -> bytes:
        """See `Store.read`."""
        wrong: set[int] = set()

        def once() -> bytes:
            data = self._rest(name, start) if length is None else self._range(name, start, length)
            try:
                if check is not None:
                    check(data)
                return data
            except DataError as error:
                crc = zlib.crc32(data)
                if crc in wrong:  # damage on the way differs each time; this is how it is stored
                    raise DataError(f"{error} (fetched {len(wrong) + 1} times, the same wrong bytes again)") from error
                wrong.add(crc)
                raise TransientError(str(error)) from error

        try:
            return self._try(name, once)
        except MissingError as error:
            raise DataError(f"{self.url}/{name}: missing; check the URL, or upload the set again") from error

    def size(self, name: str) -> int | None:
        """See `Store.size`."""
        try:
            return self._try(name, lambda: self._origin.head(name))
        except MissingError:
            return None

    def close(self) -> None:
        """See `Store.close`."""
        self._origin.close()

    def _get(self, name: str, start: int, stop: int) -> RangeRead:
        found = self._origin.get(name, start, stop)
        if len(found.data) != (expected := min(stop, found.total) - start):
            raise TransientError(f"short read, or more than asked for: {len(found.data)} of {expected} bytes came")
        return found

    def _range(self, name: str, start: int, length: int) -> bytes:
        if length == 0:
            return b""
        found = self._get(name, start, start + length)
        if len(found.data) != length:
            what = f"ends after {found.total} bytes, expected {start + length}"
            raise DataError(f"{self.url}/{name}: {what}; upload it again")
        return found.data

    def _rest(self, name: str, start: int) -> bytes:
        """From `start` to the end, in pieces that are each tried again; never pieces of two versions."""
        first = self._get(name, start, start + PIECE)
        if first.total > LONGEST_TEXT and name.endswith((".json", ".dir")):
            raise DataError(f"{self.url}/{name}: {first.total} bytes, at most {LONGEST_TEXT} are read; upload it again")
        pieces = [first.data]
        for at in range(start + PIECE, first.total, PIECE):
            found = self._try(name, lambda at=at: self._get(name, at, at + PIECE))  # type: ignore[misc]
            if (found.version, found.total) != (first.version, first.total):
                raise TransientError("it was replaced while being read")
            pieces.append(found.data)
        return b"".join(pieces)

    def _try(self, name: str, once: Callable[[], T]) -> T:
        found = tried(once, where=f"{self.url}/{name}", retries=self._retries, heard=self._heard)
        self._heard = True
        return found


def require_trust(error: BaseException, *, where: str, variable: str) -> None:
    """Do nothing if `error` comes from anything else than the server's certificate, such as a connection cut.

    Raises:
        DataError: TLS refused the certificate; `variable` is where to name a CA of one's own.
    """
    cause: BaseException | None = error
    while cause is not None:
        # a certificate of another host; a missing file of certificates to trust
        if isinstance(cause, (ssl.SSLCertVerificationError, CertificateError, FileNotFoundError)):
            why = getattr(cause, "verify_message", cause)
            hint = f"if a CA of your own has signed it, set {variable} to the file of that CA's certificate"
            raise DataError(f"{where}: the server's certificate is not trusted ({why}); {hint}") from error
        cause = cause.__context__


def tried(once: Callable[[], T], *, where: str, retries: Retries, heard: bool = True) -> T:
    """What `once` returns, as soon as an attempt at it succeeds.

    Args:
        heard: the server has answered before, so it exists.

    Raises:
        DataError: it failed until attempts or time were used up; names `where`, the attempts and the last cause.
    """
    begun, attempt = retries.clock(), 0
    while True:
        attempt += 1
        try:
            return once()
        except TransientError as error:
            if error.further:
                begun, attempt = retries.clock(), 1
            spent = retries.clock() - begun
            wait_s = retries.wait_s(attempt, error.wait_s)
            heard = heard or error.reached
            budget_s = retries.budget_s if heard else min(retries.contact_s, retries.budget_s)
            if attempt == retries.num_attempts or spent + wait_s > budget_s:
                hint = "that the server is well and reachable" if heard else "the URL, and that the server is up"
                what = f"failed {attempt} times in {spent:.0f} s, lastly: {error}"
                raise DataError(f"{where}: {what}; check {hint}, then run again") from error
            if attempt >= TOLD_AFTER:
                _log.warning("%s: failed %d times (%s); again in %.1f s", where, attempt, error, wait_s)
        retries.sleep(wait_s)
