"""A small file server for tests, and a proxy before a real one, that can fail in every way a network does."""

import base64
import contextlib
import hashlib
import http.client
import random
import socket
import ssl
import struct
import threading
import time
import urllib.parse
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

KEY, SECRET = "tester", "testing-secret"
PASSED_ON = ("content-range", "content-type", "etag", "accept-ranges")
FAULTS = ("503", "429", "reset", "stall", "truncate", "flip", "nolength")


@dataclass
class Server:
    """What it serves, how it misbehaves, and what it has been asked."""

    folder: Path
    ranges: bool = True
    redirect: str = ""
    """Where everything is to be found instead."""
    s3: bool = False
    anonymous: bool = False
    """Only who signs nothing may read."""
    share: float = 0.0
    """Of the answers that fail in one of the ways of `faults`."""
    faults: tuple[str, ...] = FAULTS
    seed: int = 0
    stall_s: float = 0.6
    delay_s: float = 0.0
    """Before every answer: how far away it is."""
    upstream: str = ""
    """Of a proxy: the server whose answers it passes on."""
    headers: dict[str, str | None] = field(default_factory=dict)
    """Sent with files, in place of an entity tag made of size and time."""
    length: bool = True
    """Whether files come with their Content-Length."""
    script: list[str | None] = field(default_factory=list)
    """What becomes of the next answers, before chance decides; None: all well."""
    url: str = ""
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    """(method, path, Range)."""
    conditions: list[str | None] = field(default_factory=list)
    """If-Range of each."""
    logins: list[tuple[str | None, str | None]] = field(default_factory=list)
    """(Authorization, Proxy-Authorization) of each."""
    failed: list[str] = field(default_factory=list)
    metadata: dict[Path, str] = field(default_factory=dict)
    """SHA-256 told with what was written."""
    connections: int = 0
    sent: int = 0
    """Bytes of bodies."""

    def __post_init__(self):
        self.rng = random.Random(self.seed)
        self.lock = threading.Lock()
        self.stop = threading.Event()

    def fault(self) -> str | None:
        with self.lock:
            if self.script:
                found = self.script.pop(0)
            else:
                found = self.rng.choice(self.faults) if self.rng.random() < self.share else None
            if found:
                self.failed.append(found)
            return found


def proxying(upstream: str, **options):
    """A server that passes requests on to another one and spoils some of the answers."""
    return serving(Path(), upstream=upstream, **options)


