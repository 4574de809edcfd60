"""Command: report."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import Annotated

import typer

from segstream.cli.console import note
from segstream.shards.files import write_text


def report(
    evals: Annotated[Path, typer.Option(help="Folder of result files, MODEL.json.")] = Path("results/eval"),
    pictures: Annotated[Path, typer.Option(help="Folder of pictures, MODEL/DATASET/.")] = Path("results/pictures"),
    confusion: Annotated[Path, typer.Option(help="Folder of confusion matrices, MODEL/; may be missing.")] = Path(
        "results/confusion"
    ),
    metrics: Annotated[
        Path, typer.Option(help="Folder of files of `eval --metrics`, MODEL.speed.json; may be missing.")
    ] = Path("results/metrics"),
    runs: Annotated[Path, typer.Option(help="Folder of run folders.")] = Path("runs"),
    out: Annotated[Path, typer.Option(help="Folder for summary.json and report.html.")] = Path("results"),
) -> None:
    """Write results/summary.json and results/report.html: tables, curves, pictures, speed, data, in one page."""
    from segstream.cli.report.collect import gather
    from segstream.cli.report.report import render_report

    inputs = gather(evals=evals, pictures=pictures, confusion=confusion, metrics=metrics, runs=runs)
    write_text(out / "summary.json", jsonlib.dumps(inputs.summary.as_dict(), indent=2, allow_nan=False) + "\n")
    write_text(out / "report.html", render_report(inputs))
    note(f"report: {(out / 'report.html').resolve()}")
