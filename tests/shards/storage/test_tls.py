"""Stores that speak TLS with a certificate of a CA that the system does not know."""

import contextlib
import socket
import threading

import pytest

from segstream.shards.checks.verify import verify
from segstream.shards.errors import DataError
from segstream.shards.format.reader import open_set, open_shards
from segstream.shards.storage.http import HttpOrigin
from segstream.shards.storage.remote import RemoteStore, Retries
from segstream.shards.storage.s3 import S3Origin
from tests.shards.servers import KEY, SECRET, serving
from tests.shards.services import NoServiceError, certificate
from tests.shards.shared import refusal

VARIABLE = {"https": "SSL_CERT_FILE", "s3": "AWS_CA_BUNDLE"}
ACCOUNT = {"access_key_id": KEY, "secret_access_key": SECRET, "region": "us-east-1"}


@pytest.fixture(autouse=True)
def nothing_of_this_machine(account, monkeypatch):
    for name in (*VARIABLE.values(), "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    try:
        return certificate(tmp_path_factory.mktemp("tls"))
    except NoServiceError as error:
        pytest.skip(str(error))


@pytest.fixture(params=["https", "s3"])
def secure(request, ade, tls, tmp_path, monkeypatch):
    """(kind, URL of the set `ade`, its server, its origin): over HTTPS, then in a bucket."""
    if request.param == "s3":
        pytest.importorskip("boto3")
    (tmp_path / "server/bucket").mkdir(parents=True)
    (tmp_path / "server/bucket/train").symlink_to(ade)
    with serving(tmp_path / "server", tls=tls, s3=request.param == "s3") as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        url = "s3://bucket/train" if request.param == "s3" else f"{server.url}/bucket/train"
        yield request.param, url, server


def origin(kind, url):
    return S3Origin(url, account=ACCOUNT) if kind == "s3" else HttpOrigin(url)


def test_a_ca_that_a_variable_names_is_trusted(secure, ade, tls, monkeypatch):
    kind, url, _ = secure
    monkeypatch.setenv(VARIABLE[kind], str(tls.ca))
    with open_shards(url) as shards, open_shards(ade) as own:
        assert [shards.read(i, "image") for i in range(5)] == [own.read(i, "image") for i in range(5)]
    assert verify(url).ok


@pytest.mark.parametrize("named", [None, "no such file"])
def test_an_unknown_ca_is_told_at_once(secure, monkeypatch, tmp_path, named):
    kind, url, server = secure
    if named:
        monkeypatch.setenv(VARIABLE[kind], str(tmp_path / named))
    waits = []
    said = refusal(lambda: open_set(RemoteStore(origin(kind, url), Retries(sleep=waits.append))))
    assert said.startswith(f"{url}/manifest.json: the server's certificate is not trusted (")
    assert said.endswith(
        f"; if a CA of your own has signed it, set {VARIABLE[kind]} to the file of that CA's certificate"
    )
    assert waits == []
    assert server.requests == []


def test_a_certificate_of_another_host_is_refused(secure, tls, monkeypatch):
    kind, url, server = secure
    monkeypatch.setenv(VARIABLE[kind], str(tls.ca))
    elsewhere = server.url.replace("127.0.0.1", "localhost.localdomain")
    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *rest, **more: real("127.0.0.1", *rest, **more))
    monkeypatch.setenv("AWS_ENDPOINT_URL", elsewhere)
    with pytest.raises(DataError, match=r"not trusted \(.*localhost\.localdomain"):
        open_shards(url.replace(server.url, elsewhere))


@pytest.mark.parametrize("kind", ["https", "s3"])
def test_a_connection_cut_in_the_handshake_is_tried_again(kind):
    if kind == "s3":
        pytest.importorskip("boto3")
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    connection.recv(1 << 16)
                    connection.close()

        thread = threading.Thread(target=hang_up, daemon=True)
        thread.start()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        account = ACCOUNT | {"endpointurl": url}
        source = S3Origin("s3://bucket/train", account=account) if kind == "s3" else HttpOrigin(f"{url}/train")
        with pytest.raises(DataError, match=r"train/manifest\.json: failed 3 times"):
            open_set(RemoteStore(source, Retries(num_attempts=3, sleep=lambda seconds: None)))
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(timeout=5)
