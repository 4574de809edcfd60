"""Files of a web server, by Range requests over connections that stay open."""

import urllib.request
from urllib.parse import quote, urlsplit

import urllib3
from urllib3.exceptions import HTTPError, LocationParseError, NewConnectionError, SSLError

from segstream.shards.errors import DataError, UsageError
from segstream.shards.storage.remote import MissingError, Origin, RangeRead, TransientError, require_trust, total_of

TIMEOUT_S = 20.0  # to connect, and between two arrivals of bytes
TRY_AGAIN = (408, 425, 429)  # and all from 500 on
CONNECTIONS = 32
_REDIRECTS = urllib3.Retry(connect=0, read=0, status=0, other=0, redirect=5, respect_retry_after_header=False)
_NO_RANGES = (
    "the server does not answer Range requests, so every sample would cost a whole shard; "
    "serve the files with one that does (nginx, any object store), or copy them to this machine"
)


class HttpOrigin(Origin):
    """A folder of a web server."""

    def __init__(self, url: str, *, timeout_s: float = TIMEOUT_S):
        super().__init__(url, timeout_s)
        try:
            self._parts = urlsplit(self.url)
        except ValueError as error:
            raise UsageError(f"{url}: not a URL ({error}); correct it") from error

    def get(self, name: str, start: int, stop: int) -> RangeRead:
        """See `Origin.get`."""
        response = self._request("GET", name, {"Range": f"bytes={start}-{stop - 1}"})
        try:
            total = self._total(response, name, start, stop)
            return RangeRead(response.read(), total, response.headers.get("ETag"))
        except (HTTPError, OSError) as error:
            raise TransientError(f"the connection broke ({_cause(error)})") from error
        finally:
            response.close()  # back in the pool by now if all was read

    def head(self, name: str) -> int:
        """See `Origin.head`."""
        response = self._request("HEAD", name, {})
        response.drain_conn()  # there is no body; this frees the connection
        length = response.headers.get("Content-Length", "")
        if not length.isdecimal():
            raise DataError(f"{self.url}/{name}: the server does not tell its length; {_NO_RANGES}")
        return int(length)

    def _request(self, method: str, name: str, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        url = f"{self.url}/{quote(name)}"
        headers = {"User-Agent": "segstream", "Accept-Encoding": "identity"} | headers
        try:
            response: urllib3.BaseHTTPResponse = self.client().request(
                method, url, headers=headers, preload_content=False, retries=_REDIRECTS
            )
        except LocationParseError as error:
            raise UsageError(f"{url}: not a URL ({error}); correct it") from error
        except (HTTPError, OSError) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, SSLError):
                require_trust(error, where=url, variable="SSL_CERT_FILE")
            reached = not isinstance(reason, (NewConnectionError, SSLError))
            raise TransientError(f"no answer ({_cause(error)})", reached=reached) from error
        if response.status in (200, 206):
            return response
        response.close()
        said = f"the server answers {response.status} {response.reason or ''}".rstrip()
        if response.status in (404, 410):
            raise MissingError(said)
        if response.status in TRY_AGAIN or response.status >= 500:
            after = response.headers.get("Retry-After", "")
            raise TransientError(said, wait_s=float(after) if after.isdecimal() else 0.0)
        if response.status == 416:
            raise DataError(f"{url}: ends before the bytes that were asked for; upload it again")
        hint = "the URL needs a login" if response.status in (401, 403) else "check the URL"
        raise DataError(f"{url}: {said}; {hint}")

    def _total(self, response: urllib3.BaseHTTPResponse, name: str, start: int, stop: int) -> int:
        """Bytes of the whole file."""
        if response.status == 206:
            return total_of(response.headers.get("Content-Range"), start)
        length = response.headers.get("Content-Length", "")
        if start == 0 and length.isdecimal() and int(length) <= stop:
            return int(length)  # all of a small file, as good as a range
        raise DataError(f"{self.url}/{name}: {_NO_RANGES}")

    def connect(self) -> urllib3.PoolManager:
        """See `Origin.connect`."""
        proxy = urllib.request.getproxies().get(self._parts.scheme)
        if proxy and not urllib.request.proxy_bypass(self._parts.netloc):
            return urllib3.ProxyManager(proxy, maxsize=CONNECTIONS, timeout=self._timeout_s)
        return urllib3.PoolManager(maxsize=CONNECTIONS, timeout=self._timeout_s)


def _cause(error: Exception) -> str:
    """The innermost reason, in one line."""
    return " ".join(str(getattr(error, "reason", None) or error).split())