@contextlib.contextmanager
def serving(folder: Path, tls=None, **options):
    """`tls`: a `services.Certificate` to speak HTTPS with."""
    server = Server(folder, **options)

    class Handler(_Proxy if server.upstream else _Handler):
        state = server

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, request, client_address):
            pass  # the client hung up, as some tests want

    listener = Quiet(("127.0.0.1", 0), Handler)
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls.chain, tls.key)
        listener.socket = context.wrap_socket(listener.socket, server_side=True)
    server.url = f"{'https' if tls else 'http'}://127.0.0.1:{listener.server_port}"
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stop.set()
        listener.shutdown()
        listener.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    state: Server

    def setup(self):
        super().setup()
        self.state.connections += 1

    def handle_expect_100(self):
        going_on = super().handle_expect_100()
        self.wfile.flush()
        return going_on

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.state.requests.append((self.command, self.path, self.headers.get("Range")))
        self.state.conditions.append(self.headers.get("If-Range"))
        self.state.logins.append((self.headers.get("Authorization"), self.headers.get("Proxy-Authorization")))
        time.sleep(self.state.delay_s)
        fault = self.state.fault()
        if fault == "reset":
            self._reset()
            return
        if fault and fault.isdigit():
            self._answer(int(fault), b"later")
            return
        if fault == "stall":
            self.state.stop.wait(self.state.stall_s)
            self.close_connection = True
            return
        self._serve(fault)

    do_HEAD = do_GET  # noqa: N815

    def _serve(self, fault):
        if self.state.redirect:
            self._answer(302, b"", {"Location": self.state.redirect + self.path})
            return
        if self.state.s3 and not self._known():
            self._s3_error(403, "InvalidAccessKeyId")
            return
        path = self.state.folder / urllib.parse.unquote(urllib.parse.urlsplit(self.path).path).lstrip("/")
        if self.state.s3 and path.is_dir() and path.parent == self.state.folder:  # a bucket
            self._answer(200, b"")
            return
        if not path.is_file():
            self._s3_error(404, "NoSuchKey") if self.state.s3 else self._answer(404, b"no such file")
            return
        self._send(path, fault)

    def do_PUT(self):
        self.state.requests.append((self.command, self.path, None))
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.state.fault()
        if fault:
            self._answer(503, b"later")
            return
        if not self._known():
            self._s3_error(403, "InvalidAccessKeyId")
            return
        path = self.state.folder / urllib.parse.unquote(urllib.parse.urlsplit(self.path).path).lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        if base64.b64encode(hashlib.md5(data).digest()).decode() != self.headers["Content-MD5"]:
            self._s3_error(400, "BadDigest")
            return
        path.write_bytes(data)
        self.state.metadata[path] = self.headers.get("x-amz-meta-sha256", "")
        self._answer(200, b"")

    def do_DELETE(self):
        self.state.requests.append((self.command, self.path, None))
        if not self._known():
            self._s3_error(403, "InvalidAccessKeyId")
            return
        (self.state.folder / urllib.parse.unquote(urllib.parse.urlsplit(self.path).path).lstrip("/")).unlink(True)
        self._answer(204, b"")

    def _known(self):
        signed = self.headers.get("Authorization", "")
        return not signed if self.state.anonymous else f"Credential={KEY}/" in signed

    def _send(self, path, fault):
        data, total, status, extra = path.read_bytes(), path.stat().st_size, 200, {}
        tags = {"ETag": f'"{total}-{path.stat().st_mtime_ns}"'} | self.state.headers
        asked = self.headers.get("Range")
        if asked and self.state.ranges and self.headers.get("If-Range") in (None, *tags.values()):
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, stop = int(first), min(int(last) + 1 if last else total, total)
            if start >= total:
                self._s3_error(416, "InvalidRange") if self.state.s3 else self._answer(416, b"")
                return
            data, status = data[start:stop], 206
            extra = {"Content-Range": f"bytes {start + (fault == 'other part')}-{stop - 1}/{total}"}
        if path in self.state.metadata:
            extra["x-amz-meta-sha256"] = self.state.metadata[path]
        if fault == "page":
            extra["Content-Type"] = "text/html; charset=utf-8"
        self._answer(status, data, extra | {name: value for name, value in tags.items() if value}, fault)

    def _answer(self, status, data, extra=None, fault=None, length=None):
        self.send_response(status)
        for name, value in (extra or {}).items():
            self.send_header(name, value)
        if fault == "nolength" or not self.state.length:
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(len(data) if length is None else length))
        self.end_headers()
        if self.command == "HEAD" or not data:
            return
        if fault == "flip":
            damaged = bytearray(data)
            damaged[self.state.rng.randrange(len(damaged))] ^= 1 << self.state.rng.randrange(8)
            data = bytes(damaged)
        if fault in ("truncate", "nolength"):
            data = data[: self.state.rng.randrange(len(data))]
            self.close_connection = True
        if fault and fault.startswith(("cut ", "end ")):
            data = data[: int(fault[4:])]
            self.close_connection = True
        self.wfile.write(data)
        self.state.sent += len(data)
        if fault and fault.startswith("cut "):
            self.wfile.flush()
            self._reset()

    def _s3_error(self, status, code):
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()
        self._answer(status, body, {"Content-Type": "application/xml"})

    def _reset(self):
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()


class _Proxy(_Handler):
    """Host and signature go through as they are."""

    def setup(self):
        super().setup()
        self.beyond = http.client.HTTPConnection(urllib.parse.urlsplit(self.state.upstream).netloc, timeout=60)

    def finish(self):
        self.beyond.close()
        super().finish()

    def _serve(self, fault):
        self.beyond.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            self.beyond.putheader(name, value)
        self.beyond.endheaders()
        response = self.beyond.getresponse()
        data = response.read()
        kept = {name: value for name, value in response.getheaders() if name.lower() in PASSED_ON}
        self._answer(response.status, data, kept, fault, length=response.headers.get("Content-Length"))
