"""Command: predict."""

from __future__ import annotations

import glob
import json as jsonlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segstream.cli.commands.options import (
    CheckpointOption,
    Crop,
    DeviceName,
    Flip,
    Json,
    Scales,
    ShortSide,
    TaxonomyName,
    infer_fields,
)
from segstream.cli.console import note, print_json, print_table, progress
from segstream.shards.errors import DataError, UsageError
from segstream.shards.files import write_text

if TYPE_CHECKING:
    from segstream.cli.predictions.output_folder import Dump, Item, Predictions
    from segstream.cli.predictions.predict_images import Done
    from segstream.model.inference.predictor import Predictor

Row = dict[str, Any]
"""Of `classes.json`: file, size_hw, classes (name -> share of the pixels, the largest first), frames, error."""
SHARES = "classes.json"
SHOWN = 6  # classes of a picture in the table


def predict(
    source: Annotated[str, typer.Argument(metavar="INPUT", help="An image, a folder, a quoted glob, or a video.")],
    checkpoint: CheckpointOption,
    out: Annotated[Path, typer.Option(help="Folder for the results.")],
    short_side: ShortSide = None,
    crop: Crop = None,
    scales: Scales = None,
    n_scales: Annotated[
        str | None,
        typer.Option(
            help="Scales that an HMSA network combines on whole images, e.g. 0.5,1,2.",
            show_default="recipe's, or its own",
        ),
    ] = None,
    flip: Flip = None,
    taxonomy: TaxonomyName = None,
    arch: Annotated[str | None, typer.Option(help="Architecture of a file that is not recognised.")] = None,
    classes: Annotated[int | None, typer.Option(min=1, help="Number of classes the file must have.")] = None,
    overlay: Annotated[
        bool | None,
        typer.Option(
            "--overlay/--no-overlay", help="Also draw pictures with names and legend.", show_default="videos only"
        ),
    ] = None,
    logits: Annotated[bool, typer.Option("--logits", help="Also write NAME_logits.npz (float16).")] = False,
    probabilities: Annotated[bool, typer.Option("--probabilities", help="Also write NAME_probabilities.npz.")] = False,
    frame_labels: Annotated[bool, typer.Option("--frame-labels", help="Of a video: a label PNG per frame.")] = False,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Windows per forward pass.", show_default="recipe's, or 4")
    ] = None,
    device: DeviceName = "auto",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Make everything again, whatever the folder holds.")
    ] = False,
    json: Json = False,
) -> None:
    """Segment images or a video; the same command goes on where it was stopped."""
    from segstream.cli.predictions.output_folder import Predictions, Wanted
    from segstream.cli.predictions.predict_video import is_video
    from segstream.model.inference.predictor import Predictor

    if logits and probabilities:
        raise UsageError("--logits and --probabilities: one of the two; softmax makes the second of the first")
    film = is_video(Path(source)) and not Path(source).is_dir()
    if film and (logits or probabilities):
        raise UsageError("--logits and --probabilities are for images; cut the video into images first")
    if film and overlay is False and not frame_labels:
        raise UsageError("a video without --overlay and without --frame-labels gives nothing; ask for one")
    items = _items(source, film, out)
    fields = infer_fields(
        short_side=short_side, crop=crop, scales=scales, n_scales=n_scales, flip=flip, batch=batch, device=device
    )
    predictor = Predictor(checkpoint, arch=arch, num_classes=classes, taxonomy=taxonomy, **fields)
    dump: Dump | None = "logits" if logits else "probabilities" if probabilities else None
    place = Predictions(out, Wanted(overlay=film if overlay is None else overlay, dump=dump))
    resume = place.claim(predictor.identity, overwrite=overwrite)
    note(f"predict: {_about(predictor)}")
    rows = (
        _film(predictor, items[0], place, resume=resume, frame_labels=frame_labels)
        if film
        else _pictures(predictor, items, place, resume=resume)
    )
    summary = {"taxonomy": predictor.taxonomy.name, "classes": list(predictor.taxonomy.classes), "inputs": rows}
    write_text(out / SHARES, jsonlib.dumps(summary, indent=1) + "\n")
    if json:
        print_json({"out": str(out), "taxonomy": predictor.taxonomy.name, "inputs": rows})
    else:
        print_table(("input", "size", "largest classes"), [_cells(name, row) for name, row in rows.items()])
    failed = [row["error"] for row in rows.values() if "error" in row]
    if failed:
        raise DataError(f"{len(failed)} of {len(rows)} inputs failed, the first: {failed[0]}")


