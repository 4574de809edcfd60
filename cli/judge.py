"""Commands: eval, results, report."""

from __future__ import annotations

import json as jsonlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import typer

from cli.output import note, print_json, print_table, write_text
from cli.protocol import Scheme
from shards.errors import UsageError

Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")]
NATIVE, MULTI = "native", "multi"


def evaluate(
    checkpoint: Annotated[
        Path | None, typer.Argument(help="A checkpoint of `train`.", show_default="with --grid: none")
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(help="Shard sets with native-size images (val, test).", show_default="with --grid: none"),
    ] = None,
    taxonomy: Annotated[
        str,
        typer.Option(
            help="Classes to judge in: auto, native, universal, or native,universal. auto: universal classes for a "
            "universal model on a dataset to train on, otherwise the dataset's own."
        ),
    ] = "auto",
    short_side: Annotated[
        str | None,
        typer.Option(help="Resize to this side first; several: 360,720,1080; or native.", show_default="recipe's"),
    ] = None,
    scales: Annotated[
        str | None, typer.Option(help="Scales to average over: 0.75,1.0,1.25, or multi.", show_default="recipe's")
    ] = None,
    crop: Annotated[int | None, typer.Option(help="Window side.", show_default="recipe's")] = None,
    flip: Annotated[bool | None, typer.Option("--flip/--no-flip", help="Average with the mirror image.")] = None,
    rule: Annotated[
        Literal["mseg", "hmsa"], typer.Option(help="A class that occurs nowhere counts 0 (mseg) or not at all (hmsa).")
    ] = "mseg",
    relabeled: Annotated[
        bool | None,
        typer.Option(
            "--relabeled/--no-relabeled",
            help="Judge as a model of relabelled labels.",
            show_default="if it was trained on them and the set has them",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Also write the result (JSON) to this file; a killed evaluation then goes on.")
    ] = None,
    metrics: Annotated[Path | None, typer.Option(help="Write the headline numbers for `dvc metrics show`.")] = None,
    confusion: Annotated[Path | None, typer.Option(help="Folder for confusion matrices, JSON and PNG.")] = None,
    pictures: Annotated[Path | None, typer.Option(help="Folder for pictures of the first images.")] = None,
    num_pictures: Annotated[int, typer.Option(min=0, help="Pictures per data set.")] = 4,
    processes: Annotated[int, typer.Option(min=1, help="Processes on this machine that share the images.")] = 1,
    restart_changed: Annotated[
        bool, typer.Option("--restart-changed", help="Forget another, unfinished evaluation of the same --out.")
    ] = False,
    grid: Annotated[
        Path | None,
        typer.Option(
            help="Judge all models of this file on all its data instead, each in a process of its own; --out is a "
            "folder then. What is finished is kept."
        ),
    ] = None,
    runner: Annotated[Literal["local", "ray", "slurm"], typer.Option(help="With --grid: what runs it.")] = "local",
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="With --grid: evaluations at a time (local, slurm).", show_default="GPUs, or 1"),
    ] = None,
    retries: Annotated[int, typer.Option(min=0, help="With --grid: further tries at what failed.")] = 1,
    print_script: Annotated[
        bool, typer.Option("--print", help="With --grid: print a SLURM array script, run nothing.")
    ] = False,
    json: Json = False,
) -> None:
    """Judge a checkpoint: mIoU in each dataset's own taxonomy, or in universal classes.

    Under torchrun, or with --processes, each process takes its share of the images and the result is the same.
    """
    if grid is not None:
        if checkpoint is not None or data:
            raise UsageError("--grid names checkpoints and data itself; leave out CHECKPOINT and --data")
        from cli.fanout import judge_grid

        folder = Path("results/grid") if out is None else out
        whole = judge_grid(grid, folder, runner=runner, jobs=jobs, retries=retries, script=print_script, json=json)
        raise typer.Exit(0 if whole else 1)
    if checkpoint is None or not data:
        raise UsageError("name a CHECKPOINT and at least one --data URL, or a --grid FILE")
    sides, factors, schemes = _short_sides(short_side), _scales(scales), _schemes(taxonomy)
    if processes > 1:
        from cli.processes import run_processes

        raise typer.Exit(run_processes(_without(sys.argv[1:], "--processes"), processes))

    from cli.confusion import write_confusion
    from cli.evaluation import draw, examine
    from cli.exam import Exam, Judge
    from model import ranks

    me = ranks.start()
    try:
        judge = Judge.load(checkpoint, short_sides=sides, scales=factors, crop=crop, flip=flip)
        exams = [Exam.open(judge, url, schemes=schemes, relabeled=relabeled) for url in data]
        verdicts = examine(judge, exams, me, rule=rule, out=out, restart_changed=restart_changed)
    finally:
        ranks.stop()
    if not me.is_main:
        return
    rows = [verdict.row for verdict in verdicts]
    if metrics is not None:
        write_text(metrics, jsonlib.dumps(_headline(rows), indent=2) + "\n")
    if confusion is not None:
        for verdict in verdicts:
            write_confusion(confusion, verdict)
    if pictures is not None:
        for exam in exams:
            draw(judge, exam, pictures, num_pictures)
    if json:
        print_json(rows)
    else:
        _print_rows(rows)


