"""Commands about data: world, datasets, shard, verify, stats."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.output import note, print_json, print_table, progress
from shards.errors import UsageError
from shards.schema import did_you_mean

Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")]
Workers = Annotated[int, typer.Option(min=1, help="Processes.", show_default="all cores")]
CORES = os.cpu_count() or 1


def world(
    out: Annotated[Path, typer.Option(help="Folder to write; each dataset gets a folder in it.")],
    datasets: Annotated[str, typer.Option(help="Comma-separated names.", show_default="all")] = "",
    images: Annotated[int, typer.Option(min=0, help="Training images per dataset.")] = 160,
    val_images: Annotated[int, typer.Option(min=0, help="Validation images per dataset.")] = 40,
    seed: Annotated[int, typer.Option(help="Same seed, same pictures.")] = 0,
    workers: Workers = CORES,
) -> None:
    """Draw the embedded world: small procedural scenes in the release layouts of real datasets."""
    from shards import world as embedded

    names = [n for n in datasets.split(",") if n] or list(embedded.DATASETS)
    for name in names:
        if name not in embedded.DATASETS:
            raise UsageError(f"the world has no dataset {name!r}; {did_you_mean(name, embedded.DATASETS)}")
    for name in names:
        with progress(f"world {name}") as report:
            embedded.draw(out, name, train=images, val=val_images, seed=seed, workers=workers, progress=report)


def datasets(
    name: Annotated[str | None, typer.Argument(help="One dataset; without it, all of them.")] = None,
    check: Annotated[Path | None, typer.Option(help="A raw tree to compare with what NAME expects.")] = None,
    json: Json = False,
) -> None:
    """List the known datasets, describe one, or check that a download is complete."""
    from shards import datasets as registry

    if check is not None:
        if name is None:
            raise UsageError("--check needs the name of a dataset: segstream datasets NAME --check DIR")
        _print_check(name, registry.check_raw(name, check), json=json)
        return
    if json:
        print_json(registry.describe(name) if name else [registry.describe(n) for n in registry.dataset_names()])
    elif name:
        _print_dataset(registry.describe(name))
    else:
        rows = []
        for known in (registry.describe(n) for n in registry.dataset_names()):
            splits = " ".join(f"{split}:{count}" for split, count in known["splits"].items())
            shards = "yes" if known["convertible"] else "no"
            rows.append((known["name"], known["role"], len(known["classes"]), shards, splits, known["licence"]))
        print_table(("dataset", "role", "classes", "convertible", "images", "licence"), rows)


def _print_dataset(known: dict[str, Any]) -> None:
    splits = ", ".join(f"{split} {count if count is not None else '?'}" for split, count in known["splits"].items())
    universal = "no: held out, predictions are mapped instead" if known["to_universal"] is None else "yes"
    facts = {
        "role": known["role"],
        "images": splits,
        "licence": known["licence"],
        "get it from": known.get("home", "you"),
        "labels in universal classes": universal,
        "layout": known.get("layout", "as its YAML says"),
        "classes": ", ".join(f"{i} {c}" for i, c in enumerate(known["classes"])),
    }
    typer.echo(known["name"])
    for name, fact in facts.items():
        typer.echo(f"  {name}: {fact}")


def _print_check(name: str, splits: list[dict[str, Any]], *, json: bool) -> None:
    if json:
        print_json(splits)
    for found in () if json else splits:
        expected = f" of {found['expected']}" if found["expected"] is not None else ""
        typer.echo(f"{name} {found['split']}: {found['images']}{expected} images, {found['missing'] or 0} missing")
        if found["problem"]:
            typer.echo(f"  {found['problem']}")
        for path in found["first_missing"]:
            typer.echo(f"  missing: {path}")
    if any(found["problem"] for found in splits):
        raise typer.Exit(1)


def shard(
    dataset: Annotated[str, typer.Argument(help="A known dataset, or a YAML file that describes your own.")],
    out: Annotated[str, typer.Option(help="Shard sets go to OUT/DATASET/SPLIT.")],
    raw: Annotated[Path | None, typer.Option(help="Root of the release as downloaded.")] = None,
    split: Annotated[list[str] | None, typer.Option(help="Splits.", show_default="all; held out: val")] = None,
    short_side: Annotated[int | None, typer.Option(min=16, help="Store training images at this side at most.")] = None,
    workers: Workers = CORES,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N samples.")] = None,
    skip_bad: Annotated[int, typer.Option(min=0, help="Leave out up to N unusable samples instead of stopping.")] = 0,
    shard_samples: Annotated[int, typer.Option(min=1, help="Samples per shard at most.")] = 256,
    json: Json = False,
) -> None:
    """Convert a dataset's release to shards, once. Goes on where an interrupted run stopped."""
    from shards.convert import ConvertRequest, convert
    from shards.datasets import dataset as find_dataset

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
            limit=limit,
            skip_bad=skip_bad,
            shard_samples=shard_samples,
        )
        with progress(f"shard {dataset} {one}") as report:
            summary = convert(request, report)
        summaries.append(dataclasses.asdict(summary))
        if summary.absent:
            note(f"warning: {summary.url}: {summary.absent} images that the release lists are not in {raw}")
        if not json:
            kept = f", {summary.resumed_shards} shards kept" if summary.resumed_shards else ""
            skipped = f", {len(summary.skipped)} left out" if summary.skipped else ""
            typer.echo(f"{summary.url}: {summary.samples} samples in {summary.shards} shards{kept}{skipped}")
    if json:
        print_json(summaries)


def verify(
    urls: Annotated[list[str], typer.Argument(help="Shard sets.")],
    workers: Workers = CORES,
    json: Json = False,
) -> None:
    """Check hashes, indexes, pictures and label values of shard sets; exits with 1 if anything is wrong."""
    from shards.verify import verify as check

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


def stats(
    urls: Annotated[list[str], typer.Argument(help="Shard sets.")],
    member: Annotated[str, typer.Option(help="native or universal labels.")] = "native",
    json: Json = False,
) -> None:
    """Count pixels and images of every class."""
    from shards.reader import open_shards
    from shards.stats import class_table

    tables = {}
    for url in urls:
        with open_shards(url) as shards:
            tables[url] = class_table(shards.manifest, member)
    if json:
        print_json({url: [dataclasses.asdict(row) for row in rows] for url, rows in tables.items()})
    for url, rows in () if json else tables.items():
        typer.echo(url)
        shown = sorted(rows, key=lambda row: -row.pixels)
        table = [(row.name, row.id, row.images, row.pixels, f"{row.share:.2%}") for row in shown]
        print_table(("class", "id", "images", "pixels", "share"), table)
