import pytest

from segstream.shards.convert.convert import convert
from tests.shards import trees
from tests.shards.servers import KEY, SECRET
from tests.shards.services import S3Service


@pytest.fixture
def account(monkeypatch, tmp_path):
    """Credentials of the test server in the environment, and nothing of this machine's own."""
    for name, value in S3Service(endpoint="", key=KEY, secret=SECRET, name="").environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def ade(tmp_path):
    """A complete set of 5 samples in 3 shards; returns its folder."""
    raw = trees.ade20k(tmp_path / "raw")
    convert(dataset="ade20k-150", split="train", raw=raw, out=str(tmp_path / "out"), shard_samples=2)
    return tmp_path / "out" / "ade20k-150" / "train"
