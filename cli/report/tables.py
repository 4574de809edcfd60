"""The tables of the paper: models by datasets, in its order of columns, beside its published figures if asked for.

Source of the columns, of the best of three shorter sides, and of the harmonic mean as the last column: Lambert et al.,
MSeg, CVPR 2020. A result that is not there is not there: it takes part in no maximum and in no mean.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from segstream.cli.report.published import PublishedTable, published
from segstream.cli.report.results import HMEAN, DatasetScore, Format, ModelResult, percent, pick
from segstream.cli.report.text_tables import lay_out
from segstream.model.evaluation.metrics import harmonic_mean
from segstream.shards.errors import DataError

TableName = Literal["zero-shot", "training", "training-own", "oracle"]
Scales = Literal["ss", "ms"]
At = int | Literal["max"]
TITLES = {
    "zero-shot": "Zero-shot: datasets held out, in their own classes",
    "training": "Training datasets, in universal classes",
    "training-own": "Training datasets, in their own classes",
    "oracle": "Oracle: trained on the dataset itself, in its own classes",
}
ORACLE = "oracle"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A value in 0..1, the shorter side at which it was reached (None: the images' own), and what was published."""

    value: float | None
    short_side: int | None = None
    published: float | None = None

    @property
    def difference(self) -> float | None:
        """Ours less the published one."""
        return None if self.value is None or self.published is None else self.value - self.published


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One model; `cells` by column, `hmean` if the table has one."""

    model: str
    cells: dict[str, Cell]
    hmean: Cell | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One of the paper's tables."""

    name: TableName
    at: At
    scales: Scales
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    compared: bool
    """Whether published figures stand beside ours."""

    @property
    def has_mean(self) -> bool:
        """All but the oracles', each of which is another model in every column."""
        return self.name != ORACLE

    @property
    def heads(self) -> tuple[str, ...]:
        """Columns, the mean's included."""
        return (*self.columns, HMEAN) if self.has_mean else self.columns

    def cells(self, row: Row) -> list[Cell]:
        """A row's cells under `heads`."""
        return [row.cells[c] for c in self.columns] + ([row.hmean] if row.hmean is not None else [])

    def best(self) -> list[float | None]:
        """The highest value under each of `heads`."""
        return [max((c.value for c in cells if c.value is not None), default=None) for cells in self._columns()]

    def _columns(self) -> Iterable[tuple[Cell, ...]]:
        return zip(*(self.cells(row) for row in self.rows), strict=True) if self.rows else ((),) * len(self.heads)


def build_table(name: TableName, results: Sequence[ModelResult], *, at: At, scales: Scales, compare: bool) -> Table:
    """Choose the results that belong into a table and put them in its columns.

    The columns are the paper's of which there is any result, then other datasets; with `compare` all of the paper's and
    no other. A row has a mean if it has all columns.

    Args:
        results: models, in the order of the rows.
        at: the shorter side, or `max`: for each dataset the best of those there are.
        scales: results at a single scale, or averaged over several.
        compare: put the published figures of the same recipe beside ours.

    Raises:
        DataError: a model has two results for one cell, or two oracles know the same dataset.
    """
    chosen = [(result, pick(_belonging(name, result, at, scales))) for result in results]
    chosen = [(result, scores) for result, scores in chosen if scores]
    standard = _standard(name)
    found = list(dict.fromkeys(dataset for _, scores in chosen for dataset in scores))
    columns = standard if compare else (*(c for c in standard if c in found), *(c for c in found if c not in standard))
    source = _source(name, scales) if compare else None
    rows = [_row(result.name, scores, columns, source, mean=name != ORACLE) for result, scores in chosen]
    if name == ORACLE and rows:
        rows = [_joined(rows, columns)]
    return Table(name=name, at=at, scales=scales, columns=tuple(columns), rows=tuple(rows), compared=compare)


def render_table(table: Table, form: Format, *, bold: bool = False) -> str:
    """A table with a line above that says what it is; `csv` and `json` give unrounded values in 0..1."""
    if form == "json":
        return json.dumps(table_dict(table), indent=2, allow_nan=False)
    if form == "csv":
        return _csv(table)
    sides = "best shorter side" if table.at == "max" else f"shorter side {table.at}"
    title = f"{TITLES[table.name]}; {sides}, {'single scale' if table.scales == 'ss' else 'several scales'}"
    best = table.best()
    rows = [
        (row.model, [(_shown(c), c.value is not None and c.value == top) for c, top in zip(cells, best, strict=True)])
        for row, cells in ((row, table.cells(row)) for row in table.rows)
    ]
    heading = {"markdown": f"**{title}**\n\n", "latex": f"% {title}\n"}.get(form, f"{title}\n\n")
    return heading + lay_out(form, table.heads, rows, bold=bold, foot=_foot(table))