def _items(source: str, film: bool, out: Path) -> list[Item]:
    from segstream.cli.predictions.media import find_pictures
    from segstream.cli.predictions.output_folder import named

    if film:
        return named([Path(source)], Path(source).parent)
    root = Path(source)
    if root.is_file():
        root = root.parent
    elif not root.is_dir():  # a glob: the part without wildcards
        parts = Path(source).parts
        fixed = next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts) - 1)
        root = Path(*parts[:fixed])
    found = [path for path in find_pictures(source) if out.resolve() not in path.resolve().parents]  # not our overlays
    if not found:
        raise DataError(f"{source}: all of its pictures are in --out {out}; give another folder")
    return named(found, root)


def _pictures(predictor: Predictor, items: list[Item], place: Predictions, *, resume: bool) -> dict[str, Row]:
    """Rows of `classes.json` by name."""
    from segstream.cli.predictions.predict_images import pictures

    rows: dict[str, Row] = {}
    skipped = 0
    with progress("predict") as report:
        report(0, len(items))

        def done(item: Done) -> None:
            nonlocal skipped
            rows[item.item.name] = item.row()
            skipped += item.skipped
            report(len(rows), len(items))
            if item.error is not None:
                note(f"failed: {item.error}")

        pictures(predictor, items, place, resume=resume, done=done)
    if skipped:
        note(f"predict: {skipped} of {len(items)} were finished already")
    return dict(sorted(rows.items()))


def _film(predictor: Predictor, item: Item, place: Predictions, *, resume: bool, frame_labels: bool) -> dict[str, Row]:
    from segstream.cli.predictions.media import open_video
    from segstream.cli.predictions.predict_video import film, filmed

    row = _former(place.root / SHARES).get(item.name) if resume else None
    if row is not None and filmed(item, place, row, frame_labels=frame_labels):
        note(f"predict: {item.path} was finished already")
        return {item.name: row}
    video = open_video(item.path)
    with progress("predict", "frames") as report:
        return {item.name: film(predictor, video, item, place, frame_labels=frame_labels, report=report).row()}


def _former(path: Path) -> dict[str, Row]:
    """Rows that an earlier call left; none if they cannot be read."""
    try:
        found = jsonlib.loads(path.read_text(encoding="utf-8"))["inputs"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def _about(predictor: Predictor) -> str:
    config = predictor.config
    side = config.short_side or "native"
    how = f"windows of {config.crop}, scales {_listed(config.scales)}"
    how = how if config.n_scales is None else f"whole images, network's scales {_listed(config.n_scales)}"
    mirrored = ", mirrored" if config.flip else ""
    return f"{predictor.taxonomy.name}, {predictor.taxonomy.num_classes} classes; shorter side {side}, {how}{mirrored}"


def _listed(scales: tuple[float, ...]) -> str:
    return " ".join(f"{scale:g}" for scale in scales)


def _cells(name: str, row: Row) -> tuple[str, str, str]:
    size = "x".join(map(str, reversed(row["size_hw"]))) if "size_hw" in row else "-"
    shares = list(row.get("classes", {}).items())[:SHOWN]
    return name, size, row.get("error") or ", ".join(f"{name} {share:.0%}" for name, share in shares)
