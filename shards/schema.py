"""YAML mappings to frozen dataclasses, checked once at the door.

Inside the project nothing re-checks and nothing assigns: whoever holds such a dataclass may trust it.
"""

import contextlib
import functools
import json
import types
import typing
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import yaml

from segstream.shards.errors import DataError, did_you_mean

C = TypeVar("C")


class _Strict(yaml.SafeLoader):
    """Plain values only, and no key twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        if (twice := _twice(k.value for k, _ in node.value if isinstance(k, yaml.ScalarNode))) is not None:
            raise yaml.MarkedYAMLError(problem=f"key {twice!r} is given twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)


def _twice(keys: Iterable[str]) -> str | None:
    return next((key for key, count in Counter(keys).items() if count > 1), None)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML file that holds one mapping.

    Raises:
        DataError: the file is missing, is not YAML, or holds something else than a mapping.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); check the path") from error
    try:
        values = yaml.load(text, Loader=_Strict)
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where is not None else ""
        problem = getattr(error, "problem", None) or "cannot be parsed"
        raise DataError(f"{path}{line}: not valid YAML ({problem}); mend the file") from error
    if not isinstance(values, dict):
        raise DataError(f"{path}: holds {type(values).__name__}, not `key: value` pairs; see the examples in docs/")
    return values


def parse_json(data: bytes) -> Any:
    """JSON of other people: what is said twice is an error, not whatever comes last.

    Raises:
        ValueError: not JSON, or an object with a key twice.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs):  # faster than counting, in files of millions of objects
            raise ValueError(f"key {_twice(key for key, _ in pairs)!r} is given twice")
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
        raise DataError(f"{at}: expected `key: value` pairs, found {values!r}")
    hints = _hints(cls)  # type: ignore[arg-type]
    known = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            raise DataError(f"{at}.{key}: unknown key; {did_you_mean(str(key), known)}")
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
    return typing.get_type_hints(cls)


def _convert(hint: Any, value: Any, *, at: str) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        errors = []
        for option in (a for a in args if a is not type(None)):
            try:
                return _convert(option, value, at=at)
            except DataError as error:
                errors.append(error)
        raise errors[0] if len(errors) == 1 else DataError(f"{at}: {value!r} fits none of {_names(args)}")
    if origin is Literal:
        if value not in args:
            raise DataError(f"{at}: {value!r} is not one of {', '.join(map(str, args))}")
        return value
    if is_dataclass(hint):
        return parse(hint, value, at=at)  # type: ignore[arg-type]
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise DataError(f"{at}: expected a list, found {value!r}")
        hints = args[:1] * len(value) if args[1:] == (Ellipsis,) else args
        if len(value) != len(hints):
            raise DataError(f"{at}: expected {len(hints)} values, found {len(value)}")
        return tuple(_convert(h, v, at=f"{at}[{i}]") for i, (h, v) in enumerate(zip(hints, value, strict=True)))
    if origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise DataError(f"{at}: expected `key: value` pairs, found {value!r}")
        return {_convert(args[0], k, at=at): _convert(args[1], v, at=f"{at}.{k}") for k, v in value.items()}
    return _convert_scalar(hint, value, at=at)


def _convert_scalar(hint: Any, value: Any, *, at: str) -> Any:
    if hint is float and isinstance(value, int | str) and not isinstance(value, bool):
        with contextlib.suppress(ValueError):  # YAML 1.1 reads 1e-4 as a string
            return float(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise DataError(f"{at}: expected {_names((hint,))}, found {value!r}")
    return value


def _names(hints: Iterable[Any]) -> str:
    return " or ".join(getattr(h, "__name__", str(h)) for h in hints)
