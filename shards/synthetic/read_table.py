"""The world's tables: data, in `tables/`."""

import functools
import operator
from importlib import resources
from typing import Any, TypeVar

from segstream.shards.schema import parse, parse_yaml

T = TypeVar("T")


@functools.cache
def table(name: str) -> Any:
    """A table of the package, parsed."""
    text = resources.files("segstream.shards.synthetic").joinpath("tables", f"{name}.yaml").read_text(encoding="utf-8")
    return parse_yaml(text, at=name)


def entry(cls: type[T], name: str, *keys: str | int) -> T:
    """What a table holds under a key, and keys of that, as the dataclass `cls`."""
    made: T = _entry(cls, name, keys)  # type: ignore[arg-type]
    return made


@functools.cache
def _entry(cls: type, name: str, keys: tuple[str | int, ...]) -> Any:
    content = functools.reduce(operator.getitem, keys, table(name))
    return parse(cls, content, at=f"{name}.yaml: {'.'.join(map(str, keys))}")
