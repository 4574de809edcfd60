import pytest

from segstream.shards.errors import UsageError
from segstream.shards.format.reader import open_shards
from segstream.shards.storage.remote import RemoteStore
from segstream.shards.storage.s3 import S3Origin
from tests.shards.servers import serving
from tests.shards.shared import PATIENT, refusal

pytest.importorskip("boto3")
pytestmark = pytest.mark.usefixtures("account")
VIRTUAL = "[default]\ns3 =\n    addressing_style = virtual\n"
SET = "s3://bucket/sets/ade/train"


@pytest.fixture
def server(ade, tmp_path, monkeypatch):
    root = tmp_path / "server"
    (root / "bucket/sets/ade").mkdir(parents=True)
    (root / "bucket/sets/ade/train").symlink_to(ade)
    with serving(root, s3=True) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        yield server


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_either_variable_names_the_server(ade, server, variable, monkeypatch):
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.setenv(variable, server.url)
    with open_shards(SET) as shards:
        assert shards.read(1, "image") == open_shards(ade).read(1, "image")


@pytest.mark.parametrize("fault", ["503", "429", "reset", "stall"])
def test_a_fault_while_looking_for_a_file(server, fault):
    server.stall_s = 0.4
    store = RemoteStore(S3Origin(SET, timeout_s=0.2 if fault == "stall" else 5.0), PATIENT)
    for name, found in (("manifest.json", True), ("shard-000009.tar", False)):
        server.script += [fault, fault]
        assert (store.size(name) is not None) == found
    server.script += [None, fault]  # then when asking for the bucket
    assert RemoteStore(S3Origin(SET, timeout_s=0.2 if fault == "stall" else 5.0), PATIENT).size("no") is None
    assert server.failed == [fault] * 5


def test_wrong_and_missing_credentials_are_told_at_once(server, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody-else")
    message = refusal(lambda: open_shards(SET))
    assert message.startswith(f"{SET}/manifest.json: refused (the server answers 403")
    assert "AWS_ACCESS_KEY_ID" in message
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    assert "credentials" in refusal(lambda: open_shards(SET))
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "no complete credentials; check AWS_ACCESS_KEY_ID" in refusal(lambda: open_shards(SET))
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert "nobody" in refusal(lambda: open_shards(SET))
    assert len(server.requests) == 1


def test_a_missing_set_and_a_missing_bucket_name(server):
    assert "incomplete: no manifest.json" in refusal(lambda: open_shards("s3://bucket/elsewhere"))
    for url in ("s3:///prefix", "s3://key:sec/ret@bucket/x", "s3://key:secret@bucket/x"):
        with pytest.raises(UsageError, match=r"^s3://\S*: no bucket") as caught:
            open_shards(url)
        assert "ret" not in str(caught.value)


@pytest.mark.parametrize(
    ("endpoint", "config", "host"),
    [
        (None, "", "bucket.s3"),
        ("https://store.example:9000", "", "store.example:9000/bucket/"),
        ("https://store.example:9000", VIRTUAL, "bucket.store.example:9000/"),
    ],
)
def test_buckets_are_addressed_by_host_or_path(endpoint, config, host, monkeypatch, tmp_path):
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    (tmp_path / "no-config").write_text(config)
    account = {"region": "eu-west-1"} | ({"endpointurl": endpoint} if endpoint else {})
    client = S3Origin("s3://bucket/x", account=account).client()
    url = client.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "x/y"})
    assert url.startswith(f"https://{host}")
