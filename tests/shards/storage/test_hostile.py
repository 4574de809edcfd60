"""Servers that send nonsense, too much, or for ever: an error in one line, soon."""

import contextlib
import gzip
import itertools
import socket
import threading
import time

import pytest

from segstream.shards.errors import DataError
from segstream.shards.storage.http import HttpOrigin
from segstream.shards.storage.remote import RemoteStore, Retries
from segstream.shards.storage.s3 import S3Origin
from tests.shards.shared import refusal

DIGITS = b"9" * 5000
RANGE = b"HTTP/1.1 206 P\r\nContent-Range: bytes 0-9/10\r\n"
PIECES_S = 0.2  # ten of them outlast the time limit even of a client that a busy machine has kept waiting


def headers(*lines):
    return b"\r\n".join((*lines, b"", b""))


@contextlib.contextmanager
def answering(pieces):
    """The URL of a server that answers every request with these pieces."""

    def serve(connection):
        with contextlib.suppress(OSError), connection:
            while b"\r\n\r\n" in connection.recv(1 << 16):
                for piece in pieces():
                    connection.sendall(piece)

    def accept():
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def slowly(*pieces):
    for piece in itertools.chain(pieces, itertools.repeat(b"a")):
        yield piece
        time.sleep(PIECES_S)


ENDLESS = {  # name -> (what is sent, what HTTP says of it)
    "headers": (lambda: slowly(b"HTTP/1.1 206 P\r\n"), "timed out"),
    "body": (lambda: slowly(headers(RANGE.strip(), b"Content-Length: 10")), "timed out"),
    "continue": (lambda: itertools.repeat(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000), "over 1048576 bytes of headers"),
    "long header": (lambda: [RANGE, b"X: " + b"a" * 70_000], "got more than 65536 bytes"),
    "chunks": (
        lambda: itertools.chain([RANGE, b"Transfer-Encoding: chunked\r\n\r\n"], itertools.repeat(b"1\r\na\r\n")),
        "11 of 10 bytes",
    ),
    "refusal": (
        lambda: itertools.chain([b"HTTP/1.1 403 No\r\n\r\n"], itertools.repeat(b"a" * 65536)),
        "answers 403 No",
    ),
}
NONSENSE = {
    "a chunk of exabytes": (
        headers(RANGE + b"Transfer-Encoding: chunked", b"", b"f" * 16) + b"a" * 100,
        "11 of 10 bytes",
    ),
    "a terabyte": (headers(RANGE + b"Content-Length: 1" + b"0" * 12) + b"a" * 100, "11 of 10 bytes"),
    "total": (headers(b"HTTP/1.1 206 P", b"Content-Range: bytes 0-9/" + DIGITS), "other bytes were sent"),
    "start": (headers(b"HTTP/1.1 206 P", b"Content-Range: bytes " + DIGITS + b"-9/10"), "other bytes were sent"),
    "length": (headers(b"HTTP/1.1 200 P", b"Content-Length: " + b"0" * 5000 + b"9") + b"123456789", "Range requests"),
    "a bomb": (headers(RANGE + b"Content-Encoding: gzip", b"Content-Length: 50") + gzip.compress(b"a" * 10), "gzip"),
    "escapes": (headers(b"HTTP/1.1 403 \x1b[2J\x07", b"Content-Length: 0"), r"403 \x1b[2J\x07"),
    "no URL": (headers(b"HTTP/1.1 302 F", b"Location: http://[", b"Content-Length: 0"), "redirects to 'http://["),
    "file": (
        headers(b"HTTP/1.1 302 F", b"Location: file:///etc/passwd", b"Content-Length: 0"),
        "redirects to 'file:///",
    ),
    "gopher": (headers(b"HTTP/1.1 302 F", b"Location: gopher://a/b", b"Content-Length: 0"), "redirects to 'gopher://"),
    "a circle": (headers(b"HTTP/1.1 302 F", b"Location: /x", b"Content-Length: 0"), "answers 302 F"),
    "wait": (headers(b"HTTP/1.1 503 B", b"Retry-After: " + DIGITS, b"Content-Length: 0"), "answers 503 B"),
}


def asked(origin):
    return refusal(lambda: RemoteStore(origin, Retries(num_attempts=2, sleep=lambda seconds: None)).read("x", 0, 10))


@pytest.mark.parametrize("kind", ["http", "s3"])
@pytest.mark.parametrize("name", ENDLESS)
def test_an_answer_as_a_whole_has_limits(account, monkeypatch, kind, name):
    pieces, said = ENDLESS[name]
    if kind == "s3":
        pytest.importorskip("boto3")
    with answering(pieces) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        begun = time.monotonic()
        found = asked(
            (S3Origin if kind == "s3" else HttpOrigin)("s3://bucket/set" if kind == "s3" else url, timeout_s=0.5)
        )
        assert time.monotonic() - begun < 4
    assert said in found or kind == "s3"


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_is_told_in_one_line(name):
    content, said = NONSENSE[name]
    with answering(lambda: [content]) as url:
        found = asked(HttpOrigin(url, timeout_s=2.0))
    assert said in found
    assert found.isprintable()


def test_a_manifest_without_end_is_not_read(monkeypatch):
    monkeypatch.setattr("segstream.shards.storage.remote.LONGEST_TEXT", 9)
    with answering(lambda: [headers(RANGE + b"Content-Length: 10"), b"1234567890"]) as url:
        store = RemoteStore(HttpOrigin(url))
        assert store.read("shard.tar") == b"1234567890"
        with pytest.raises(DataError, match=r"manifest\.json: 10 bytes, at most 9 are read"):
            store.read("manifest.json")
