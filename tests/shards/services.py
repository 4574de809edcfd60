"""Real servers for tests and benchmarks, on 127.0.0.1 alone and stopped with their block: nginx, OpenStack Swift (S3).

Swift comes from PyPI into an environment of its own, kept in the user's cache. `SEGSTREAM_TEST_S3` names another S3
server to use in its place (an endpoint URL; `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY` may create buckets there).
"""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SWIFT = "swift>=2.35"
KEY, SECRET = "test:tester", "testing"
DOMAIN = "store.localhost"
"""Buckets of Swift are also found by the host name BUCKET.store.localhost, for whoever resolves that to 127.0.0.1."""
FILTERS = {  # of the proxy, in the order that Swift's own documentation asks for
    **dict.fromkeys(("catch_errors", "gatekeeper", "healthcheck"), ""),
    "cache": "use = egg:swift#memcache",
    **dict.fromkeys(("listing_formats", "bulk"), ""),
    "s3api": f"location = us-east-1\nstorage_domain = {DOMAIN}",
    "tempauth": f"user_{KEY.replace(':', '_')} = {SECRET} .admin",
    **dict.fromkeys(("slo", "dlo", "copy", "symlink"), ""),
}


class NoServiceError(Exception):
    """The server cannot be had on this machine; the text says why."""


@dataclass(frozen=True)
class Certificate:
    """A server's, for 127.0.0.1, localhost, DOMAIN and names one below it; signed by a CA that nobody knows."""

    ca: Path
    chain: Path
    key: Path


@dataclass(frozen=True)
class S3Service:
    """An S3 server and an account on it that may create buckets."""

    endpoint: str
    key: str
    secret: str
    name: str

    def environment(self, folder: Path) -> dict[str, str]:
        """What boto3 and DVC read, and nothing of this machine's own settings; `folder` need not exist."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_CONFIG_FILE": str(folder / "no-config"),
            "AWS_SHARED_CREDENTIALS_FILE": str(folder / "no-credentials"),
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def client(self) -> Any:
        """A boto3 client."""
        import boto3
        from botocore.config import Config

        config = Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 10})
        account = {"aws_access_key_id": self.key, "aws_secret_access_key": self.secret}
        return boto3.client("s3", endpoint_url=self.endpoint, region_name="us-east-1", config=config, **account)

    @contextlib.contextmanager
    def bucket(self) -> Iterator[str]:
        """The name of a new bucket, removed with all it holds."""
        client, name = self.client(), f"segstream-{uuid.uuid4().hex[:12]}"
        client.create_bucket(Bucket=name)
        try:
            yield name
        finally:
            for page in client.get_paginator("list_objects_v2").paginate(Bucket=name):
                for found in page.get("Contents", []):
                    client.delete_object(Bucket=name, Key=found["Key"])
            client.delete_bucket(Bucket=name)


@contextlib.contextmanager
def s3_service(work: Path) -> Iterator[S3Service]:
    """The server that SEGSTREAM_TEST_S3 names, else Swift with its data in `work`, or NoServiceError."""
    if given := os.environ.get("SEGSTREAM_TEST_S3"):
        yield S3Service(given, os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"], "given")
    else:
        with swift(work) as service:
            yield service


@contextlib.contextmanager
def swift(work: Path) -> Iterator[S3Service]:
    """One node of Swift: proxy, account, container and object server."""
    binaries = swift_environment() / "bin"
    ports = free_ports(4)
    conf, data = work / "conf", work / "data"
    conf.mkdir(parents=True)
    (data / "disk").mkdir(parents=True)
    try:
        os.setxattr(data / "disk", "user.segstream", b"1")
    except OSError as error:
        raise NoServiceError(f"Swift needs a file system with extended attributes, {data} has none") from error
    (conf / "swift.conf").write_text(
        "[swift-hash]\nswift_hash_path_prefix = a\nswift_hash_path_suffix = b\n"
        "[storage-policy:0]\nname = only\ndefault = yes\n"
    )
    common = f"bind_ip = 127.0.0.1\nswift_dir = {conf}\nworkers = 0\nlog_level = ERROR\nuser = {getpass.getuser()}\n"
    servers = dict(zip(("account", "container", "object", "proxy"), ports, strict=True))
    for name, port in list(servers.items())[:3]:
        ring = [binaries / "swift-ring-builder", conf / f"{name}.builder"]
        for step in (("create", "4", "1", "0"), ("add", f"r1z1-127.0.0.1:{port}/disk", "1"), ("rebalance",)):
            subprocess.run([*ring, *step], check=True, capture_output=True)
        options = f"devices = {data}\nmount_check = false\ndisable_fallocate = true\nbind_port = {port}\n"
        application = f"[pipeline:main]\npipeline = {name}-server\n[app:{name}-server]\nuse = egg:swift#{name}\n"
        (conf / f"{name}-server.conf").write_text(f"[DEFAULT]\n{common}{options}{application}")
    filters = "".join(
        f"[filter:{name}]\n{'' if text.startswith('use =') else f'use = egg:swift#{name}'}\n{text}\n"
        for name, text in FILTERS.items()
    )
    (conf / "proxy-server.conf").write_text(
        f"[DEFAULT]\n{common}bind_port = {ports[3]}\n[pipeline:main]\npipeline = {' '.join(FILTERS)} proxy-server\n"
        f"[app:proxy-server]\nuse = egg:swift#proxy\nallow_account_management = true\naccount_autocreate = true\n"
        f"{filters}"
    )
    with contextlib.ExitStack() as running:
        commands = {name: [binaries / f"swift-{name}-server", conf / f"{name}-server.conf"] for name in servers}
        started = [running.enter_context(_process(one, work / f"{name}.log")) for name, one in commands.items()]
        for process, (name, port) in zip(started, servers.items(), strict=True):
            _wait_for(process, port, work / f"{name}.log")
        yield S3Service(f"http://127.0.0.1:{servers['proxy']}", KEY, SECRET, "swift")


def swift_environment() -> Path:
    """Where Swift is installed; installed on first use, by one process at a time."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "segstream" / "tests"
    base.mkdir(parents=True, exist_ok=True)
    folder = base / f"swift-{sys.version_info.major}.{sys.version_info.minor}"
    with (base / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / "ready").exists():
            return folder
        shutil.rmtree(folder, ignore_errors=True)
        options = ("--quiet", "--retries", "1", "--timeout", "20")
        pip = [folder / "bin" / "pip", "install", *options, SWIFT, "setuptools<81"]
        try:
            for command in ([sys.executable, "-m", "venv", folder], pip):
                subprocess.run(command, check=True, capture_output=True, text=True, timeout=240)
        except (OSError, subprocess.SubprocessError) as error:
            shutil.rmtree(folder, ignore_errors=True)
            said = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
            raise NoServiceError(f"OpenStack Swift cannot be installed: {said[-1] if said else error}") from error
        (folder / "ready").touch()
    return folder


