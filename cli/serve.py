"""Command: serve."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def serve(
    checkpoint: Annotated[Path, typer.Option(help="A final.pt, or a published file of MSeg's or HMSA's.")],
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 for other machines as well.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for a free one.")] = 7860,
    short_side: Annotated[
        str | None,
        typer.Option(help="Resize the shorter side to this first: 360, 480, ... or native.", show_default="recipe's"),
    ] = None,
    crop: Annotated[int | None, typer.Option(min=1, help="Window side.", show_default="recipe's, or 713")] = None,
    scales: Annotated[
        str | None, typer.Option(help="Scales to average over: 0.5,1.0 or multi.", show_default="recipe's")
    ] = None,
    flip: Annotated[
        bool | None,
        typer.Option("--flip/--no-flip", help="Average with the mirror image.", show_default="recipe's, or --flip"),
    ] = None,
    taxonomy: Annotated[
        str | None, typer.Option(help="Answer in the classes of: universal, or a dataset.", show_default="the model's")
    ] = None,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to compute.")] = "auto",
) -> None:
    """Serve a web page for a model: drop a picture, see its classes, take label and overlay home."""
    from cli.segmenter import Segmenter, Settings
    from cli.serving import Service, serve_forever

    settings = Settings(
        taxonomy=taxonomy, short_side=short_side, crop=crop, scales=scales, flip=flip, device=device
    )  # fmt: skip
    name = checkpoint.resolve().parent.name if checkpoint.stem == "final" else checkpoint.stem
    serve_forever(Service(name, Segmenter.load(checkpoint, settings)), host, port)
