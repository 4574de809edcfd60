"""Command: eval."""

from __future__ import annotations

import json as jsonlib
import sys
from collections import Counter
from collections.abc import Collection, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer

from segstream.cli.commands.options import Crop, Flip, Json, LongSide, NScales, infer_fields, parse_side
from segstream.cli.console import note, note_place, print_json, print_table, progress
from segstream.shards.errors import UsageError
from segstream.shards.files import write_bytes, write_text

if TYPE_CHECKING:
    from segstream.evaluation import EvalModel
    from segstream.model.evaluation.metrics import EvalResult, Shares
    from segstream.model.evaluation.protocol import Protocol, Scheme
    from segstream.pipeline.eval_images import EvalImages

FOR_GRIDS = frozenset({"grid", "out", "json", "runner", "jobs", "retries", "print_script"})  # parameters of `eval`
FIT = {"checkpoint", "data", "short_side", "long_side", "scales", "n_scales", "crop", "flip", "fit_temperature", "json"}


def eval(
    context: typer.Context,
    checkpoint: Annotated[
        Path | None,
        typer.Argument(help="A checkpoint of `train`, or a published one.", show_default="with --grid: none"),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="Shard sets with native-size images (val, test, or train).", show_default="with --grid: none"
        ),
    ] = None,
    taxonomy: Annotated[
        str,
        typer.Option(
            help="Classes to evaluate in: auto, native, universal, or native,universal. auto: universal classes for a "
            "universal model on a dataset to train on, otherwise the dataset's own."
        ),
    ] = "auto",
    short_side: Annotated[
        str | None,
        typer.Option(help="Resize to this side first; several: 360,720,1080; or native.", show_default="recipe's"),
    ] = None,
    long_side: LongSide = None,
    scales: Annotated[
        str | None, typer.Option(help="Scales to average over: 0.75,1.0,1.25, or multi.", show_default="recipe's")
    ] = None,
    n_scales: NScales = None,
    crop: Crop = None,
    flip: Flip = None,
    rule: Annotated[
        Literal["mseg", "hmsa"], typer.Option(help="A class that occurs nowhere counts 0 (mseg) or not at all (hmsa).")
    ] = "mseg",
    relabeled: Annotated[
        bool | None,
        typer.Option(
            help="Evaluate as a model of relabelled labels.",
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
    worst: Annotated[
        int,
        typer.Option(min=0, help="With --pictures: also the images of lowest mIoU, with error masks, per data set."),
    ] = 0,
    processes: Annotated[int, typer.Option(min=1, help="Processes on this machine that share the images.")] = 1,
    fit_temperature: Annotated[
        Path | None,
        typer.Option(help="Instead: fit a temperature to the labels; write the model with it to this file."),
    ] = None,
    restart_changed: Annotated[
        bool, typer.Option("--restart-changed", help="Forget another, unfinished evaluation of the same --out.")
    ] = False,
    grid: Annotated[
        Path | None,
        typer.Option(
            help="Evaluate all models of this file on all its data instead, each in a process of its own; --out is a "
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
    """Evaluate a checkpoint: mIoU in each dataset's own taxonomy, or in universal classes.

    Under torchrun, or with --processes, each process takes its share of the images and the result is the same.
    """
    if grid is not None:
        _refuse(
            context, set(context.params) - FOR_GRIDS, "is not for --grid: the grid file says what to evaluate and how"
        )
        from segstream.cli.jobs.eval_grid import evaluate_grid

        folder = Path("results/grid") if out is None else out
        whole = evaluate_grid(
            grid, folder, runner=runner, at_a_time=jobs, retries=retries, script=print_script, json=json
        )
        raise typer.Exit(0 if whole else 1)
    _refuse(context, FOR_GRIDS - {"out", "json"}, "is for --grid only")
    if checkpoint is None or not data:
        raise UsageError("name a CHECKPOINT and at least one --data URL, or a --grid FILE")
    if worst and pictures is None:
        raise UsageError("--worst: its pictures need a folder; give --pictures FOLDER")
    from segstream.calibration import calibrate
    from segstream.cli.jobs.torchrun import end_with_launcher, run_processes
    from segstream.cli.report.confusion import write_confusion
    from segstream.evaluation import EvalModel, open_sets, run_evaluation
    from segstream.model import distributed

    end_with_launcher()
    sides = None if short_side is None else [parse_side(side) for side in short_side.replace(" ", "").split(",")]
    fields = infer_fields(long_side=long_side, scales=scales, n_scales=n_scales, crop=crop, flip=flip)
    schemes = _schemes(taxonomy)
    model = EvalModel.load(checkpoint, short_sides=sides, **fields)
    if fit_temperature is not None:
        _refuse(context, set(context.params) - FIT, "is not for --fit-temperature, which evaluates nothing")
        if fit_temperature.resolve() == checkpoint.resolve() or len(model.configs) > 1:
            raise UsageError(f"--fit-temperature {fit_temperature}: name another file than CHECKPOINT, and one size")
        temperature = calibrate(model, data, fit_temperature)
        if json:
            print_json({"file": str(fit_temperature), "temperature": temperature})
        note(f"eval: {fit_temperature}: temperature {temperature:.4f}")
        return
    with open_sets(model, data, schemes=schemes, relabeled=relabeled, rule=rule) as sets:
        ranks = distributed.start()
        if processes > ranks.world_size == 1:  # not before: what is wrong with the arguments is said once
            raise typer.Exit(run_processes(sys.argv[1:], processes))
        if ranks.is_main:
            note_place(checkpoint, model.meta)
            for images in (images for images, _ in sets if images.shards.manifest.params.get("image") == "jpeg"):
                note(f"{images.url}: a training split; images that were no JPEGs are stored as JPEGs of quality 95")
        try:
            results = run_evaluation(model, sets, ranks, out=out, restart_changed=restart_changed, progress=progress)
        finally:
            distributed.stop()
        if not ranks.is_main:
            return
        if metrics is not None:
            write_text(metrics, jsonlib.dumps(_headline(results), indent=2) + "\n")
            speeds = {r.url: round(r.images_per_s, 2) for r in results if r.images_per_s is not None}
            write_text(metrics.with_suffix(".speed.json"), jsonlib.dumps(speeds, indent=2) + "\n")
        if confusion is not None:
            for result in results:
                write_confusion(confusion, result)
        if pictures is not None:
            for images, (protocol, *_) in sets:
                ious = next(r.image_ious for r in results if r.url == images.url)  # by that protocol, at the first side
                _draw(model, images, protocol, pictures / images.dataset, num_pictures, ious, worst)
    if json:
        print_json([result.to_json() for result in results])
    else:
        _print_results(results)


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
    if unknown := [name for name in asked if name not in known]:
        raise UsageError(f"--taxonomy {text}: {unknown[0]!r} is not one of {', '.join(known)}")
    return [scheme for scheme in known if scheme in asked]


def _draw(model: EvalModel, images: EvalImages, protocol: Protocol, to: Path, n: int, ious: Shares, worst: int) -> None:
    """`n` samples spread over a set, segmented at the first shorter side.

    Each as `KEY_image.jpg`, `KEY_label.png`, `KEY_pred.png` and `KEY_error.png`: wrong pixels red, right ones grey,
    those without a label black.

    The `worst` lie in a folder of their own, `000_image.jpg` that of lowest IoU; `worst.json` there, written last, has
    their keys and IoUs.
    """
    import numpy as np

    from segstream.colors import RIGHT_WRONG, colorize, paint
    from segstream.model.evaluation.evaluator import compared
    from segstream.model.inference.infer import segment
    from segstream.shards.codecs.images import encode
    from segstream.shards.taxonomy import IGNORE_INDEX

    spread = np.linspace(0, len(images) - 1, min(n, len(images))).astype(int).tolist()
    lowest = ious.argsort()[: min(worst, np.isfinite(ious).sum())].tolist()
    places = [to / images.key(i).replace("/", "_") for i in spread]
    places += [to / f"worst-{images.split}/{at:03}" for at in range(len(lowest))]
    for at, (_, image, labels) in zip(places, images.read(spread + lowest, protocol.members), strict=True):
        ((pred,),) = segment(model.net, [image], [protocol.projection], model.configs[0])
        truth, said = compared(protocol, labels, pred)
        wrong = np.where(truth == IGNORE_INDEX, truth, truth != said)
        maps = [colorize(ids, protocol.taxonomy.num_classes) for ids in (labels[protocol.label], pred)]
        pictures = (image, *maps, paint(wrong, RIGHT_WRONG))
        for name, picture in zip(("image.jpg", "label.png", "pred.png", "error.png"), pictures, strict=True):
            write_bytes(at.with_name(f"{at.name}_{name}"), encode(name[-4:], picture))
    if worst:
        rows = {images.key(i): ious[i] for i in lowest}
        write_text(to / f"worst-{images.split}/worst.json", jsonlib.dumps(rows, indent=1) + "\n")


def _headline(results: Sequence[EvalResult]) -> dict[str, dict[str, float]]:
    """The maximum over shorter sides, by data set; where it has several, by it and classes, or by URL and classes."""
    best = [result for result in results if result.max]
    count = Counter(name for r in best for name in (r.dataset, f"{r.dataset} {r.taxonomy}"))
    forms = [(r.dataset, f"{r.dataset} {r.taxonomy}", f"{r.url} {r.taxonomy}") for r in best]
    names = [next((name for name in form if count[name] == 1), form[-1]) for form in forms]
    return {name: {"miou": r.miou, "macc": r.macc, "acc": r.acc} for name, r in zip(names, best, strict=True)}


def _print_results(results: Sequence[EvalResult]) -> None:
    """A line for each; where a set was evaluated at several sides, one more for the maximum."""
    lines = []
    several = len({r.side for r in results}) > 1
    for _, group in groupby(results, key=lambda r: (r.url, r.taxonomy)):
        of_set = list(group)
        shown = [(r, r.side) for r in of_set]
        shown += [(r, "max") for r in of_set if several and r.max]
        for r, side in shown:
            classes = r.taxonomy + (", relabelled" if r.relabeled else "")
            shares = (f"{100 * share:.1f}" for share in (r.miou, r.macc, r.acc))
            lines.append((r.dataset, classes, str(r.images), side, *shares))
    print_table(("dataset", "classes", "images", "short side", "mIoU", "mAcc", "pixel acc."), lines)
