"""Timing of whole images through inference: `segstream bench infer --image`."""

from __future__ import annotations

import re
import statistics
from typing import Any

import typer

from segstream.benchmarks.infer import prepare
from segstream.benchmarks.timing import interleaved, ratio
from segstream.cli.console import print_json, print_table, progress
from segstream.model.config import MULTI_SCALE, Device, InferConfig
from segstream.shards.errors import DataError, UsageError

EQUAL = 0.995  # share of pixels in which both must agree to be compared


def size_of(text: str) -> tuple[int, int]:
    """HEIGHTxWIDTH.

    Raises:
        UsageError: it is not.
    """
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if match is None:
        raise UsageError(f"--image {text!r}: give HEIGHTxWIDTH, e.g. 720x1280")
    return int(match[1]), int(match[2])


def measure(
    machine: str,
    *,
    arch: str,
    classes: int,
    size_hw: tuple[int, int],
    images: int,
    short_side: int | None,
    crop: int,
    multi: bool,
    batch: int,
    device: Device,
    rounds: int,
) -> dict[str, Any]:
    """Images per second of ours and of the literal procedure, medians of rounds run in turns.

    Raises:
        DataError: they give different labels.
    """
    scales = MULTI_SCALE if multi else (1.0,)
    config = InferConfig(crop=crop, short_side=short_side, scales=scales, batch=batch, device=device)
    both = prepare(arch, classes, size_hw, images, config)
    agreement = both.agreement()
    if agreement < EQUAL:
        raise DataError(
            f"bench infer {arch}: labels of ours and of the literal procedure agree in {agreement:.2%} only"
        )
    with progress("bench infer", "rounds") as report:
        took = interleaved({"ours": both.ours, "literal": both.literal}, rounds, warm_up=0, report=report)
    rates = {name: round(images / statistics.median(times), 3) for name, times in took.items()}
    about: dict[str, Any] = {"task": "infer", "machine": machine, "arch": arch, "classes": classes, "images": images}
    about |= {"size_hw": size_hw, "short_side": short_side, "crop": crop, "scales": scales, "rounds": rounds}
    return about | rates | {"ratio": round(ratio(took["literal"], took["ours"]), 2), "agreement": round(agreement, 5)}


def say(result: dict[str, Any], *, json: bool) -> None:
    """Print it."""
    if json:
        print_json(result)
        return
    height, width = result["size_hw"]
    scales = " ".join(f"{scale:g}" for scale in result["scales"])
    side = result["short_side"] or "native"
    typer.echo(f"{result['arch']}, {result['classes']} classes, {width} x {height}, shorter side {side}, "
               f"windows of {result['crop']}, scales {scales}; {result['machine']}")  # fmt: skip
    print_table(("", "images/s"), [(name, f"{result[name]:.3f}") for name in ("ours", "literal")])
    typer.echo(f"literal / ours: time {result['ratio']}x; labels equal in {result['agreement']:.2%} of the pixels")
