"""Command: predict."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segstream.cli.commands import options
from segstream.cli.console import note, note_place, print_json, print_table, progress
from segstream.shards.codecs.formats import VIDEO_SUFFIXES, suffix_of
from segstream.shards.errors import DataError, UsageError
from segstream.shards.files import read_left, write_text

if TYPE_CHECKING:
    from segstream.cli.predictions.output_folder import Item, OutputFolder, Row
    from segstream.model.inference.predictor import Predictor

SHARES = "classes.json"
SHOWN = 6  # classes of a picture in the table


def predict(
    source: Annotated[
        str, typer.Argument(metavar="INPUT", help="Image, folder, quoted glob, list (.txt), shard set, or video.")
    ],
    checkpoint: options.CheckpointOption,
    out: Annotated[Path, typer.Option(help="Folder for the results.")],
    short_side: options.ShortSide = None,
    long_side: options.LongSide = None,
    crop: options.Crop = None,
    scales: options.Scales = None,
    n_scales: options.NScales = None,
    flip: options.Flip = None,
    taxonomy: options.TaxonomyName = None,
    ids: options.ServerIds = None,
    arch: options.Arch = None,
    classes: options.NumClasses = None,
    overlay: Annotated[
        bool | None, typer.Option(help="Also draw pictures with names and legend.", show_default="videos only")
    ] = None,
    logits: Annotated[bool, typer.Option("--logits", help="Also write NAME_logits.npz (float16).")] = False,
    probabilities: Annotated[bool, typer.Option("--probabilities", help="Also write NAME_probabilities.npz.")] = False,
    confidence: Annotated[
        bool, typer.Option("--confidence", help="Also write confidences/NAME.png (16 bits).")
    ] = False,
    threshold: Annotated[float, typer.Option(min=0, max=1, help="Less sure pixels become 255.")] = 0.0,
    attention: Annotated[
        bool, typer.Option("--attention", help="Of hmsa networks: also draw attention and prediction at each scale.")
    ] = False,
    frame_labels: Annotated[bool, typer.Option("--frame-labels", help="Of a video: a label PNG per frame.")] = False,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Windows per forward pass.", show_default="recipe's, or 4")
    ] = None,
    device: options.DeviceName = "auto",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Make everything again, whatever the folder holds.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Segment images or a video; the same command goes on where it was stopped."""
    from segstream.cli.predictions.inputs import is_set, of_files, of_set
    from segstream.cli.predictions.output_folder import IDENTITY, OutputFolder, claim
    from segstream.model.inference.predictor import Predictor

    if logits and probabilities:
        raise UsageError("--logits and --probabilities: one of the two; softmax makes the second of the first")
    film = suffix_of(source) in VIDEO_SUFFIXES and not Path(source).is_dir() and "://" not in source
    if film and (logits or probabilities or confidence or threshold or attention):
        raise UsageError("of a video there are overlays and labels only; cut it into images for more")
    if film and overlay is False and not frame_labels:
        raise UsageError("a video without --overlay and without --frame-labels gives nothing; ask for one")
    items, data = of_set(source) if is_set(source) else (of_files(source, out), {})
    sides = {"short_side": short_side, "long_side": long_side}
    fields = options.infer_fields(
        **sides, crop=crop, scales=scales, n_scales=n_scales, flip=flip, batch=batch, device=device
    )
    predictor = Predictor(checkpoint, arch=arch, num_classes=classes, taxonomy=taxonomy, ids=ids, **fields)
    if attention and predictor.config.n_scales is None:
        raise UsageError("--attention: only hmsa networks have it, by scales of their own, without --scales and --crop")
    place = OutputFolder(
        root=out,
        with_overlays=film if overlay is None else overlay,
        dump="logits" if logits else "probabilities" if probabilities else None,
        scales=predictor.config.n_scales or () if attention else (),
        with_confidences=confidence,
        threshold=threshold,
    )
    identity = predictor.identity | data | ({"threshold": threshold} if threshold else {})
    resume = claim(out / IDENTITY, identity, overwrite=overwrite)
    note_place(checkpoint, predictor.meta)
    note(f"predict: {_about(predictor)}")
    if film:
        rows = _video(predictor, items[0], place, resume=resume, frame_labels=frame_labels)
    else:
        rows = _images(predictor, items, place, resume=resume)
    summary = {"taxonomy": predictor.taxonomy.name, "classes": list(predictor.taxonomy.classes), "inputs": rows}
    write_text(out / SHARES, jsonlib.dumps(summary, indent=1) + "\n")
    if json:
        print_json({"out": str(out), "taxonomy": predictor.taxonomy.name, "inputs": rows})
    else:
        print_table(("input", "size", "largest classes"), [_cells(name, row) for name, row in rows.items()])
    failed = [row["error"] for row in rows.values() if "error" in row]
    if failed:
        raise DataError(f"{len(failed)} of {len(rows)} inputs failed, the first: {failed[0]}")


def _images(predictor: Predictor, items: list[Item], place: OutputFolder, *, resume: bool) -> dict[str, Row]:
    """Rows of `classes.json` by name; finished pictures are only counted."""
    from segstream.cli.predictions.output_folder import read_label, row_of_label
    from segstream.cli.predictions.predict import predict_images

    rows = {}
    with progress("predict") as report:
        report(0, len(items))
        for item in [item for item in items if resume and place.finished(item)]:
            rows[item.name] = row_of_label(item, read_label(place.label(item.name)), predictor.taxonomy.classes)
        skipped = len(rows)
        for item, row in predict_images(predictor, [item for item in items if item.name not in rows], place):
            rows[item.name] = row
            report(len(rows), len(items))
            if "error" in row:
                note(f"failed: {row['error']}")
        report(len(rows), len(items))
    if skipped:
        note(f"predict: {skipped} of {len(items)} were finished already")
    return dict(sorted(rows.items()))


def _video(
    predictor: Predictor, item: Item, place: OutputFolder, *, resume: bool, frame_labels: bool
) -> dict[str, Row]:
    from segstream.cli.predictions.media import open_video
    from segstream.cli.predictions.predict import finished, predict_video

    former = read_left(place.root / SHARES).get("inputs") if resume else None
    row = former.get(item.name) if isinstance(former, dict) else None
    if row is not None and finished(item, place, row, frame_labels=frame_labels):
        note(f"predict: {item.path} was finished already")
        return {item.name: row}
    video = open_video(Path(item.path))
    with progress("predict", "frames") as report:
        return {item.name: predict_video(predictor, video, item, place, frame_labels=frame_labels, report=report)}


def _about(predictor: Predictor) -> str:
    config, taxonomy = predictor.config, predictor.taxonomy
    how = f"windows of {config.crop}, scales" if config.n_scales is None else "whole images, network's scales"
    scales = " ".join(f"{scale:g}" for scale in (config.scales if config.n_scales is None else config.n_scales))
    side = f"longer side {config.long_side}" if config.long_side else f"shorter side {config.short_side or 'native'}"
    about = f"{taxonomy.name}, {taxonomy.num_classes} classes; {side}"
    return f"{about}, {how} {scales}{', mirrored' if config.flip else ''}"


def _cells(name: str, row: Row) -> tuple[str, str, str]:
    size = "x".join(map(str, reversed(row["size_hw"]))) if "size_hw" in row else "-"
    shares = list(row.get("classes", {}).items())[:SHOWN]
    return name, size, row.get("error") or ", ".join(f"{name} {share:.0%}" for name, share in shares)
