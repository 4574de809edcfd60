"""Files of a web server, by Range requests over connections that stay open."""

import base64
import contextlib
import http.client
import io
import re
import socket
import sys
import time
import urllib.request
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import quote, unquote, urljoin

import urllib3
from urllib3.exceptions import HTTPError, LocationParseError, NewConnectionError, ProxyError, SSLError
from urllib3.util import Url, parse_url

from segstream.shards.errors import DataError, UsageError, public
from segstream.shards.storage import remote
from segstream.shards.storage.remote import Origin, RangeRead, TransientError, number

TIMEOUT_S = 20.0  # to connect, between two arrivals of bytes, and for all of an answer but its body
SLOWEST = 1 << 16  # bytes a second, on average, of a body beyond that time
HEADERS = 1 << 20  # bytes of status and headers, and of a body that nobody asked for
TRY_AGAIN = (408, 425, 429)  # and all from 500 on
CONNECTIONS = 32
REDIRECTS = 5
_LOGIN = "the server or proxy needs a login (USER:PASSWORD@ before its name), a signature, or another than it has"
_NO_RANGES = (
    "the server does not answer Range requests, so every sample would cost a whole shard; "
    "serve the files with one that does (nginx, any object store), or copy them to this machine"
)


class HttpOrigin(Origin):
    """A folder of a web server. `user:password@` is sent to that server alone; a query is sent with every file."""

    def __init__(self, url: str, *, timeout_s: float = TIMEOUT_S):
        """Raises UsageError: not a URL."""
        super().__init__(public(url).partition("?")[0], timeout_s)
        self._parts = _parsed(url)

    def get(self, name: str, start: int, stop: int) -> RangeRead:
        """See `Origin.get`."""
        response = self.request("GET", name, {"Range": f"bytes={start}-{stop - 1}"})
        try:
            remote.require_plain(response.headers, where=f"{self.url}/{name}")
            total = self._total(response, name, start, stop)
            data = response.read(stop - start + 1, decode_content=False)
            return RangeRead(data, total, response.headers.get("ETag"))
        except (HTTPError, OSError) as error:
            raise TransientError(f"the connection broke ({error})") from error
        finally:
            response.close()  # back in the pool by now if all was read

    def head(self, name: str) -> int:
        """See `Origin.head`."""
        response = self.request("HEAD", name, {})
        response.drain_conn()  # there is no body; this frees the connection
        length = number(response.headers.get("Content-Length"))
        if length is None:
            raise DataError(f"{self.url}/{name}: the server does not tell its length; {_NO_RANGES}")
        return length

    def request(
        self, method: str, name: str, headers: Mapping[str, str], *, accept: Collection[int] = (200, 206)
    ) -> urllib3.BaseHTTPResponse:
        """An answer of one of these statuses, its body still to be read; raises as `get` does."""
        where = f"{self.url}/{name}".rstrip("/")
        at = self._parts._replace(auth=None)
        if name:
            at = at._replace(path=f"{(at.path or '').rstrip('/')}/{quote(name)}")
        for _ in range(1 + REDIRECTS):
            response = self._ask(method, at, headers, where)
            if not (target := response.get_redirect_location()):
                break
            response.close()
            at = _redirected(at, target, where)
        if response.status in accept:
            return response
        response.close()
        said = f"the server answers {response.status} {ascii(response.reason or '')[1:-1]}".rstrip()
        if response.status in (404, 410):
            raise remote.MissingError(said)
        if response.status in TRY_AGAIN or response.status >= 500:
            raise TransientError(said, wait_s=number(response.headers.get("Retry-After")) or 0.0)
        if response.status == 416:
            raise DataError(f"{where}: ends before the bytes that were asked for; upload it again")
        raise DataError(f"{where}: {said}; {_LOGIN if response.status in (401, 403, 407) else 'check the URL'}")

    def _ask(self, method: str, at: Url, headers: Mapping[str, str], where: str) -> urllib3.BaseHTTPResponse:
        headers = {"User-Agent": "segstream", "Accept-Encoding": "identity"} | dict(headers)
        if self._parts.auth and at[2:4] == self._parts[2:4] and at.scheme == self._parts.scheme:  # host, port
            headers["Authorization"] = _basic(self._parts.auth)
        try:
            response: urllib3.BaseHTTPResponse = self.client().request(
                method, at.url, headers=headers, preload_content=False, redirect=False, retries=False
            )
        except LocationParseError:
            raise UsageError(f"{where}: not a URL; correct it") from None
        except (HTTPError, OSError) as error:
            if isinstance(error, SSLError):
                remote.require_trust(error, where=where, variable="SSL_CERT_FILE")
            if isinstance(error, ProxyError) and " 407 " in str(error):
                raise DataError(f"{where}: the proxy answers 407; {_LOGIN}") from error
            reached = not isinstance(error, (NewConnectionError, ProxyError, SSLError))
            raise TransientError(f"no answer ({error})", reached=reached) from error
        return response

    def _total(self, response: urllib3.BaseHTTPResponse, name: str, start: int, stop: int) -> int:
        """Bytes of the whole file."""
        if response.status == 206:
            return remote.total_of(response.headers.get("Content-Range"), start)
        length = number(response.headers.get("Content-Length"))
        if start == 0 and length is not None and length <= stop:
            return length  # all of a small file, as good as a range
        raise DataError(f"{self.url}/{name}: {_NO_RANGES}")

    def connect(self) -> urllib3.PoolManager:
        """See `Origin.connect`."""
        options: dict[str, Any] = {"maxsize": CONNECTIONS, "timeout": self._timeout_s}
        proxy = proxy_for(self._parts)
        if proxy is None:
            manager = urllib3.PoolManager(**options)
        else:
            login = {"Proxy-Authorization": _basic(proxy.auth)} if proxy.auth else None
            manager = urllib3.ProxyManager(proxy._replace(auth=None).url, proxy_headers=login, **options)
        manager.pool_classes_by_scheme = bounded(manager.pool_classes_by_scheme)
        return manager


