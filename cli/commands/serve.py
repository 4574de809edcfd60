"""Command: serve."""

from typing import Annotated

import typer

from segstream.cli.commands import options
from segstream.cli.console import note_place


def serve(
    checkpoint: options.CheckpointOption,
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 for other machines as well.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for a free one.")] = 7860,
    short_side: options.ShortSide = None,
    long_side: options.LongSide = None,
    crop: options.Crop = None,
    scales: options.Scales = None,
    flip: options.Flip = None,
    taxonomy: options.TaxonomyName = None,
    device: options.DeviceName = "auto",
) -> None:
    """Serve a web page for a model: drop a picture, see its classes, take label and overlay home."""
    from segstream.cli.predictions.web_page import Service, serve_forever
    from segstream.model.inference.predictor import Predictor

    sides = {"short_side": short_side, "long_side": long_side}
    fields = options.infer_fields(**sides, crop=crop, scales=scales, flip=flip, device=device)
    name = checkpoint.resolve().parent.name if checkpoint.stem in ("final", "best") else checkpoint.stem
    predictor = Predictor(checkpoint, taxonomy=taxonomy, **fields)
    note_place(checkpoint, predictor.meta)
    serve_forever(Service(name, predictor), host, port)
