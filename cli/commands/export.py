"""Command: export."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from segstream.cli.commands.options import Arch, Json, NumClasses
from segstream.cli.console import note, note_place, print_json
from segstream.shards.errors import UsageError


def export(
    checkpoint: Annotated[Path, typer.Argument(help="A file of a run (final.pt), or a published file of weights.")],
    out: Annotated[Path, typer.Option(help="FILE.onnx or FILE.pt2 (torch.export).")],
    size: Annotated[
        str | None, typer.Option(help="Height and width of all images, e.g. 713 or 1024x2048.", show_default="recipe's")
    ] = None,
    arch: Arch = None,
    classes: NumClasses = None,
    json: Json = False,
) -> None:
    """Write a model as ONNX or as an exported torch program, and run it once against the original."""
    from segstream.model.inference.export import FORMATS
    from segstream.model.inference.export import export as write
    from segstream.model.networks.weights import load_any

    if out.suffix not in FORMATS:
        raise UsageError(f"--out {out}: give a file that ends in {' or '.join(FORMATS)}")
    size_hw = None if size is None else _size(size)
    net, meta = load_any(checkpoint, arch, classes)
    note_place(checkpoint, meta)
    if size_hw is None:
        crop = meta.get("recipe", {}).get("eval", {}).get("crop")
        if crop is None:
            raise UsageError(f"{checkpoint}: names no crop; give --size")
        size_hw = (crop, crop)
    note(f"export: {checkpoint} for images of {size_hw[0]} x {size_hw[1]}")
    known: dict[str, Any] = {name: meta[name] for name in ("arch", "num_classes", "taxonomy") if name in meta}
    difference, num_bytes = write(net, out, size_hw, meta=known), out.stat().st_size
    if json:
        print_json({"file": str(out), "bytes": num_bytes, "size_hw": size_hw, "difference": difference})
        return
    note(f"export: {out}, {num_bytes / 1e6:.1f} MB; logits within {difference:.1e} of the original's")


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d*)(?:x([1-9]\d*))?", text)
    if match is None:
        raise UsageError(f"--size {text!r}: give one number or HEIGHTxWIDTH, e.g. 713 or 1024x2048")
    return int(match[1]), int(match[2] or match[1])
