from dataclasses import dataclass
from typing import Any

import pytest

from segstream.shards.errors import DataError
from segstream.shards.schema import parse, parse_json, parse_yaml, read_yaml


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


@pytest.mark.parametrize(
    ("text", "value"), [("1e-1", 0.1), ("-2E+3", -2000.0), (".5e1", 5.0), ("1e-1x", "1e-1x"), ("e-1", "e-1"), ("7", 7)]
)
def test_exponents_are_numbers(text, value):
    found = parse_yaml(f"a: {{b: [{text}]}}", at="x")["a"]["b"][0]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "value"),
    [("a #b", "a #b"), ("#a", "#a"), ("[a #b, 'c #d', 1]", ["a #b", "c #d", 1]), ("{a #b: 1}", {"a #b": 1})],
)
def test_without_comments_all_of_it_is_the_value(text, value):
    assert parse_yaml(text, at="x", comments=False) == value


NINE = "&a0 [l,l,l,l,l,l,l,l,l], " + ", ".join(f"&a{i} [{','.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"a: [{NINE}]", "x: its aliases stand for more than 1000000 values"),
        ("a: &a [*a]", "x: its aliases stand for more than 1000000 values"),
        ("a: " + "[" * 500 + "]" * 500, r"x: not valid YAML \(nested too deeply\)"),
        ("a: " + "[" * 50_000, r"x, line 1: not valid YAML"),
        ("\na: " + "9" * 5000, r"x, line 2: not valid YAML \(a whole number of more than 40 digits\)"),
        ("a: 0x" + "f" * 100, "a whole number of more than 40 digits"),
        ("a: 2024-13-45", r"x: not valid YAML \(month must be in 1\.\.12"),
        ("a: 1\n---\nb: 2", "another document"),
    ],
)
def test_yaml_that_explodes_is_one_line(text, message):
    with pytest.raises(DataError, match=message) as caught:
        parse_yaml(text, at="x")
    assert "\n" not in str(caught.value)


def test_aliases_may_be_used():
    assert parse_yaml("a: &a {k: 1}\nb: {<<: *a, l: *a}", at="x")["b"] == {"k": 1, "l": {"k": 1}}


@dataclass
class Plain:
    number: float = 0.0
    text: str = ""
    anything: Any = None


@pytest.mark.parametrize("number", [float("inf"), "nan", float("-inf")])
def test_numbers_are_finite(number):
    with pytest.raises(DataError, match=r"x\.number: -?(inf|nan) is no finite number"):
        parse(Plain, {"number": number}, at="x")


def test_a_value_of_the_wrong_type_is_not_written_out():
    big = parse_yaml(f"[{NINE[: NINE.index('&a5') - 2]}]", at="x")  # below the limit, and megabytes to print
    with pytest.raises(DataError, match=r"x\.text: expected str, found \[\['l', ") as caught:
        parse(Plain, {"text": big}, at="x")
    assert len(str(caught.value)) < 20_000
