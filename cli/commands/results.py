"""Command: results."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer

from segstream.cli.console import print_json
from segstream.shards.errors import DataError, UsageError

if TYPE_CHECKING:
    from segstream.cli.report.results import Format
    from segstream.cli.report.tables import Scales


def results(
    runs: Annotated[
        list[Path] | None, typer.Argument(help="Result files of `eval --out`, folders of them, or run folders.")
    ] = None,
    summary: Annotated[Path | None, typer.Option(help="Print a summary that `report` wrote instead.")] = None,
    table: Annotated[
        Literal["zero-shot", "training", "training-own", "oracle", "all"] | None,
        typer.Option(help="A table of the paper; by default all datasets stand side by side.", show_default="none"),
    ] = None,
    at: Annotated[str, typer.Option(help="With --table: a shorter side, or max: the best of those there are.")] = "max",
    scales: Annotated[
        Literal["ss", "ms"], typer.Option(help="With --table: results at a single scale, or at several.")
    ] = "ss",
    published: Annotated[bool, typer.Option("--published", help="With --table: the published figures beside.")] = False,
    form: Annotated[Literal["text", "markdown", "latex", "csv", "json"], typer.Option(help="How to print.")] = "text",
    json: Annotated[bool, typer.Option("--json", help="The same as --form json.")] = False,
) -> None:
    """Put models side by side: mIoU on every dataset and their harmonic mean, the best marked."""
    from segstream.cli.report.collect import common_seed, manifests, read_any
    from segstream.cli.report.results import read_summary, render, summarize

    if (summary is None) == (not runs):
        raise UsageError("name result files or folders, or --summary FILE; one of the two")
    if table is None and (at != "max" or scales != "ss" or published):
        raise UsageError("--at, --scales and --published choose among the results of a table: add --table")
    style = "json" if json else form
    if table is not None:
        if not runs:
            raise UsageError("--table needs result files or folders; a summary has only one table")
        _print_tables(runs, table, at, scales, style, published)
        return
    if summary is not None:
        shown = read_summary(summary)
    else:
        found = [result for path in runs or () for result in read_any(path)]
        columns = list(dict.fromkeys(score.dataset for result in found for score in result.scores))
        shown = summarize(found, heldout=columns, seed=common_seed(found), data=manifests(found))
    typer.echo(render(shown, style, bold=sys.stdout.isatty()))


def _print_tables(runs: Sequence[Path], table: str, at: str, scales: Scales, form: Format, published: bool) -> None:
    """One table, or all that there are results for."""
    from segstream.cli.report.collect import manifests, read_any
    from segstream.cli.report.tables import TableName, build_table, render_table, table_dict

    if at != "max" and not at.isdigit():
        raise UsageError(f"--at {at}: give a shorter side, as 720, or max")
    side: int | Literal["max"] = "max" if at == "max" else int(at)
    found = [result for path in runs for result in read_any(path)]
    manifests(found)
    names: Sequence[TableName] = get_args(TableName) if table == "all" else [table]  # type: ignore[list-item]
    made = [build_table(name, found, at=side, scales=scales, compare=published) for name in names]
    made = [t for t in made if t.rows]
    if not made:
        where = f"at {at}, {'single scale' if scales == 'ss' else 'several scales'}"
        raise DataError(f"no result belongs into the table {table} {where}; evaluate so, or choose another table")
    if form == "json":
        print_json([table_dict(t) for t in made])
    else:
        typer.echo("\n\n".join(render_table(t, form, bold=sys.stdout.isatty()) for t in made))
