import pytest

from segstream.shards.errors import DataError
from segstream.shards.schema import parse_json, read_yaml


def test_json_says_everything_once():
    assert parse_json(b'{"a": {"b": [1, null]}, "b": 2.5}') == {"a": {"b": [1, None]}, "b": 2.5}
    with pytest.raises(ValueError, match="key 'b' is given twice"):
        parse_json(b'{"a": [{"b": 1, "c": 2, "b": 1}]}')


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"a": 1} x'])
def test_what_is_not_json_is_one_kind_of_error(data):
    with pytest.raises(ValueError, match=r"."):
        parse_json(data)


def test_yaml_says_everything_once(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("a: 1\nb: {c: 1, d: [2]}\n")
    assert read_yaml(path) == {"a": 1, "b": {"c": 1, "d": [2]}}
    path.write_text("a: 1\nb:\n  c: 1\n  c: 2\n")
    with pytest.raises(DataError, match=r"x\.yaml, line 3: not valid YAML \(key 'c' is given twice\); mend the file"):
        read_yaml(path)


def test_yaml_makes_no_objects(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("a: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(DataError, match="not valid YAML"):
        read_yaml(path)
