"""For the time being: results as the report reads them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from segstream.shards.errors import DataError
from segstream.shards.schema import parse


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassResult:
    """One class."""

    name: str
    iou: float | None
    accuracy: float | None = None
    pixels: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalResult:
    """One model on one data set."""

    dataset: str
    split: str | None = None
    url: str | None = None
    taxonomy: str
    regime: str | None = None
    relabeled: bool = False
    rule: str = "mseg"
    short_side: int | None = None
    scales: tuple[float, ...] = (1.0,)
    miou: float
    macc: float
    acc: float
    classes: tuple[ClassResult, ...]
    images: int
    manifest: str | None = None
    model: str | None = None
    checkpoint: str | None = None
    seed: int | None = None
    inference: dict[str, Any] = field(default_factory=dict)
    max: bool = False

    @classmethod
    def from_json(cls, row: Any, *, at: str) -> EvalResult:
        """From a file's values."""
        values = _known(cls, row, at=at)
        classes = values.get("classes", ())
        if not isinstance(classes, list):
            raise DataError(f"{at}.classes: expected a list, found {classes!r}")
        values["classes"] = [_known(ClassResult, c, at=f"{at}.classes[{i}]") for i, c in enumerate(classes)]
        return parse(cls, values, at=at)


def _known(cls: type, values: Any, *, at: str) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        raise DataError(f"{at}: expected `key: value` pairs, found {values!r}")
    names = {f.name for f in dataclasses.fields(cls)}
    return {key: value for key, value in values.items() if key in names}
