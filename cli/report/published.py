"""Published results, read from `published.yaml`."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from segstream.cli.report.text_table import HMEAN
from segstream.shards.schema import parse, read_yaml


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedRow:
    """One model's results on the datasets of a table."""

    model: str
    """As printed."""
    recipe: str
    """Ours for this model; `oracle-DATASET-...` is one for every column, whose dataset stands there."""
    miou: tuple[float | None, ...]
    """Percent, by column; None: printed empty, or there is no such model."""
    hmean: float | None
    """Harmonic mean as printed, percent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedTable:
    """Results of several models on the same datasets."""

    columns: tuple[str, ...]
    """Datasets."""
    rows: tuple[PublishedRow, ...]

    def figures(self, recipe: str) -> dict[str, float]:
        """Dataset -> mIoU, and `HMEAN` -> their mean, percent, of the model that this recipe trains.

        What was not published is left out. An oracle is one model in every column and has no mean.
        """
        return {
            column: value
            for row in self.rows
            for column, value in zip((*self.columns, HMEAN), (*row.miou, row.hmean), strict=True)
            if value is not None and row.recipe.replace("DATASET", column) == recipe
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """Everything there is to compare with."""

    released: Mapping[str, str]
    """Name of a released checkpoint, without suffix -> the recipe that makes such a model."""
    zero_shot: PublishedTable
    training: PublishedTable
    zero_shot_ms: PublishedTable


@functools.cache
def published() -> Published:
    """What the authors of MSeg published.

    Raises:
        DataError: the file in the package is damaged.
    """
    path = Path(__file__).with_name("published.yaml")
    return parse(Published, read_yaml(path), at=path.name)
