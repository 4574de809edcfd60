import pytest

from segstream.shards.errors import UsageError, public

URL = "https://user:pa@ss@host:8000/a/b"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (URL, "https://host:8000/a/b"),
        (f"{URL}: failed; see http://me:it@proxy", "https://host:8000/a/b: failed; see http://proxy"),
        ("http://host/set?sig=a%2Fb&se=2030-01-01T00:00Z failed", "http://host/set?... failed"),
        ("dvc://data/x?rev=v1&repo=.", "dvc://data/x?rev=v1&repo=."),
        ("s3://bucket/a?b#c, mail me@home", "s3://bucket/a?b#c, mail me@home"),
        ({"a": [URL, 1], "b": ("x", None)}, {"a": ["https://host:8000/a/b", 1], "b": ("x", None)}),
    ],
)
def test_what_urls_keep_secret_is_not_shown(text, shown):
    assert public(text) == shown
    if isinstance(text, str):
        assert str(UsageError(text)) == shown


def test_a_message_keeps_its_ends_whatever_names_are_in_it():
    said = str(UsageError(f"data.yaml: {'o' * 100_000} is no folder; name another"))
    assert said.startswith("data.yaml: ooo")
    assert said.endswith("ooo is no folder; name another")
    assert len(said) < 2000
