"""Options that several commands share, with one wording."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")]
Sets = Annotated[list[str], typer.Argument(help="Shard sets.", show_default=False)]
CheckpointOption = Annotated[Path, typer.Option(help="A final.pt, or a published file of MSeg's or HMSA's.")]
ShortSide = Annotated[
    str | None,
    typer.Option(help="Resize the shorter side to this first: 360, 480, ... or native.", show_default="recipe's"),
]
Crop = Annotated[int | None, typer.Option(min=1, help="Window side.", show_default="recipe's, or 713")]
Scales = Annotated[
    str | None,
    typer.Option(help="Scales to average over: 0.5,1.0 or multi (0.5 to 1.75).", show_default="recipe's"),
]
Flip = Annotated[
    bool | None,
    typer.Option("--flip/--no-flip", help="Average with the mirror image.", show_default="recipe's, or --flip"),
]
TaxonomyName = Annotated[
    str | None, typer.Option(help="Answer in the classes of: universal, or a dataset.", show_default="the model's")
]
Staged = Annotated[
    bool,
    typer.Option(
        "--staged",
        help="Work in .partial/ beside the output and move it in when whole: for pipelines that delete outputs before "
        "they make them, such as DVC's.",
    ),
]
DeviceName = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to compute.")]
