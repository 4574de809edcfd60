"""Command: results."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from segstream.cli.console import print_json
from segstream.shards.errors import DataError, UsageError


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
    from segstream.cli.report.results import manifests, read_any, read_summary, summarize
    from segstream.cli.report.tables import TABLES, build_table, render_table, table_dict

    if (summary is None) == (not runs):
        raise UsageError("name result files or folders, or --summary FILE; one of the two")
    if table is None and (at != "max" or scales != "ss" or published):
        raise UsageError("--at, --scales and --published choose among the results of a table: add --table")
    if table is not None and not runs:
        raise UsageError("--table needs result files or folders; a summary has only one table")
    if table is not None and at != "max" and not at.isdigit():
        raise UsageError(f"--at {at}: give a shorter side, as 720, or max")
    style, bold = "json" if json else form, sys.stdout.isatty()
    models = [model for path in runs or () for model in read_any(path)]
    if table is None:
        shown = summarize(models) if summary is None else read_summary(summary)
        typer.echo(shown.render(style, bold=bold))
        return
    manifests(models)  # of one version of the data only
    side: int | Literal["max"] = "max" if at == "max" else int(at)
    names = TABLES if table == "all" else (table,)
    made = [build_table(name, models, at=side, scales=scales, compare=published) for name in names]
    made = [t for t in made if t.rows]
    if not made:
        where = f"at {at}, {'single scale' if scales == 'ss' else 'several scales'}"
        raise DataError(f"no result belongs into the table {table} {where}; evaluate so, or choose another table")
    if style == "json":
        print_json([table_dict(t) for t in made])
    else:
        typer.echo("\n\n".join(render_table(t, style, bold=bold) for t in made))
