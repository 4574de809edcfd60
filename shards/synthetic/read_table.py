"""The world's tables: data, in `tables/`."""

import functools
from importlib import resources
from typing import Any

from segstream.shards.schema import parse_yaml


@functools.cache
def table(name: str) -> Any:
    """A table of the package, parsed."""
    text = resources.files("segstream.shards.synthetic").joinpath("tables", f"{name}.yaml").read_text(encoding="utf-8")
    return parse_yaml(text, at=name)
