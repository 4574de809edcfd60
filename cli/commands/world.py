"""The `world` command: pictures to try everything with, drawn in the layouts of real releases."""

from pathlib import Path
from typing import Annotated

import typer

from segstream.cli.commands.options import CORES, Workers
from segstream.cli.console import progress
from segstream.shards.errors import UsageError, did_you_mean


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