def table_dict(table: Table) -> dict[str, Any]:
    """A table as plain values."""
    return {
        "table": table.name,
        "at": table.at,
        "scales": table.scales,
        "columns": list(table.columns),
        "rows": [
            {
                "model": row.model,
                "cells": {c: {**asdict(cell), "difference": cell.difference} for c, cell in row.cells.items()},
                **({"hmean": {**asdict(row.hmean), "difference": row.hmean.difference}} if row.hmean else {}),
            }
            for row in table.rows
        ],
    }


def _belonging(name: TableName, result: ModelResult, at: At, scales: Scales) -> ModelResult:
    """Only a model's results that may stand in the table."""

    def belongs(score: DatasetScore) -> bool:
        regime = score.regime
        if regime == "naive":  # judged in the dataset's own classes, whichever it is
            regime = "training-own" if score.dataset in _standard("training") else "zero-shot"
        many = len(score.scales) > 1
        return regime == name and many == (scales == "ms") and at in ("max", score.short_side)

    return replace(result, scores=tuple(filter(belongs, result.scores)))


def _standard(name: TableName) -> tuple[str, ...]:
    tables = published()
    return (tables.zero_shot if name in ("zero-shot", ORACLE) else tables.training).columns


def _source(name: TableName, scales: Scales) -> PublishedTable | None:
    """The published table of the same kind; None where there is none."""
    tables = published()
    if name in ("zero-shot", ORACLE):
        return tables.zero_shot if scales == "ss" else tables.zero_shot_ms
    return tables.training if (name, scales) == ("training", "ss") else None


def _row(
    name: str, scores: dict[str, DatasetScore], columns: Sequence[str], source: PublishedTable | None, *, mean: bool
) -> Row:
    model = next((s.model for s in scores.values() if s.model is not None), name)
    recipe = published().released.get(model, model)
    figures = source.values(recipe) if source else {}
    cells = {}
    for column in columns:
        score, figure = scores.get(column), figures.get(column)
        cells[column] = Cell(
            value=score.miou if score else None,
            short_side=score.short_side if score else None,
            published=None if figure is None else figure / 100,
        )
    whole = source.row(recipe) if source else None
    hmean = Cell(
        value=_hmean([c.value for c in cells.values()]),
        published=None if whole is None or whole.hmean is None else whole.hmean / 100,
    )
    return Row(model=name, cells=cells, hmean=hmean if mean else None)


def _joined(rows: Sequence[Row], columns: Sequence[str]) -> Row:
    """One row of all oracles, as the paper prints them."""
    cells = {}
    for column in columns:
        known = [row for row in rows if row.cells[column].value is not None]
        if len(known) > 1:
            names = " and ".join(row.model for row in known)
            raise DataError(f"{names} are both oracles of {column}; name one of them only")
        cells[column] = known[0].cells[column] if known else Cell(value=None)
    return Row(model=ORACLE, cells=cells, hmean=None)


def _hmean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(harmonic_mean(known)) if known and len(known) == len(values) else None


def _shown(cell: Cell) -> str:
    """`59.2`, with a published figure `59.2 (59.0, +0.2)`."""
    text = percent(cell.value)
    if cell.published is None:
        return text
    difference = "-" if cell.difference is None else f"{round(100 * cell.difference, 1) + 0.0:+.1f}"  # never -0.0
    return f"{text} ({percent(cell.published)}, {difference})"


def _foot(table: Table) -> str:
    parts = ["mIoU in percent"]
    sides = {str(c.short_side or "native") for row in table.rows for c in row.cells.values() if c.value is not None}
    if table.at == "max" and sides:
        parts.append(f"reached at shorter sides {', '.join(sorted(sides, key=_by_number))}")
    parts += ["h. mean: harmonic mean over the datasets"] if table.has_mean else []
    parts += ["in brackets: published, difference"] if table.compared else []
    return "; ".join([*parts, "*: best"])


def _by_number(side: str) -> tuple[int, str]:
    return (int(side) if side.isdigit() else 0, side)


def _csv(table: Table) -> str:
    def fields(of: Callable[[Cell], float | None], row: Row) -> list[str]:
        return ["" if (value := of(cell)) is None else repr(value) for cell in table.cells(row)]

    heads = ["hmean" if head == HMEAN else head for head in table.heads]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    extra = [f"{head} {what}" for what in ("published", "difference") for head in heads] if table.compared else []
    writer.writerow(("table", "model", *heads, *extra))
    for row in table.rows:
        values = fields(lambda cell: cell.value, row)
        if table.compared:
            values += fields(lambda cell: cell.published, row) + fields(lambda cell: cell.difference, row)
        writer.writerow((table.name, row.model, *values))
    return out.getvalue().rstrip("\n")
