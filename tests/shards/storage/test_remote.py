"""What holds over any network: a set on a web server, and the same set in a bucket."""

import concurrent.futures
import pickle
import socket
from dataclasses import dataclass

import pytest

from segstream.pipeline import samples as pipeline_samples
from segstream.pipeline.config import AugmentConfig, DataConfig
from segstream.pipeline.samples import Samples
from segstream.shards.checks.stats import class_table
from segstream.shards.checks.verify import verify
from segstream.shards.convert.convert import convert
from segstream.shards.errors import DataError
from segstream.shards.format.reader import open_set, open_shards
from segstream.shards.storage.http import HttpOrigin
from segstream.shards.storage.open import open_store
from segstream.shards.storage.remote import RemoteStore
from segstream.shards.storage.s3 import S3Origin
from tests.shards import trees
from tests.shards.convert.test_convert import members
from tests.shards.servers import Server, serving
from tests.shards.shared import PATIENT, FakeTime


@dataclass
class Remote:
    """The set `ade` behind a server of this process."""

    kind: str
    server: Server

    @property
    def url(self):
        return "s3://bucket/ade" if self.kind == "s3" else f"{self.server.url}/bucket/ade"

    def store(self, retries=PATIENT, timeout_s=5.0):
        return RemoteStore((S3Origin if self.kind == "s3" else HttpOrigin)(self.url, timeout_s=timeout_s), retries)


@pytest.fixture(params=["http", "s3"])
def kind(request, account):
    if request.param == "s3":
        pytest.importorskip("boto3")
    return request.param


@pytest.fixture
def remote(kind, ade, tmp_path, monkeypatch):
    (tmp_path / "server/bucket").mkdir(parents=True)
    (tmp_path / "server/bucket/ade").symlink_to(ade)
    with serving(tmp_path / "server", s3=kind == "s3", stall_s=0.3) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        yield Remote(kind, server)


def test_a_remote_set_is_the_set_on_disk(ade, remote):
    stored = members(ade)
    with open_shards(f"{remote.url}/") as shards:
        for i in range(5):
            key = shards.entry(i).key
            assert shards.read(i, "image") == stored[f"{key}.jpg"]
            assert shards.read(i, "native") == stored[f"{key}.native.png"]
        assert shards.manifest == open_shards(ade).manifest
        assert class_table(shards.manifest) == class_table(open_shards(ade).manifest)
        assert pickle.loads(pickle.dumps(shards)).read(1, "json") == shards.read(1, "json")
    assert verify(remote.url, workers=2).ok


@pytest.mark.parametrize("fault", ["503", "429", "reset", "truncate", "flip", "nolength", "stall"])
def test_a_fault_costs_another_request_and_nothing_else(ade, remote, fault):
    shards = open_set(remote.store(timeout_s=0.15 if fault == "stall" else 5.0))
    shards.entry(3)
    remote.server.script += [fault, fault]
    assert shards.read(3, "native") == open_shards(ade).read(3, "native")
    assert remote.server.failed == [fault, fault]


def test_what_comes_encoded_is_refused_at_once(remote):
    remote.server.headers["Content-Encoding"] = "gzip"
    with pytest.raises(DataError, match=r"manifest\.json: the server sends it encoded \('gzip'\)"):
        open_set(remote.store())
    assert len(remote.server.requests) <= 3


@pytest.mark.parametrize("fault", ["503", "reset", "truncate"])
def test_a_server_that_stays_broken_is_an_error_naming_all(remote, fault):
    clock = FakeTime()
    shards = open_set(remote.store(clock.retries(num_attempts=6)))
    shards.entry(0)
    remote.server.share, remote.server.faults = 1.0, (fault,)
    cause = {"503": "503", "reset": "no answer|reset|closed", "truncate": "short read"}[fault]
    said = rf"^{remote.url}/shard-000000\.tar: failed 6 times in \d+ s, lastly: .*({cause})"
    with pytest.raises(DataError, match=said):
        shards.read(0, "image")
    assert len(clock.waits) == 5
    for n, wait in enumerate(clock.waits):
        assert 0.05 * 2**n <= wait <= 0.1 * 2**n
    assert len({wait / 2**n for n, wait in enumerate(clock.waits)}) == 5  # jitter


def test_what_is_short_or_missing_is_told(ade, remote):
    shards = open_set(remote.store())
    span, tar = shards.entry(2).members["native.png"], ade / "shard-000001.tar"
    for size, said in (
        (span.offset + 10, f"ends after {span.offset + 10} bytes, expected"),
        (5, "ends before the bytes"),
    ):
        tar.write_bytes(tar.read_bytes()[:size])
        with pytest.raises(DataError, match=rf"shard-000001\.tar: {said}"):
            shards.read(2, "native")
    tar.unlink()
    with pytest.raises(DataError, match=r"shard-000001\.tar: missing"):
        shards.read(2, "native")


@pytest.mark.parametrize("why", ["refused", "unknown name"])
def test_a_server_never_heard_of_is_given_up_soon(kind, why, monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    clock = FakeTime()
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, but nobody listens
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        if why == "unknown name":
            url = "http://mistyped.example"
            monkeypatch.setattr(socket, "getaddrinfo", unknown)
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        origin = S3Origin("s3://bucket/set") if kind == "s3" else HttpOrigin(f"{url}/set")
        with pytest.raises(DataError, match=r"set/manifest\.json: failed \d times in \d s, lastly: .*the URL"):
            open_set(RemoteStore(origin, clock.retries()))
    assert 1 < sum(clock.waits) <= 5


def stream(url, monkeypatch, count):
    """(key, image bytes, label bytes) of `count` slots of one mix, read from `url`."""

    def opener(where):
        store = open_store(where)
        if isinstance(store, RemoteStore):
            store = RemoteStore(type(store._origin)(where, timeout_s=0.25), PATIENT)
        return open_set(store)

    monkeypatch.setattr(pipeline_samples, "open_shards", opener)
    augment = AugmentConfig(short_side=None, crop=16)
    mix = Samples(DataConfig(shards=url, mix={"ade20k-150": 1}), augment, seed=5, batch=4)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda n: mix.at(n // 4, n % 4), range(count)))
    mix.close()
    return [(sample.key, sample.image.tobytes(), sample.label.tobytes()) for sample in found]


def test_samples_through_a_faulty_network_are_the_right_ones_in_order(kind, tmp_path, monkeypatch):
    raw = trees.ade20k(tmp_path / "raw", train=40)
    convert("ade20k-150", split="train", raw=raw, out=str(tmp_path / "out"), shard_samples=16)
    expected = stream(str(tmp_path / "out"), monkeypatch, 200)
    with serving(tmp_path, share=0.12, seed=11, stall_s=0.4, s3=kind == "s3") as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        assert stream("s3://out" if kind == "s3" else f"{server.url}/out", monkeypatch, 200) == expected
        failed = list(server.failed)
    assert len(failed) > 12
    assert set(failed) == {"503", "429", "reset", "stall", "truncate", "flip", "nolength"}
