"""The tables of the paper: models by datasets, in its order of columns, beside its published figures if asked for.

Source of the columns, of the best of three shorter sides, and of the harmonic mean as the last column: Lambert et al.,
MSeg, CVPR 2020. A result that is not there is not there: it takes part in no maximum and in no mean.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from segstream.cli.report.published import PublishedTable, published
from segstream.cli.report.results import ModelResults
from segstream.cli.report.text_table import HMEAN, Format, csv_text, percent, text_table
from segstream.model.evaluation.metrics import EvalResult, harmonic_mean
from segstream.shards.errors import DataError

TableName = Literal["zero-shot", "training", "training-own", "oracle"]
Scales = Literal["ss", "ms"]
At = int | Literal["max"]
TABLES: tuple[TableName, ...] = get_args(TableName)
TITLES = {
    "zero-shot": "Zero-shot: datasets held out, in their own classes",
    "training": "Training datasets, in universal classes",
    "training-own": "Training datasets, in their own classes",
    "oracle": "Oracle: trained on the dataset itself, in its own classes",
}
ORACLE = "oracle"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A value in 0..1, the side at which it was reached (none: the images' own), and what was published."""

    value: float | None = None
    short_side: int | None = None
    side: str = "native"
    published: float | None = None

    @property
    def difference(self) -> float | None:
        """Ours less the published one."""
        return None if self.value is None or self.published is None else self.value - self.published

    @property
    def text(self) -> str:
        """`59.2`, with a published figure `59.2 (59.0, +0.2)`."""
        if self.published is None:
            return percent(self.value)
        difference = "-" if self.difference is None else f"{round(100 * self.difference, 1) + 0.0:+.1f}"  # never -0.0
        return f"{percent(self.value)} ({percent(self.published)}, {difference})"


Figures = dict[str, Figure]
"""By column."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperTable:
    """One of the paper's tables."""

    name: TableName
    at: At
    scales: Scales
    columns: tuple[str, ...]
    """Datasets, and `HMEAN` in all but the oracles', each of which is another model in every column."""
    rows: tuple[tuple[str, Figures], ...]
    """A model, and its figures by column."""
    compared: bool
    """Whether published figures stand beside ours."""


def build_table(
    name: TableName, models: Sequence[ModelResults], *, at: At, scales: Scales, compare: bool
) -> PaperTable:
    """Choose the results that belong into a table and put them in its columns.

    The columns are the paper's of which there is any result, then other datasets; with `compare` all of the paper's and
    no other. A row has a mean if it has all columns.

    Args:
        models: in the order of the rows.
        at: the shorter side, or `max`: for each dataset the best of those there are.
        scales: results at a single scale, or averaged over several.
        compare: put the published figures of the same recipe beside ours.

    Raises:
        DataError: a model has two results for one column, or two oracles know the same dataset.
    """

    def belongs(result: EvalResult) -> bool:
        regime = result.regime
        if regime == "naive":  # evaluated in the dataset's own classes, whichever it is
            regime = "training-own" if result.dataset in published().training.columns else "zero-shot"
        return regime == name and (len(result.scales) > 1) == (scales == "ms") and at in ("max", result.short_side)

    chosen = [(m.name, replace(m, results=tuple(filter(belongs, m.results))).by_dataset()) for m in models]
    chosen = [(model, results) for model, results in chosen if results]
    standard = (published().zero_shot if name in ("zero-shot", ORACLE) else published().training).columns
    found = dict.fromkeys(dataset for _, results in chosen for dataset in results)
    datasets = (
        standard if compare else (*filter(found.__contains__, standard), *(d for d in found if d not in standard))
    )
    source = _source(name, scales) if compare else None
    rows = [(model, _figures(model, results, datasets, source)) for model, results in chosen]
    columns = (*datasets, HMEAN)
    if name == ORACLE:
        rows, columns = _joined(rows, datasets), datasets
    return PaperTable(name=name, at=at, scales=scales, columns=columns, rows=tuple(rows), compared=compare)