def certificate(folder: Path) -> Certificate:
    """A new CA, and a certificate that it signed, in `folder`; by openssl 3."""
    made = Certificate(ca=folder / "ca.pem", chain=folder / "server.pem", key=folder / "server.key")
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    own = [*request, "-subj", "/CN=CA of a test", "-keyout", folder / "ca.key", "-out", made.ca]
    names = f"subjectAltName=IP:127.0.0.1,DNS:localhost,DNS:{DOMAIN},DNS:*.{DOMAIN}"
    signed = [*request, "-subj", "/CN=server", "-CA", made.ca, "-CAkey", folder / "ca.key", "-keyout", made.key]
    try:
        for command in (own, [*signed, "-addext", names, "-addext", "basicConstraints=CA:FALSE", "-out", made.chain]):
            subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise NoServiceError(f"openssl makes no certificate ({error})") from error
    return made


@contextlib.contextmanager
def nginx(folder: Path, work: Path, port: int | None = None) -> Iterator[str]:
    """The URL under which Debian's nginx serves a folder."""
    binary = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if binary is None:
        raise NoServiceError("nginx is not installed (apt-get install nginx-light)")
    port = port or free_ports(1)[0]
    work.mkdir(exist_ok=True)
    places = "".join(
        f"{name}_temp_path {work}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (work / "conf").write_text(
        f"daemon off; worker_processes 1; pid {work}/pid; error_log {work}/errors; user {getpass.getuser()};\n"
        f"events {{ }}\nhttp {{ access_log off; {places}\n"
        f"  server {{ listen 127.0.0.1:{port}; root {folder}; }} }}\n"
    )
    command = [binary, "-e", work / "errors", "-c", work / "conf"]
    with _process(command, work / "log", stop=signal.SIGTERM) as process:
        _wait_for(process, port, work / "log")
        yield f"http://127.0.0.1:{port}"


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody has now."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextlib.contextmanager
def _process(command: list[Any], log: Path, stop: int = signal.SIGKILL) -> Iterator[subprocess.Popen[bytes]]:
    """A server for the block; it also ends with us if we are killed, where the system can do that."""
    if setpriv := shutil.which("setpriv"):
        command = [setpriv, "--pdeathsig", "KILL", "--", *command]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, stop)
        process.wait()


def _wait_for(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    said = log.read_text(errors="replace").strip().splitlines() or ["nothing in its log"]
    raise NoServiceError(f"{log.stem} does not start: {said[-1]}")
