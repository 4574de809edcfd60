"""Commands that look into shard sets: stats, show."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segstream.cli.console import note, print_json, print_table, progress
from segstream.shards.errors import UsageError
from segstream.shards.files import write_text

if TYPE_CHECKING:
    from segstream.shards.checks.stats import ClassRow
    from segstream.shards.format.reader import ShardSet

Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")]
Sets = Annotated[list[str], typer.Argument(help="Shard sets.", show_default=False)]


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
    json: Json = False,
) -> None:
    """Count pixels and images of every class: in each set, in all together, and which classes occur nowhere."""
    from segstream.shards.checks.stats import class_table, common_member, total_table
    from segstream.shards.format.reader import open_shards

    manifests = {}
    for url in urls:
        with open_shards(url) as shards:
            manifests[url] = shards.manifest
    member = taxonomy or common_member(list(manifests.values()))
    tables = {url: class_table(manifest, member) for url, manifest in manifests.items()}
    total = total_table(tables.values())
    if json:
        together = {"total": total} if len(tables) > 1 else {}
        print_json({k: [dataclasses.asdict(row) for row in rows] for k, rows in (tables | together).items()})
        return
    if len(tables) == 1:
        rows = [(row.name, row.id, row.images, row.pixels, f"{row.share:.2%}") for row in _by_area(total)]
        print_table(("class", "id", "images", "pixels", "share"), rows)
    else:
        names = [f"{manifest.dataset} {manifest.split}" for manifest in manifests.values()]
        by_name = [{row.name.lower(): row for row in table} for table in tables.values()]
        lines = [(row, [table.get(row.name.lower()) for table in by_name]) for row in _by_area(total)]
        print_table(
            ("class", *names, "all", "share"),
            [(row.name, *map(_cell, cells), _cell(row), f"{row.share:.2%}") for row, cells in lines],
        )
        typer.echo("Cells are pixels / images that show the class; - where the set has no such class.")
    nowhere = [row.name for row in total if not row.images]
    typer.echo(
        f"{len(total)} classes ({member}), {len(nowhere)} occur nowhere{': ' if nowhere else ''}{', '.join(nowhere)}"
    )


def _by_area(rows: Sequence[ClassRow]) -> list[ClassRow]:
    return sorted((row for row in rows if row.images), key=lambda row: -row.pixels)


def _cell(row: ClassRow | None) -> str:
    return "-" if row is None else f"{_short(row.pixels)} / {row.images}" if row.images else "0"


def _short(count: int) -> str:
    """Three digits and a unit: 12345678 -> 12.3M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return str(count)


def show(
    urls: Sets,
    out: Annotated[Path, typer.Option(help="The page to write.")],
    taxonomy: Annotated[
        list[str] | None,
        typer.Option(
            help="Labels to show: native, universal, universal-relabeled or naive; may be repeated.",
            show_default="all that the set holds",
        ),
    ] = None,
    samples: Annotated[
        int, typer.Option(min=1, help="Samples of each set, so that every class occurs if possible.")
    ] = 12,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, other samples.")] = 0,
    keys: Annotated[str, typer.Option(help="Comma-separated: these samples instead.", show_default="chosen")] = "",
    json: Json = False,
) -> None:
    """Write a page of samples with their labels laid over them: one HTML file, to be opened in any browser."""
    from segstream.cli.report.gallery import account, choose, gallery, picture_side, render_galleries, views_of
    from segstream.shards.format.reader import open_shards

    sets = [open_shards(url) for url in urls]
    views = [views_of(shards, taxonomy or ()) for shards in sets]
    if wanted := [key for key in keys.split(",") if key]:
        places = _by_key(sets, wanted)
    else:
        classes = [[shards.entry(i).classes for i in range(len(shards))] for shards in sets]
        places = [choose(present, samples, seed) for present in classes]
    total = sum(map(len, places))
    galleries = []
    with progress(f"show {out}") as report:
        finished = iter(range(1, total + 1))
        for shards, chosen, shown in zip(sets, places, views, strict=True):
            side = picture_side(total)
            galleries.append(gallery(shards, chosen, shown, side=side, done=lambda: report(next(finished), total)))
    text = render_galleries(galleries)
    write_text(out, text)
    if json:
        print_json({"out": str(out), "bytes": len(text.encode()), "sets": [account(g) for g in galleries]})
    else:
        note(f"gallery: {out.resolve()} ({total} samples, {len(text.encode()) / 1e6:.1f} MB)")


def _by_key(sets: Sequence[ShardSet], keys: Sequence[str]) -> list[tuple[int, ...]]:
    """Places in each set of the samples asked for.

    Raises:
        UsageError: no set has one of them.
    """
    from segstream.cli.report.gallery import find_keys

    found = [find_keys(shards, keys) for shards in sets]
    for key in keys:
        if not any(key in places for places in found):
            like = sets[0].entry(0).key
            raise UsageError(f"no sample {key!r} in {', '.join(s.url for s in sets)}; keys look like {like!r}")
    return [tuple(dict.fromkeys(places.values())) for places in found]
