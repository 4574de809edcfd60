"""Command: stats."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from segstream.cli.commands.options import CORES, Centroids, Json, Sets, Workers
from segstream.cli.console import note, print_json, print_table, progress, say
from segstream.shards.checks.stats import ClassRow, class_table, common_member, label_warnings, total_table
from segstream.shards.files import write_text
from segstream.shards.format.centroids import TILE, add_centroids


def stats(
    urls: Sets,
    taxonomy: Annotated[
        str | None,
        typer.Option(
            "--taxonomy",
            "--member",
            help="Labels to count: native, universal or universal-relabeled.",
            show_default="native; universal if several sets all hold it",
        ),
    ] = None,
    centroids: Centroids = False,
    tile: Annotated[int, typer.Option(min=16, max=65536, help="Tile side of --centroids, in source pixels.")] = TILE,
    workers: Workers = CORES,
    sampling: Annotated[
        Path | None, typer.Option(help="Also write a page: what sampling by class does; needs centroids.")
    ] = None,
    share: Annotated[float, typer.Option(min=0, max=1, help="Of --sampling: data.class_uniform.share.")] = 0.5,
    json: Json = False,
) -> None:
    """Count pixels and images of every class: in each set, in all together, and which classes occur nowhere."""
    from segstream.cli.report.html import render
    from segstream.shards.checks.sampling import sampled_shares
    from segstream.shards.format.reader import manifest_of, open_shards

    for url in urls if centroids else ():
        with progress(f"centroids {url}") as report:
            add_centroids(url, tile=tile, workers=workers, progress=report)
    manifests = {url: manifest_of(url) for url in urls}
    member = taxonomy or common_member(list(manifests.values()))
    for manifest in manifests.values():
        for line in label_warnings(manifest, member):
            note(f"warning: {line}")
    tables = {url: class_table(manifest, member) for url, manifest in manifests.items()}
    total = total_table(tables.values())
    if sampling is not None:
        charts = {}
        for url, table in tables.items():
            found = sampled_shares(open_shards(url), member, share).T.tolist()
            charts[url] = sorted(zip(found, (row.name for row in table), strict=True), reverse=True)
        write_text(sampling, render("sampling.html", charts=charts, manifests=manifests, share=share, member=member))
        note(f"sampling: {sampling.resolve()}")
    shown = sorted((row for row in total if row.images), key=lambda row: -row.pixels)
    if json:
        together = {"total": total} if len(tables) > 1 else {}
        print_json({k: [dataclasses.asdict(row) for row in rows] for k, rows in (tables | together).items()})
        return
    if len(tables) == 1:
        rows = [(row.name, row.id, row.images, row.pixels, f"{row.share:.2%}") for row in shown]
        print_table(("class", "id", "images", "pixels", "share"), rows)
    else:
        by_name = [{row.name.lower(): row for row in table} for table in tables.values()]
        lines = [(row, [table.get(row.name.lower()) for table in by_name]) for row in shown]
        print_table(
            ("class", *(f"{m.dataset} {m.split}" for m in manifests.values()), "all", "share"),
            [(row.name, *map(_cell, cells), _cell(row), f"{row.share:.2%}") for row, cells in lines],
        )
        say("Cells are pixels / images that show the class; - where the set has no such class.")
    nowhere = [row.name for row in total if not row.images]
    say(f"{len(total)} classes ({member}), {len(nowhere)} occur nowhere{': ' if nowhere else ''}{', '.join(nowhere)}")


def _cell(row: ClassRow | None) -> str:
    return "-" if row is None else f"{_short(row.pixels)} / {row.images}" if row.images else "0"


def _short(count: int) -> str:
    """Three digits and a unit: 12345678 -> 12.3M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return str(count)
