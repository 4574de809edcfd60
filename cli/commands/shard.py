"""The `shard` command: a release becomes shards."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segstream.cli.commands.options import CORES, Centroids, Json, Staged, Workers
from segstream.cli.console import note, print_json, progress, say
from segstream.shards.errors import first_few

if TYPE_CHECKING:
    from segstream.shards.convert.convert import Converted

SHOWN = 20  # samples left out, by name
_SUMMARY = (
    *("dataset", "split", "url", "samples", "shards", "bytes", "resumed_shards", "skipped", "absent", "first_absent"),
    *("relabel", "digest", "pixels", "ignored", "alike", "notes"),
)


def shard(
    dataset: Annotated[str, typer.Argument(help="A known dataset, or a YAML file that describes your own.")],
    out: Annotated[str, typer.Option(help="Shard sets go to OUT/DATASET/SPLIT.")],
    raw: Annotated[Path | None, typer.Option(help="Root of the release as downloaded.")] = None,
    split: Annotated[
        list[str] | None, typer.Option(help="Splits.", show_default="all but optional; held out: val")
    ] = None,
    short_side: Annotated[int | None, typer.Option(min=16, help="Store training images at this side at most.")] = None,
    workers: Workers = CORES,
    relabel: Annotated[
        Path | None, typer.Option(help="MSeg's update records (CSV or mseg-api checkout): relabelled labels as well.")
    ] = None,
    auto_labels: Annotated[Path | None, typer.Option(help="Predicted labels instead: a folder or a YAML.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N samples.")] = None,
    skip_bad: Annotated[int, typer.Option(min=0, help="Leave out up to N unusable samples instead of stopping.")] = 0,
    shard_samples: Annotated[int, typer.Option(min=1, help="Samples per shard at most.")] = 256,
    centroids: Centroids = False,
    staged: Staged = False,
    json: Json = False,
) -> None:
    """Convert a dataset's release to shards, once. Goes on where an interrupted run stopped."""
    given = {name: value for name, value in locals().items() if name not in ("dataset", "split", "json")}
    from segstream.shards.checks.stats import label_warnings
    from segstream.shards.convert.convert import convert
    from segstream.shards.datasets import registry
    from segstream.shards.format.writer import load_tar_writer

    load_tar_writer()
    known = registry.dataset(dataset)
    usual = ["val"] if known.role == "test" else [one for one in known.splits if one not in known.optional]
    done = []
    for one in split or usual:
        start = time.monotonic()
        with progress(f"shard {dataset} {one}") as report:
            converted = convert(dataset, split=one, progress=report, **given)
        done.append(_summary(converted))
        if converted.absent:
            more = ", ..." if converted.absent > len(converted.first_absent) else ""
            few = f"{', '.join(converted.first_absent)}{more}"
            note(f"warning: {converted.url}: {converted.absent} images that the release lists are not in {raw}: {few}")
        for line in (*converted.notes, *label_warnings(converted, pixels=converted.pixels)):
            note(f"warning: {line}")
        if not json:
            _print(converted, time.monotonic() - start)
    if json:
        print_json(done)


def _summary(converted: Converted) -> dict[str, Any]:
    known = dataclasses.asdict(converted)
    known |= {"samples": converted.samples, "shards": len(converted.shards), "bytes": converted.bytes}
    return {name: known[name] for name in _SUMMARY}


def _print(converted: Converted, seconds: float) -> None:
    kept = f" ({converted.resumed_shards} kept from before)" if converted.resumed_shards else ""
    left_out = f", {len(converted.skipped)} left out" if converted.skipped else ""
    say(
        f"{converted.url}: {converted.samples} samples in {len(converted.shards)} shards{kept}, "
        f"{converted.bytes / 1e6:.1f} MB, {converted.samples / seconds:.0f} images/s{left_out}"
    )
    if "native" in converted.members:
        say(f"  {_labels(converted)}")
    for one in converted.skipped[:SHOWN]:
        say(f"  left out: {one.path}: {one.reason}")
    if len(converted.skipped) > SHOWN:
        say(f"  and {len(converted.skipped) - SHOWN} more, all listed in {converted.url}/manifest.json")
    if converted.relabel:
        say(f"  {converted.relabel.applied} of {converted.relabel.total} segments relabelled")
        for reason, records in converted.relabel.reported.items():
            say(f"  {records} not: {reason}")


def _labels(converted: Converted) -> str:
    from segstream.shards.checks.stats import class_table, ignored_share

    values = ", ".join(f"{value} on {pixels}" for value, pixels in sorted(converted.ignored.items()))
    table = class_table(converted)
    nowhere = [row.name for row in table if not row.images]
    return (
        f"{ignored_share(converted, converted.pixels):.1%} of the pixels are ignored"
        f"{f' (values in the label files: {values})' if values else ''}; "
        f"{len(nowhere)} of {len(table)} classes occur nowhere{': ' if nowhere else ''}{first_few(nowhere)}"
    )
