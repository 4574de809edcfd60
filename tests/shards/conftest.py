import pytest

from segstream.shards.convert.convert import convert
from tests.shards import trees


@pytest.fixture
def ade(tmp_path):
    """A complete set of 5 samples in 3 shards; returns its folder."""
    raw = trees.ade20k(tmp_path / "raw")
    convert(dataset="ade20k-150", split="train", raw=raw, out=str(tmp_path / "out"), shard_samples=2)
    return tmp_path / "out" / "ade20k-150" / "train"
