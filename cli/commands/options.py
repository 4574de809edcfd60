"""Options that several commands share, with one wording."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from segstream.shards.errors import UsageError

Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")]
CORES = os.cpu_count() or 1
Workers = Annotated[int, typer.Option(min=1, help="Processes.", show_default="all cores")]
Centroids = Annotated[bool, typer.Option("--centroids", help="Note where classes lie, for class-uniform sampling.")]
Sets = Annotated[list[str], typer.Argument(help="Shard sets.", show_default=False)]
CheckpointOption = Annotated[
    Path, typer.Option(help="A file of a run (final.pt), or another file of a network's weights.")
]
ShortSide = Annotated[
    str | None,
    typer.Option(help="Resize the shorter side to this first: 360, 480, ... or native.", show_default="recipe's"),
]
LongSide = Annotated[str | None, typer.Option(help="Resize the longer side instead.", show_default="recipe's")]
Crop = Annotated[int | None, typer.Option(min=1, help="Window side.", show_default="recipe's, or 713")]
Scales = Annotated[
    str | None, typer.Option(help="Scales to average over: 0.5,1.0 or multi (0.5 to 1.75).", show_default="recipe's")
]
NScales = Annotated[
    str | None,
    typer.Option(
        help="Scales that an HMSA network combines on whole images, e.g. 0.5,1,2.", show_default="recipe's, or its own"
    ),
]
Flip = Annotated[bool | None, typer.Option(help="Average with the mirror image.", show_default="recipe's, or --flip")]
TaxonomyName = Annotated[
    str | None, typer.Option(help="Answer in the classes of: universal, or a dataset.", show_default="the model's")
]
ServerIds = Annotated[
    Literal["cityscapes-34"] | None,
    typer.Option(
        help="Write a Cityscapes model's 19 classes as the ids that its server wants.", show_default="its own"
    ),
]
Staged = Annotated[
    bool,
    typer.Option(
        "--staged",
        help="Work in .partial/ beside the output and move it in when whole: for pipelines that delete outputs before "
        "they make them, such as DVC's.",
    ),
]
Arch = Annotated[str | None, typer.Option(help="Architecture of a file that is not recognised.")]
NumClasses = Annotated[int | None, typer.Option(min=1, help="Number of classes the file must have.")]
DeviceName = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to compute.")]


def example(command: str) -> str:
    """What `--help` says below the options."""
    return f"Example: [bold]segstream {command}[/]"


def infer_fields(*, scales: str | None = None, n_scales: str | None = None, **others: Any) -> dict[str, Any]:
    """Fields of `InferConfig` from what options say.

    Args:
        others: further fields; `short_side` and `long_side` as text.

    Raises:
        UsageError: one cannot be read.
    """
    from segstream.model.config import MULTI_SCALE

    for name in ("short_side", "long_side"):
        if isinstance(text := others.get(name), str):
            others[name] = parse_side(text, f"--{name.replace('_', '-')}")
    return others | {
        "scales": MULTI_SCALE if scales == "multi" else _numbers("--scales", scales),
        "n_scales": _numbers("--n-scales", n_scales),
    }


def parse_side(text: str, option: str = "--short-side") -> int | Literal["native"]:
    """A shorter or longer side.

    Raises:
        UsageError: neither `native` nor a whole number above 0.
    """
    if text == "native":
        return "native"
    if not text.isdecimal() or int(text) == 0:
        raise UsageError(f"{option} {text!r}: give a number of pixels (360, 480, 720, 1080) or native")
    return int(text)


def _numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    try:
        return None if text is None else tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{option} {text!r}: give numbers with commas between, e.g. 0.5,1.0") from None
