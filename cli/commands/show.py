"""Command: show."""

from pathlib import Path
from typing import Annotated

import typer

from segstream.cli.commands.options import Json, Sets
from segstream.cli.console import note, print_json, progress
from segstream.shards.files import write_text


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
    from segstream.cli.report import gallery as page
    from segstream.cli.report.html import render
    from segstream.shards.format.reader import open_shards

    sets = [open_shards(url) for url in urls]
    views = [page.label_views(shards, taxonomy or ()) for shards in sets]
    if wanted := [key for key in keys.split(",") if key]:
        places = page.find_keys(sets, wanted)
    else:
        classes = [[shards.entry(i).classes for i in range(len(shards))] for shards in sets]
        places = [page.choose(present, samples, seed) for present in classes]
    total = sum(map(len, places))
    side = page.picture_side(total)
    with progress(f"show {out}") as report:
        finished = iter(range(1, total + 1))
        galleries = [
            page.draw_gallery(*of_set, side=side, done=lambda: report(next(finished), total))
            for of_set in zip(sets, places, views, strict=True)
        ]
    text = render("show.html", galleries=galleries, labels=page.LABELS, share=page.share_text)
    write_text(out, text)
    if json:
        print_json({"out": str(out), "bytes": len(text.encode()), "sets": [gallery["facts"] for gallery in galleries]})
    else:
        note(f"gallery: {out.resolve()} ({total} samples, {len(text.encode()) / 1e6:.1f} MB)")
