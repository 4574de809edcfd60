"""Real servers: nginx where it is installed, and the S3 server that SEGSTREAM_TEST_S3 gives (an endpoint URL).

For the latter, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY must hold an account there that may create buckets.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import time
import uuid

import pytest

from shards import open_shards
from shards.errors import DataError
from shards.publish import Target
from shards.reader import open_set
from shards.stores.http import HttpOrigin
from shards.stores.remote import RemoteStore, Retries
from shards.stores.s3 import S3Origin
from shards.verify import verify

S3 = os.environ.get("SEGSTREAM_TEST_S3", "")


@contextlib.contextmanager
def nginx(folder, work, port):
    work.mkdir(exist_ok=True)
    config = f"""
        daemon off; worker_processes 1; pid {work}/pid; error_log {work}/errors; user root;
        events {{ }}
        http {{
            access_log off; client_body_temp_path {work}/body; proxy_temp_path {work}/proxy;
            fastcgi_temp_path {work}/fastcgi; uwsgi_temp_path {work}/uwsgi; scgi_temp_path {work}/scgi;
            server {{ listen 127.0.0.1:{port}; root {folder}; }}
        }}"""
    (work / "conf").write_text(config)
    server = subprocess.Popen(["nginx", "-c", work / "conf"], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while server.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


@pytest.mark.skipif(not shutil.which("nginx"), reason="nginx is not installed")
def test_nginx_and_its_restart_in_the_middle(ade, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = open_shards(ade)
    expected = [own.read(i, "image") for i in range(5)]
    with nginx(ade, tmp_path / "nginx", port) as url:
        shards = open_set(RemoteStore(HttpOrigin(url), Retries(num_attempts=3, sleep=lambda seconds: None)))
        assert [shards.read(i, "image") for i in range(3)] == expected[:3]
        assert verify(url).ok
    with pytest.raises(DataError, match=r"shard-000001\.tar: failed 3 times .*no answer"):
        shards.read(3, "image")
    with nginx(ade, tmp_path / "nginx", port):
        assert [shards.read(i, "image") for i in range(5)] == expected


@pytest.mark.skipif(not S3, reason="SEGSTREAM_TEST_S3 names no server")
def test_a_real_s3_server(ade, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", S3)
    bucket = f"segstream-{uuid.uuid4().hex[:12]}"
    url = f"s3://{bucket}/sets/ade20k-150/train"
    client = S3Origin(url).client()
    client.create_bucket(Bucket=bucket)
    try:
        Target(url).publish(ade)
        own = open_shards(ade)
        with open_shards(url) as shards:
            for i in range(5):
                assert shards.read(i, "image") == own.read(i, "image")
                assert shards.read(i, "native") == own.read(i, "native")
        assert verify(url).ok
        for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            with monkeypatch.context() as patch:
                patch.setenv(variable, "wrong")
                with pytest.raises(DataError, match=r"refused .*check AWS_ACCESS_KEY_ID"):
                    open_shards(url)
    finally:
        for found in client.list_objects_v2(Bucket=bucket).get("Contents", []):
            client.delete_object(Bucket=bucket, Key=found["Key"])
        client.delete_bucket(Bucket=bucket)