def proxy_for(server: Url) -> Url | None:
    """The proxy on the way to a server that the environment (`https_proxy`, `no_proxy`, ...) asks for.

    Raises:
        UsageError: one that cannot work.
    """
    proxy = urllib.request.getproxies().get(server.scheme or "")
    if not proxy or urllib.request.proxy_bypass(server.netloc or ""):
        return None
    found = _parsed(proxy if "://" in proxy else f"http://{proxy}", f"{server.scheme}_proxy: ")
    if found.scheme not in ("http", "https"):
        what = f"{found.scheme}:// is no proxy that can be used"
        raise UsageError(f"{server.scheme}_proxy: {what}; write http://HOST:PORT")
    return found


def bounded(pools: Mapping[str, Any]) -> dict[str, Any]:
    """urllib3's classes of connection pools, by scheme, with answers that are `_BoundedAnswer`s."""
    found = {}
    for scheme, pool in pools.items():
        connection = type(pool.ConnectionCls.__name__, (pool.ConnectionCls,), {"response_class": _BoundedAnswer})
        found[scheme] = type(pool.__name__, (pool,), {"ConnectionCls": connection})
    return found


class _BoundedAnswer(http.client.HTTPResponse):
    """An answer with limits in time and bytes as a whole, not only between two arrivals of bytes.

    Status and headers, `100 Continue` repeated included, have the socket's time-out; a body has what is left of it and
    as long as it takes at `SLOWEST` bytes a second.
    """

    def __init__(self, sock: socket.socket, *arguments: Any, **options: Any):
        super().__init__(sock, *arguments, **options)
        self._arriving = _Arriving(self.fp.detach(), sock)
        self.fp = io.BufferedReader(self._arriving)

    def begin(self) -> None:
        """Read status and headers."""
        super().begin()
        self._arriving.s_per_byte = 1 / SLOWEST
        if self.status < http.client.MULTIPLE_CHOICES and self._method == "GET":  # type: ignore[attr-defined]
            self._arriving.left = sys.maxsize  # whoever asked knows how much to read


class _Arriving(io.RawIOBase):
    """What a socket receives, until time or bytes have run out."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket):
        self._raw, self._sock, self._idle_s = raw, sock, sock.gettimeout() or TIMEOUT_S
        self._end, self.left, self.s_per_byte = time.monotonic() + self._idle_s, HEADERS, 0.0

    def readable(self) -> bool:
        """See `io.RawIOBase`."""
        return True

    def readinto(self, buffer: Any) -> int:
        """See `io.RawIOBase`."""
        left_s = self._end - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the answer as a whole took too long")
        if self.left <= 0:
            raise http.client.HTTPException(f"over {HEADERS} bytes of headers, or of an answer that should be short")
        self._sock.settimeout(min(left_s, self._idle_s))
        count: int = self._raw.readinto(buffer)
        self.left -= count
        self._end += count * self.s_per_byte
        return count

    def close(self) -> None:
        """See `io.RawIOBase`."""
        self._raw.close()
        super().close()


def _parsed(url: str, what: str = "") -> Url:
    with contextlib.suppress(LocationParseError):
        found = parse_url(re.sub("#|%(?![0-9A-Fa-f]{2})", lambda sign: quote(sign[0]), url))
        if found.host:
            return found
    scheme, _, rest = url.partition("://")
    raise UsageError(f"{what}{scheme}://{rest.rpartition('@')[2]}: not a URL; correct it")


def _redirected(at: Url, target: str, where: str) -> Url:
    """Where a redirect leads: to the same scheme, or from http to https."""
    try:
        found = parse_url(urljoin(at.url, target))._replace(fragment=None)
    except ValueError:  # LocationParseError is one
        found = Url()
    if not found.host or found.scheme not in (at.scheme, "https"):
        raise DataError(f"{where}: the server redirects to {target[:200]!r}, which is not followed; check the URL")
    return found._replace(auth=None)


def _basic(login: str) -> str:
    """The header for a login as it stands in a URL."""
    return "Basic " + base64.b64encode(unquote(login).encode()).decode()
