import pytest

from segstream.pipeline.config import DataConfig
from segstream.shards.storage.base import below, local_path


@pytest.mark.parametrize(
    ("url", "set_url"),
    [
        ("data", "data/ade/train"),
        ("data?v=1#2/", "data?v=1#2/ade/train"),
        ("https://host/sets/?sig=a%2Fb", "https://host/sets/ade/train?sig=a%2Fb"),
        ("dvc://sets?rev=v1&repo=..", "dvc://sets/ade/train?rev=v1&repo=.."),
        ("s3://bucket/a?b#c/", "s3://bucket/a?b#c/ade/train"),
    ],
)
def test_a_query_stays_at_the_end_where_a_url_has_one(url, set_url):
    assert below(url, "ade", "train") == DataConfig(shards=url, mix={"ade": 1}).urls("ade")["train"] == set_url


def test_all_of_a_file_url_is_its_path():
    assert [str(local_path(f"{start}/a b#1?2%33")) for start in ("file://", "FILE://localhost")] == ["/a b#1?23"] * 2