def render_table(table: PaperTable, form: Format, *, bold: bool = False) -> str:
    """A table with a line above that says what it is; `csv` gives unrounded values in 0..1."""
    if form == "csv":
        kinds = {"value": ""} | ({"published": " published", "difference": " difference"} if table.compared else {})
        names = ["hmean" if column == HMEAN else column for column in table.columns]
        heads = [name + kind for kind in kinds.values() for name in names]
        lines = [
            (table.name, m, *(getattr(f[c], kind) for kind in kinds for c in table.columns)) for m, f in table.rows
        ]
        return csv_text(("table", "model", *heads), lines)
    sides = "best shorter side" if table.at == "max" else f"shorter side {table.at}"
    title = f"{TITLES[table.name]}; {sides}, {'single scale' if table.scales == 'ss' else 'several scales'}"
    heading = {"markdown": f"**{title}**\n\n", "latex": f"% {title}\n"}.get(form, f"{title}\n\n")
    rows = [(model, [(figures[c].value, figures[c].text) for c in table.columns]) for model, figures in table.rows]
    foot = ["mIoU in percent"]
    shown = [f for _, figures in table.rows for c, f in figures.items() if c != HMEAN and f.value is not None]
    if table.at == "max" and shown:
        reached = sorted({(f.short_side or 0, f.side) for f in shown})
        foot.append(f"reached at shorter sides {', '.join(side for _, side in reached)}")
    foot += ["h. mean: harmonic mean over the datasets"] if HMEAN in table.columns else []
    foot += ["in brackets: published, difference"] if table.compared else []
    return heading + text_table(form, table.columns, rows, bold=bold, foot="; ".join([*foot, "*: best"]))


def table_dict(table: PaperTable) -> dict[str, Any]:
    """A table as plain values."""
    rows = []
    for model, figures in table.rows:
        cells = {column: {**asdict(figure), "difference": figure.difference} for column, figure in figures.items()}
        mean = {"hmean": cells.pop(HMEAN)} if HMEAN in cells else {}
        rows.append({"model": model, "cells": cells, **mean})
    columns = [column for column in table.columns if column != HMEAN]
    return {"table": table.name, "at": table.at, "scales": table.scales, "columns": columns, "rows": rows}


def _source(name: TableName, scales: Scales) -> PublishedTable | None:
    """The published table of the same kind; None where there is none."""
    if name in ("zero-shot", ORACLE):
        return published().zero_shot if scales == "ss" else published().zero_shot_ms
    return published().training if (name, scales) == ("training", "ss") else None


def _figures(
    name: str, results: dict[str, EvalResult], datasets: Sequence[str], source: PublishedTable | None
) -> Figures:
    model = next((r.model for r in results.values() if r.model is not None), name)
    printed = source.figures(published().released.get(model, model)) if source else {}
    theirs = {column: value / 100 for column, value in printed.items()}
    ours = {d: Figure(published=theirs.get(d)) for d in datasets}
    for dataset in ours.keys() & results.keys():
        r = results[dataset]
        ours[dataset] = replace(ours[dataset], value=r.miou, short_side=r.short_side, side=r.side)
    values = [figure.value for figure in ours.values() if figure.value is not None]
    mean = harmonic_mean(values) if values and len(values) == len(datasets) else None
    return ours | {HMEAN: Figure(value=mean, published=theirs.get(HMEAN))}


def _joined(rows: Sequence[tuple[str, Figures]], datasets: Sequence[str]) -> list[tuple[str, Figures]]:
    """One row of all oracles, as the paper prints them."""
    joined = {}
    for dataset in datasets:
        known = [(model, figures[dataset]) for model, figures in rows if figures[dataset].value is not None]
        if len(known) > 1:
            names = " and ".join(model for model, _ in known)
            raise DataError(f"{names} are both oracles of {dataset}; name one of them only")
        joined[dataset] = known[0][1] if known else Figure()
    return [(ORACLE, joined)] if rows else []