def _schemes(text: str) -> list[Scheme]:
    known = get_args(Scheme)
    asked = [part.strip() for part in text.split(",")]
    for name in asked:
        if name not in known:
            raise UsageError(f"--taxonomy {text}: {name!r} is not one of {', '.join(known)}")
    return [scheme for scheme in known if scheme in asked]


def _short_sides(text: str | None) -> list[int | None] | None:
    """`360,720`, or `native`; None leaves the recipe's."""
    if text is None:
        return None
    try:
        return [None if part.strip() == NATIVE else int(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(f"--short-side {text}: give whole numbers, as in 360,720,1080, or {NATIVE}") from error


def _scales(text: str | None) -> tuple[float, ...] | None:
    """`0.75,1.0`, or `multi`; None leaves the recipe's."""
    from model.config import MULTI_SCALE

    if text is None or text == MULTI:
        return None if text is None else MULTI_SCALE
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"--scales {text}: give numbers, as in 0.75,1.0,1.25, or {MULTI}") from error


def _without(args: Sequence[str], option: str) -> list[str]:
    """Arguments of this command without an option and its value."""
    kept, skip = [], False
    for arg in args:
        if not skip and arg != option and not arg.startswith(f"{option}="):
            kept.append(arg)
        skip = arg == option
    return kept


def _headline(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """The maximum over shorter sides, by data set; by data set and classes where there are several."""
    best = [row for row in rows if row["max"]]
    names = [row["dataset"] for row in best]
    return {
        row["dataset"] if names.count(row["dataset"]) == 1 else f"{row['dataset']} {row['taxonomy']}": {
            key: row[key] for key in ("miou", "macc", "acc")
        }
        for row in best
    }


def _print_rows(rows: Sequence[dict[str, Any]]) -> None:
    """A line for each row; where a set was judged at several sides, one more for the maximum."""
    lines: list[tuple[str, ...]] = []
    several = len({row["short_side"] for row in rows}) > 1
    for i, row in enumerate(rows):
        lines.append(_line(row, str(row["short_side"] or NATIVE)))
        following = rows[i + 1] if i + 1 < len(rows) else None
        of_set = [r for r in rows if (r["url"], r["taxonomy"]) == (row["url"], row["taxonomy"])]
        if several and following not in of_set:
            lines.append(_line(next(r for r in of_set if r["max"]), "max"))
    print_table(("dataset", "classes", "images", "short side", "mIoU", "mAcc", "pixel acc."), lines)


def _line(row: dict[str, Any], side: str) -> tuple[str, ...]:
    classes = row["taxonomy"] + (", relabelled" if row["relabeled"] else "")
    return row["dataset"], classes, str(row["images"]), side, *(f"{100 * row[k]:.1f}" for k in ("miou", "macc", "acc"))


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
