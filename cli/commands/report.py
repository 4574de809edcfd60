"""Command: report."""

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
    ensembles: Annotated[Path, typer.Option(help="Folder of what `ensemble --score` left; may be missing.")] = Path(
        "results/ensembles"
    ),
    out: Annotated[Path, typer.Option(help="Folder for summary.json and report.html.")] = Path("results"),
) -> None:
    """Write results/summary.json and results/report.html: tables, curves, pictures, speed, data, in one page."""
    from segstream.cli.report.report import make_report

    summary, page = make_report(
        evals=evals, pictures=pictures, confusion=confusion, metrics=metrics, runs=runs, ensembles=ensembles
    )
    write_text(out / "summary.json", summary.render("json") + "\n")
    write_text(out / "report.html", page)
    note(f"report: {(out / 'report.html').resolve()}")
