"""Command: show."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segstream.cli.commands.options import Json, Sets
from segstream.cli.console import note, print_json, progress
from segstream.shards.errors import UsageError
from segstream.shards.files import write_text

if TYPE_CHECKING:
    from segstream.shards.format.reader import ShardSet


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
