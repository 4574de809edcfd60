"""Commands: eval, results, report."""

from __future__ import annotations

import json as jsonlib
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer

from segstream.cli.console import note, print_json, print_table, write_text
from segstream.shards.errors import DataError, UsageError

if TYPE_CHECKING:
    from segstream.cli.report.results import Format
    from segstream.cli.report.tables import Scales
    from segstream.model.evaluation.protocol import Scheme

FOR_GRIDS = frozenset({"grid", "out", "json", "runner", "jobs", "retries", "print_script"})  # parameters of `eval`
Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")]


def evaluate(
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
        Path | None, typer.Option(help="Write the headline numbers and images/s for `dvc metrics show`.")
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
    json: Json = False,
) -> None:
    """Judge a checkpoint: mIoU in each dataset's own taxonomy, or in universal classes.

    Under torchrun, or with --processes, each process takes its share of the images and the result is the same.
    """
    if grid is not None:
        _refuse(context, set(context.params) - FOR_GRIDS, "is not for --grid: the grid file says what to judge and how")
        from segstream.cli.jobs.eval_grid import evaluate_grid

        how = {"runner": runner, "at_a_time": jobs, "retries": retries, "script": print_script, "json": json}
        whole = evaluate_grid(grid, Path("results/grid") if out is None else out, **how)
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
        speeds = {v.exam.url: v.images_per_s for v in verdicts if v.images_per_s is not None}
        write_text(metrics, jsonlib.dumps(_headline(rows, speeds), indent=2) + "\n")
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


def _headline(rows: Sequence[dict[str, Any]], speeds: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """The maximum over shorter sides, by data set; by data set and classes where there are several.

    Args:
        speeds: URL of a set -> images per second.
    """
    best = [row for row in rows if row["max"]]
    names = [row["dataset"] for row in best]
    return {
        row["dataset"] if names.count(row["dataset"]) == 1 else f"{row['dataset']} {row['taxonomy']}": {
            key: row[key] for key in ("miou", "macc", "acc")
        }
        | ({"images_per_s": round(speeds[row["url"]], 2)} if row["url"] in speeds else {})
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


def report(
    evals: Annotated[Path, typer.Option(help="Folder of result files, MODEL.json.")] = Path("results/eval"),
    pictures: Annotated[Path, typer.Option(help="Folder of pictures, MODEL/DATASET/.")] = Path("results/pictures"),
    confusion: Annotated[Path, typer.Option(help="Folder of confusion matrices, MODEL/; may be missing.")] = Path(
        "results/confusion"
    ),
    metrics: Annotated[
        Path, typer.Option(help="Folder of files of `eval --metrics`, MODEL.json, for speed; may be missing.")
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
