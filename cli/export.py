"""Command: export."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.output import note, print_json
from shards.errors import UsageError

if TYPE_CHECKING:
    from torch import nn


def export(
    checkpoint: Annotated[Path, typer.Argument(help="A final.pt; with --arch, any file of weights for it.")],
    out: Annotated[Path, typer.Option(help="FILE.onnx or FILE.pt2 (torch.export).")],
    size: Annotated[
        str | None, typer.Option(help="Height and width of the images, e.g. 713 or 1024x2048.", show_default="recipe's")
    ] = None,
    arch: Annotated[str | None, typer.Option(help="Architecture of a published file.")] = None,
    classes: Annotated[int | None, typer.Option(min=1, help="Its number of classes.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")] = False,
) -> None:
    """Write a model as ONNX or as an exported torch program, and run it once against the original."""
    from model.export import FORMATS
    from model.export import export as write

    if out.suffix not in FORMATS:
        raise UsageError(f"--out {out}: give a file that ends in {' or '.join(FORMATS)}")
    if (arch is None) != (classes is None):
        raise UsageError("--arch and --classes go together, for a file that does not say what it is of")
    size_hw = None if size is None else _size(size)
    net, meta = _network(checkpoint, arch, classes)
    if size_hw is None:
        crop = meta.get("recipe", {}).get("eval", {}).get("crop")
        if crop is None:
            raise UsageError(f"{checkpoint}: names no crop; give --size")
        size_hw = (crop, crop)
    note(f"export: {checkpoint} for images of {size_hw[0]} x {size_hw[1]}")
    known: dict[str, Any] = {name: meta[name] for name in ("arch", "num_classes", "taxonomy") if name in meta}
    done = write(net, out, size_hw, meta=known)
    if json:
        print_json({"file": done.path, "bytes": out.stat().st_size, "size_hw": size_hw, "difference": done.difference})
        return
    note(
        f"export: {done.path}, {out.stat().st_size / 1e6:.1f} MB; logits within {done.difference:.1e} of the original's"
    )


def _network(checkpoint: Path, arch: str | None, classes: int | None) -> tuple[nn.Module, dict[str, Any]]:
    from model import build, load_net, load_weights

    if arch is None or classes is None:
        return load_net(str(checkpoint))
    net = build(arch, classes)
    loaded = load_weights(net, checkpoint)
    if loaded.fresh:
        raise UsageError(f"{checkpoint}: {loaded.kind}, without a head to segment with; give a trained network")
    return net.eval(), {"arch": arch, "num_classes": classes}


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d*)(?:x([1-9]\d*))?", text)
    if match is None:
        raise UsageError(f"--size {text!r}: give one number or HEIGHTxWIDTH, e.g. 713 or 1024x2048")
    return int(match[1]), int(match[2] or match[1])
