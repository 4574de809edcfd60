"""The one reader of YAML and of others' JSON, and what it gives as frozen dataclasses, checked once at the door.

Inside the project nothing re-checks and nothing assigns: whoever holds such a dataclass may trust it.
"""

import contextlib
import functools
import itertools
import json
import math
import re
import reprlib
import types
import typing
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import yaml

from segstream.shards.errors import DataError, did_you_mean

C = TypeVar("C")
MAX_VALUES = 1_000_000  # of a document with its aliases written out: nine lines can stand for a billion
MAX_DEPTH, MAX_DIGITS = 100, 40
_BASE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same values, eight times as fast
_MARK = "\ue000"  # of no script; before a # it makes text of what would begin a comment

Name = Annotated[str, re.compile(r"[A-Za-z0-9_-]{1,255}")]
"""Names a folder or file."""
Sha256 = Annotated[str, re.compile(r"[0-9a-f]{64}")]
Count = Annotated[int, range(2**53)]
Text = Annotated[str, re.compile(r"[^\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]*")]
"""Without what a terminal would act upon, and what no file can hold."""


class _Strict(_BASE):  # type: ignore[misc]
    """Plain values only, no key twice, no number that cannot be printed; `1e-1` is a number, as in YAML 1.2."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        if (twice := _twice(k.value for k, _ in node.value if isinstance(k, yaml.ScalarNode))) is not None:
            raise yaml.MarkedYAMLError(problem=f"key {shown(twice)} is given twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)  # type: ignore[no-any-return]

    def construct_scalar(self, node: yaml.ScalarNode) -> Any:
        if node.tag.endswith(":int") and len(node.value) > MAX_DIGITS:
            what = f"a whole number of more than {MAX_DIGITS} digits"
            raise yaml.MarkedYAMLError(problem=what, problem_mark=node.start_mark)
        return super().construct_scalar(node).replace(f"{_MARK}#", "#")


_EXPONENT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+\.?[0-9]*)[eE][-+]?[0-9]+$")
_Strict.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("+-.0123456789"))


def _twice(keys: Iterable[str]) -> str | None:
    return next((key for key, count in Counter(keys).items() if count > 1), None)


def shown(value: Any) -> str:
    """A value as an error prints it: its `repr`, shortened."""
    return _SHORT.repr(value)


_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 3, 200, 200
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = 12


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML file that holds one mapping.

    Raises:
        DataError: the file is missing, is not YAML, or holds something else than a mapping.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    values = parse_yaml(text, at=str(path))
    if not isinstance(values, dict):
        raise DataError(f"{path}: holds {type(values).__name__}, not `key: value` pairs; see the examples in docs/")
    return values


def parse_yaml(text: str, *, at: str, comments: bool = True) -> Any:
    """The value of a YAML document.

    Args:
        at: names it in errors.
        comments: leave out what follows ` #`; else it is part of the value.

    Raises:
        DataError: not YAML, a key twice, nested too deeply, or larger than `MAX_VALUES` with its aliases written out.
    """
    try:
        loader = _Strict(text if comments else re.sub(r"(?<!\S)#", f"{_MARK}#", text))
        node = loader.get_single_node()
        if isinstance(node, yaml.CollectionNode) and _written_out(node, {}) > MAX_VALUES:
            raise DataError(f"{at}: its aliases stand for more than {MAX_VALUES} values; write out what is meant")
        return None if node is None else loader.construct_document(node)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where is not None else ""
        problem = getattr(error, "problem", None) or " ".join(str(error).split()) or "cannot be parsed"
        problem = "nested too deeply" if isinstance(error, RecursionError) else problem
        raise DataError(f"{at}{line}: not valid YAML ({problem}); mend the file") from error


def _written_out(node: Any, known: dict[int, int], depth: int = 0) -> int:
    """Values below a node, those of an alias each time; a node within itself has no end."""
    if depth > MAX_DEPTH:
        raise RecursionError
    if id(node) not in known:
        known[id(node)] = MAX_VALUES + 1
        children = itertools.chain(*node.value) if isinstance(node, yaml.MappingNode) else node.value
        inner = [_written_out(c, known, depth + 1) for c in children if isinstance(c, yaml.CollectionNode)]
        known[id(node)] = sum(inner) + len(node.value)
    return known[id(node)]


def parse_json(data: bytes) -> Any:
    """JSON of other people: what is said twice is an error, not whatever comes last.

    Raises:
        ValueError: not JSON, or an object with a key twice.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs):  # faster than counting, in files of millions of objects
            raise ValueError(f"key {shown(_twice(key for key, _ in pairs))} is given twice")
        return made

    try:
        return json.loads(data, object_pairs_hook=once)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def parse(cls: type[C], values: Mapping[str, Any], *, at: str) -> C:
    """Build the dataclass `cls` from plain values, nested dataclasses included.

    Args:
        values: what YAML or JSON gave.
        at: names the file and section in errors, e.g. `recipes/demo.yaml`.

    Raises:
        DataError: an unknown key (with the nearest known one), a missing key, a value of the wrong type, or a
            value the dataclass itself refuses in `__post_init__`.
    """
    if not isinstance(values, Mapping):
        raise DataError(f"{at}: expected `key: value` pairs, found {shown(values)}")
    hints = _hints(cls)  # type: ignore[arg-type]
    known = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            raise DataError(f"{at}.{str(key)[:100]}: unknown key; {did_you_mean(str(key)[:100], known)}")
    for name, field in known.items():
        if name not in values and field.default is MISSING and field.default_factory is MISSING:
            raise DataError(f"{at}.{name}: missing; give a value")
    built = {key: _convert(hints[key], value, at=f"{at}.{key}") for key, value in values.items()}
    try:
        return cls(**built)
    except DataError as error:
        raise DataError(f"{at}: {error}") from error


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls, include_extras=True)


