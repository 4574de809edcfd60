"""Commands about data: world, shard, verify."""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segstream.cli.commands.options import Staged
from segstream.cli.console import note, print_json, progress
from segstream.shards.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from segstream.shards.convert.convert import Summary

Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")]
Workers = Annotated[int, typer.Option(min=1, help="Processes.", show_default="all cores")]
CORES = os.cpu_count() or 1
SHOWN = 20  # samples left out, by name


def world(
    out: Annotated[Path, typer.Option(help="Folder to write; each dataset gets a folder in it.")],
    datasets: Annotated[str, typer.Option(help="Comma-separated names, or `all`.", show_default="the demo's")] = "",
    images: Annotated[int, typer.Option(min=0, help="Training images per dataset.")] = 160,
    val_images: Annotated[int, typer.Option(min=0, help="Validation images per dataset.")] = 40,
    seed: Annotated[int, typer.Option(help="Same seed, same pictures.")] = 0,
    workers: Workers = CORES,
) -> None:
    """Draw the embedded world: small procedural scenes in the release layouts of real datasets."""
    from segstream.shards import synthetic as embedded

    names = [n for n in datasets.split(",") if n] or list(embedded.DEMO)
    if names == ["all"]:
        names = list(embedded.DATASETS)
    for name in names:
        if name not in embedded.DATASETS:
            raise UsageError(f"the world has no dataset {name!r}; {did_you_mean(name, embedded.DATASETS)}")
    for name in names:
        with progress(f"world {name}") as report:
            embedded.draw(out, name, train=images, val=val_images, seed=seed, workers=workers, progress=report)


def shard(
    dataset: Annotated[str, typer.Argument(help="A known dataset, or a YAML file that describes your own.")],
    out: Annotated[str, typer.Option(help="Shard sets go to OUT/DATASET/SPLIT.")],
    raw: Annotated[Path | None, typer.Option(help="Root of the release as downloaded.")] = None,
    split: Annotated[list[str] | None, typer.Option(help="Splits.", show_default="all; held out: val")] = None,
    short_side: Annotated[int | None, typer.Option(min=16, help="Store training images at this side at most.")] = None,
    workers: Workers = CORES,
    relabel: Annotated[
        Path | None, typer.Option(help="MSeg's update records (CSV or mseg-api checkout): relabelled labels as well.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N samples.")] = None,
    skip_bad: Annotated[int, typer.Option(min=0, help="Leave out up to N unusable samples instead of stopping.")] = 0,
    shard_samples: Annotated[int, typer.Option(min=1, help="Samples per shard at most.")] = 256,
    staged: Staged = False,
    json: Json = False,
) -> None:
    """Convert a dataset's release to shards, once. Goes on where an interrupted run stopped."""
    from segstream.shards.convert.convert import ConvertRequest, convert
    from segstream.shards.datasets.registry import dataset as find_dataset

    known = find_dataset(dataset)
    splits = split or (["val"] if known.role == "test" else list(known.splits))
    summaries = []
    for one in splits:
        request = ConvertRequest(
            dataset=dataset,
            raw=raw,
            split=one,
            out=out,
            short_side=short_side,
            workers=workers,
            relabel=relabel,
            limit=limit,
            skip_bad=skip_bad,
            shard_samples=shard_samples,
            staged=staged,
        )
        start = time.monotonic()
        with progress(f"shard {dataset} {one}") as report:
            summary = convert(request, report)
        summaries.append(dataclasses.asdict(summary))
        if summary.absent:
            more = ", ..." if summary.absent > len(summary.first_absent) else ""
            few = f"{', '.join(summary.first_absent)}{more}"
            note(f"warning: {summary.url}: {summary.absent} images that the release lists are not in {raw}: {few}")
        if not json:
            _print_summary(summary, time.monotonic() - start)
    if json:
        print_json(summaries)


def _print_summary(summary: Summary, seconds: float) -> None:
    kept = f" ({summary.resumed_shards} kept from before)" if summary.resumed_shards else ""
    skipped = f", {len(summary.skipped)} left out" if summary.skipped else ""
    typer.echo(
        f"{summary.url}: {summary.samples} samples in {summary.shards} shards{kept}, {summary.bytes / 1e6:.1f} MB, "
        f"{summary.samples / seconds:.0f} images/s{skipped}"
    )
    for reject in summary.skipped[:SHOWN]:
        typer.echo(f"  left out: {reject.path}: {reject.reason}")
    if len(summary.skipped) > SHOWN:
        typer.echo(f"  and {len(summary.skipped) - SHOWN} more, all listed in {summary.url}/manifest.json")
    if summary.relabel:
        typer.echo(f"  {summary.relabel.applied} of {summary.relabel.total} segments relabelled")
        for reason, records in summary.relabel.reported.items():
            typer.echo(f"  {records} not: {reason}")


def verify(
    urls: Annotated[list[str], typer.Argument(help="Shard sets.")],
    workers: Workers = CORES,
    json: Json = False,
) -> None:
    """Check hashes, indexes, pictures and label values of shard sets; exits with 1 if anything is wrong."""
    from segstream.shards.checks.verify import verify as check

    reports = []
    for url in urls:
        with progress(f"verify {url}", unit="shards") as report:
            reports.append(check(url, workers=workers, progress=report))
    if json:
        print_json([dataclasses.asdict(report) | {"ok": report.ok} for report in reports])
    for checked in () if json else reports:
        faults = [fault for kind in checked.faults.values() for fault in kind]
        found = f"{len(faults)} faults" if faults else "sound"
        typer.echo(f"{checked.url}: {checked.samples} samples in {checked.shards} shards: {found}")
        for fault in faults:
            typer.echo(f"  {fault.kind}: {fault.where}: {fault.what}")
    if not all(report.ok for report in reports):
        raise typer.Exit(1)
