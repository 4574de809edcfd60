"""Commands: eval, results, report."""

from __future__ import annotations

import json as jsonlib
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from cli.output import note, print_json, print_table, progress, write_text
from shards.errors import UsageError

Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")]


def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint of `train`.")],
    data: Annotated[list[str], typer.Option(help="Shard sets with native-size images (val, test).")],
    short_side: Annotated[int | None, typer.Option(help="Resize to this side first.", show_default="recipe's")] = None,
    crop: Annotated[int | None, typer.Option(help="Window side.", show_default="recipe's")] = None,
    flip: Annotated[bool | None, typer.Option("--flip/--no-flip", help="Average with the mirror image.")] = None,
    out: Annotated[Path | None, typer.Option(help="Also write the result (JSON) to this file.")] = None,
    metrics: Annotated[Path | None, typer.Option(help="Write the headline numbers for `dvc metrics show`.")] = None,
    pictures: Annotated[Path | None, typer.Option(help="Folder for pictures of the first images.")] = None,
    num_pictures: Annotated[int, typer.Option(min=0, help="Pictures per data set.")] = 4,
    json: Json = False,
) -> None:
    """Judge a checkpoint: mIoU in each dataset's own taxonomy."""
    from cli.evaluation import Judge

    judge = Judge.load(checkpoint, short_side=short_side, crop=crop, flip=flip)
    results = []
    for url in data:
        with progress(f"eval {judge.name} on {url}") as report:
            results.append(judge.on(url, report, pictures=pictures, num_pictures=num_pictures))
    if out is not None:
        write_text(out, jsonlib.dumps(results, indent=2, allow_nan=False) + "\n")
    if metrics is not None:
        headline = {r["dataset"]: {k: r[k] for k in ("miou", "macc", "acc")} for r in results}
        write_text(metrics, jsonlib.dumps(headline, indent=2) + "\n")
    if json:
        print_json(results)
        return
    print_table(
        ("dataset", "classes", "images", "mIoU", "mAcc", "pixel acc."),
        [
            (r["dataset"], r["taxonomy"], r["images"], *(f"{100 * r[k]:.1f}" for k in ("miou", "macc", "acc")))
            for r in results
        ],
    )


def results(
    runs: Annotated[list[Path] | None, typer.Argument(help="Result files of `eval --out`, or folders of them.")] = None,
    summary: Annotated[Path | None, typer.Option(help="Print a summary that `report` wrote instead.")] = None,
    form: Annotated[Literal["text", "markdown", "csv", "json"], typer.Option(help="How to print.")] = "text",
    json: Annotated[bool, typer.Option("--json", help="The same as --form json.")] = False,
) -> None:
    """Put models side by side: mIoU on every dataset and their harmonic mean, the best marked."""
    from cli.gather import common_seed, manifests, read_any
    from cli.results import read_summary, render, summarize

    if (summary is None) == (not runs):
        raise UsageError("name result files or folders, or --summary FILE; one of the two")
    if summary is not None:
        table = read_summary(summary)
    else:
        found = [result for path in runs or () for result in read_any(path)]
        columns = list(dict.fromkeys(score.dataset for result in found for score in result.scores))
        table = summarize(found, heldout=columns, seed=common_seed(found), data=manifests(found))
    typer.echo(render(table, "json" if json else form, bold=sys.stdout.isatty()))


def report(
    evals: Annotated[Path, typer.Option(help="Folder of result files, MODEL.json.")] = Path("results/eval"),
    pictures: Annotated[Path, typer.Option(help="Folder of pictures, MODEL/DATASET/.")] = Path("results/pictures"),
    runs: Annotated[Path, typer.Option(help="Folder of run folders.")] = Path("runs"),
    out: Annotated[Path, typer.Option(help="Folder for summary.json and report.html.")] = Path("results"),
) -> None:
    """Write results/summary.json and results/report.html: table, curves, pictures, data, in one page."""
    from cli.gather import gather
    from cli.report import render_report

    inputs = gather(evals=evals, pictures=pictures, runs=runs)
    write_text(out / "summary.json", jsonlib.dumps(inputs.summary.as_dict(), indent=2, allow_nan=False) + "\n")
    write_text(out / "report.html", render_report(inputs))
    note(f"report: {(out / 'report.html').resolve()}")