def _convert(hint: Any, value: Any, *, at: str) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin is Annotated:  # a type, and what its values are like: a pattern of the whole text, or a range
        value, check = _convert(args[0], value, at=at), args[1]
        formed = isinstance(check, re.Pattern)
        if check.fullmatch(value) if formed else value in check:
            return value
        like = f"of the form {check.pattern}" if formed else f"in {check.start}..{check.stop - 1}"
        raise DataError(f"{at}: {shown(value)} is not {like}")
    if origin in (Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        errors = []
        for option in (a for a in args if a is not type(None)):
            try:
                return _convert(option, value, at=at)
            except DataError as error:
                errors.append(error)
        raise errors[0] if len(errors) == 1 else DataError(f"{at}: {shown(value)} fits none of {_names(args)}")
    if origin is Literal:
        if value not in args:
            raise DataError(f"{at}: {shown(value)} is not one of {', '.join(map(str, args))}")
        return value
    if is_dataclass(hint):
        return parse(hint, value, at=at)  # type: ignore[arg-type]
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise DataError(f"{at}: expected a list, found {shown(value)}")
        hints = args[:1] * len(value) if args[1:] == (Ellipsis,) else args
        if len(value) != len(hints):
            raise DataError(f"{at}: expected {len(hints)} values, found {len(value)}")
        return tuple(_convert(h, v, at=f"{at}[{i}]") for i, (h, v) in enumerate(zip(hints, value, strict=True)))
    if origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise DataError(f"{at}: expected `key: value` pairs, found {shown(value)}")
        return {_convert(args[0], k, at=at): _convert(args[1], v, at=f"{at}.{k}") for k, v in value.items()}
    return _convert_scalar(hint, value, at=at)


def _convert_scalar(hint: Any, value: Any, *, at: str) -> Any:
    if hint is float and isinstance(value, int | str) and not isinstance(value, bool):
        with contextlib.suppress(ValueError):
            value = float(str(value))
    if isinstance(value, float) and not math.isfinite(value):
        raise DataError(f"{at}: {value} is no finite number")
    if hint is Path and isinstance(value, str):
        return Path(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise DataError(f"{at}: expected {_names((hint,))}, found {shown(value)}")
    return value


def _names(hints: Iterable[Any]) -> str:
    return " or ".join(getattr(h, "__name__", str(h)) for h in hints)
