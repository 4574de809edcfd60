"""Real servers: Debian's nginx, and OpenStack Swift (or what SEGSTREAM_TEST_S3 names) as S3."""

import concurrent.futures
import pickle
import socket

import pytest

from segstream.shards.checks.verify import verify
from segstream.shards.convert.convert import convert
from segstream.shards.convert.publish import Target
from segstream.shards.errors import DataError
from segstream.shards.format.reader import open_set, open_shards
from segstream.shards.storage.http import HttpOrigin
from segstream.shards.storage.remote import RemoteStore, Retries
from segstream.shards.storage.s3 import S3Origin
from tests.shards import trees
from tests.shards.services import DOMAIN, NoServiceError, free_ports, nginx
from tests.shards.shared import refusal


@pytest.fixture
def bucket(s3, account, tmp_path, monkeypatch):
    """The name of an empty bucket on the real server; the environment holds an account."""
    for name, value in s3.environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    with s3.bucket() as name:
        yield name


@pytest.fixture
def url(bucket, ade):
    """The set `ade`, uploaded."""
    Target(f"s3://{bucket}/sets/ade20k-150/train").publish(ade)
    return f"s3://{bucket}/sets/ade20k-150/train"


def test_nginx_and_its_restart_in_the_middle(ade, tmp_path):
    port = free_ports(1)[0]
    own = open_shards(ade)
    expected = [own.read(i, "image") for i in range(5)]
    try:
        with nginx(ade, tmp_path / "nginx", port) as url:
            shards = open_set(RemoteStore(HttpOrigin(url), Retries(num_attempts=3, sleep=lambda seconds: None)))
            assert [shards.read(i, "image") for i in range(3)] == expected[:3]
            assert verify(url).ok
    except NoServiceError as error:
        pytest.skip(str(error))
    with pytest.raises(DataError, match=r"shard-000001\.tar: failed 3 times .*no answer"):
        shards.read(3, "image")
    with nginx(ade, tmp_path / "nginx", port):
        assert [shards.read(i, "image") for i in range(5)] == expected


def test_a_bucket_gives_what_the_folder_gives(ade, url):
    own = open_shards(ade)
    everything = [(i, member) for i in range(5) for member in ("image", "native", "universal", "json")]
    with open_shards(url) as shards, concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda one: shards.read(*one), everything)) == [own.read(*one) for one in everything]
        assert pickle.loads(pickle.dumps(shards)).read(4, "json") == own.read(4, "json")
    assert verify(url, workers=2).ok


def test_conversion_into_a_bucket_replaces_what_was_there(bucket, s3, tmp_path):
    """Three shards, then two of other data under the same name: no shard of the first is left, none is sent twice."""
    client, seen = s3.client(), []
    for n, (train, name) in enumerate(((5, "longer"), (4, "shorter"), (4, "shorter"))):
        raw = trees.ade20k(tmp_path / f"{name}{n}", train=train, seed=train)
        url = convert(dataset="ade20k-150", split="train", raw=raw, out=f"s3://{bucket}/sets", shard_samples=2).url
        assert verify(url).ok
        objects = client.list_objects_v2(Bucket=bucket)["Contents"]
        seen.append({found["Key"].rpartition("/")[2]: found["LastModified"] for found in objects})
    assert [len(names) for names in seen] == [7, 5, 5]
    assert seen[1].keys() == {f"shard-00000{n}.{end}" for n in range(2) for end in ("tar", "idx.json")} | {
        "manifest.json"
    }
    assert seen[1] == seen[2]


@pytest.fixture
def hosts(monkeypatch):
    """Names that were looked up; DOMAIN and those below it are this machine, for this process alone."""
    seen, real = [], socket.getaddrinfo

    def resolve(host, *rest, **options):
        seen.append(host)
        return real("127.0.0.1" if str(host).endswith(DOMAIN) else host, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return seen


def test_a_bucket_that_is_a_host_name(bucket, s3, ade, tmp_path, hosts, monkeypatch):
    if s3.name != "swift":
        pytest.skip(f"{s3.endpoint} may know no host names of buckets")
    (tmp_path / "no-config").write_text("[default]\ns3 =\n    addressing_style = virtual\n")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint.replace("127.0.0.1", DOMAIN))
    url = f"s3://{bucket}/sets/by-host/train"
    Target(url).publish(ade)
    with open_shards(url) as shards, open_shards(ade) as own:
        assert [shards.read(i, "image") for i in range(5)] == [own.read(i, "image") for i in range(5)]
    assert set(hosts) == {f"{bucket}.{DOMAIN}"}
    assert f"no bucket {bucket}-absent; check the URL" in refusal(lambda: open_shards(f"s3://{bucket}-absent/sets"))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    assert "refused (the server answers 403" in refusal(lambda: open_shards(url))


def test_each_thing_that_is_wrong_is_told_apart(bucket, ade, url, monkeypatch):
    for variable, wrong in (("AWS_ACCESS_KEY_ID", "nobody"), ("AWS_SECRET_ACCESS_KEY", "wrong")):
        with monkeypatch.context() as patch:
            patch.setenv(variable, wrong)
            assert "refused (the server answers 403" in (said := refusal(lambda: open_shards(url)))
            assert "check AWS_ACCESS_KEY_ID" in said
            assert "refused (the server answers 403" in refusal(lambda: Target(url).publish(ade))
    absent = f"s3://{bucket}-absent/sets/ade20k-150/train"
    assert f"no bucket {bucket}-absent; check the URL" in refusal(lambda: open_shards(absent))
    assert f"no bucket {bucket}-absent; check the URL" in refusal(lambda: Target(absent).staging().__enter__())
    assert "incomplete: no manifest.json" in refusal(lambda: open_shards(f"s3://{bucket}/sets/other/train"))
    client = S3Origin(url).client()
    shards = open_shards(url)
    client.delete_object(Bucket=bucket, Key="sets/ade20k-150/train/shard-000001.tar")
    assert f"{url}/shard-000001.tar: missing" in refusal(lambda: shards.read(2, "image"))
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, but nobody listens
        account = {"endpointurl": f"http://127.0.0.1:{unused.getsockname()[1]}"}
        store = RemoteStore(
            S3Origin(url, account=account), Retries(num_attempts=3, sleep=lambda seconds: None, clock=lambda: 0.0)
        )
        assert "manifest.json: failed 3 times" in (said := refusal(lambda: open_set(store)))
        assert "Could not connect" in said
