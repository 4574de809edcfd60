"""Command: eval."""

from __future__ import annotations

import json as jsonlib
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer

from segstream.cli.console import print_json, print_table
from segstream.shards.errors import UsageError
from segstream.shards.files import write_text

if TYPE_CHECKING:
    from segstream.model.evaluation.protocol import Scheme

FOR_GRIDS = frozenset({"grid", "out", "json", "runner", "jobs", "retries", "print_script"})  # parameters of `eval`


def eval(
    context: typer.Context,
    checkpoint: Annotated[
        Path | None,
        typer.Argument(help="A checkpoint of `train`, or a published one.", show_default="with --grid: none"),
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
    n_scales: Annotated[
        str | None,
        typer.Option(help="Scales that an HMSA network combines on whole images.", show_default="recipe's, or its own"),
    ] = None,
    crop: Annotated[int | None, typer.Option(help="Window side.", show_default="recipe's, or 713")] = None,
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
    metrics: Annotated[
        Path | None,
        typer.Option(
            help="Write the headline numbers for `dvc metrics show` to FILE.json, images/s to FILE.speed.json."
        ),
    ] = None,
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
    json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")] = False,
) -> None:
    """Judge a checkpoint: mIoU in each dataset's own taxonomy, or in universal classes.

    Under torchrun, or with --processes, each process takes its share of the images and the result is the same.
    """
    if grid is not None:
        _refuse(context, set(context.params) - FOR_GRIDS, "is not for --grid: the grid file says what to judge and how")
        from segstream.cli.jobs.eval_grid import evaluate_grid

        folder = Path("results/grid") if out is None else out
        whole = evaluate_grid(
            grid, folder, runner=runner, at_a_time=jobs, retries=retries, script=print_script, json=json
        )
        raise typer.Exit(0 if whole else 1)
    _refuse(context, FOR_GRIDS - {"out", "json"}, "is for --grid only")
    if checkpoint is None or not data:
        raise UsageError("name a CHECKPOINT and at least one --data URL, or a --grid FILE")
    from segstream.cli.jobs.torchrun import end_with_parent, run_processes, without
    from segstream.cli.predictions.predictor import numbers, scales_of
    from segstream.cli.report.confusion import write_confusion
    from segstream.eval_sets import Asked, Exam, Judge
    from segstream.evaluate import draw, examine
    from segstream.model import distributed as ranks

    end_with_parent()
    schemes = _schemes(taxonomy)
    asked = Asked(
        short_sides=_short_sides(short_side),
        scales=None if scales is None else scales_of(scales),
        n_scales=None if n_scales is None else numbers("--n-scales", n_scales),
        crop=crop,
        flip=flip,
    )
    judge = Judge.load(checkpoint, asked)
    exams = [Exam.open(judge, url, schemes=schemes, relabeled=relabeled) for url in data]
    if processes > 1:  # not before: what is wrong with the arguments is said once
        raise typer.Exit(run_processes(without(sys.argv[1:], "--processes"), processes))
    me = ranks.start()
    try:
        verdicts = examine(judge, exams, me, rule=rule, out=out, restart_changed=restart_changed)
    finally:
        ranks.stop()
    if not me.is_main:
        return
    rows = [verdict.row for verdict in verdicts]
    if metrics is not None:
        write_text(metrics, jsonlib.dumps(_headline(rows), indent=2) + "\n")
        speeds = {v.exam.url: round(v.images_per_s, 2) for v in verdicts if v.images_per_s is not None}
        write_text(metrics.with_suffix(".speed.json"), jsonlib.dumps(speeds, indent=2) + "\n")
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


def _refuse(context: typer.Context, names: Collection[str], why: str) -> None:
    """Raise UsageError for the first of these parameters that the user gave."""
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name in names and source is not None and source.name == "COMMANDLINE":
            raise UsageError(f"{parameter.opts[0]} {why}")


def _schemes(text: str) -> list[Scheme]:
    from segstream.model.evaluation.protocol import Scheme

    known = get_args(Scheme)
    asked = [part.strip() for part in text.split(",")]
    for name in asked:
        if name not in known:
            raise UsageError(f"--taxonomy {text}: {name!r} is not one of {', '.join(known)}")
    return [scheme for scheme in known if scheme in asked]


def _short_sides(text: str | None) -> list[int | None] | None:
    """`360,720`, or `native`; None leaves the recipe's."""
    from segstream.cli.predictions.predictor import short_side

    return None if text is None else [short_side(part) for part in text.replace(" ", "").split(",")]


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
        lines.append(_line(row, str(row["short_side"] or "native")))
        following = rows[i + 1] if i + 1 < len(rows) else None
        of_set = [r for r in rows if (r["url"], r["taxonomy"]) == (row["url"], row["taxonomy"])]
        if several and following not in of_set:
            lines.append(_line(next(r for r in of_set if r["max"]), "max"))
    print_table(("dataset", "classes", "images", "short side", "mIoU", "mAcc", "pixel acc."), lines)


def _line(row: dict[str, Any], side: str) -> tuple[str, ...]:
    classes = row["taxonomy"] + (", relabelled" if row["relabeled"] else "")
    return row["dataset"], classes, str(row["images"]), side, *(f"{100 * row[k]:.1f}" for k in ("miou", "macc", "acc"))
