"""Command: order."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segstream.cli.console import note, print_json, print_table, say

if TYPE_CHECKING:
    from segstream.pipeline.samples import Samples

DRAWN = ("scale", "angle_deg", "corner_px", "crop_hw", "source_hw", "canvas_hw", "flip", "blur", "blur_sigma", "jitter")
COLUMNS = ("key", "run_slot", "draw", "epoch", "place", "shard", "position", "scale", "angle_deg")  # of the table
FOR_CLASS = "for {class}, centroid {centroid} of the shard at {anchor_xy[0]:.0f} {anchor_xy[1]:.0f}"
TITLES = {"key": "sample", "run_slot": "slot", "draw": "n", "angle_deg": "angle"}  # where they are not the key


def order(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe, or a YAML file.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Override any leaf, e.g. seed=1")
    ] = None,
    step: Annotated[int, typer.Option(min=0, help="Step of the run, from 0.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")] = False,
) -> None:
    """Show which samples a step of a run uses, and why: their place in the order, and the draw that crops them."""
    from segstream.pipeline.config import shares
    from segstream.pipeline.samples import Samples
    from segstream.recipe import load_recipe

    chosen = load_recipe(recipe, overrides or ())
    batch = chosen.loader.batch
    with closing(Samples(chosen.data, chosen.augment, seed=chosen.seed, batch=batch)) as samples:
        rows = [_row(samples, step, slot) for slot in range(batch)]
        for line in samples.warnings:
            note(f"warning: {line}")
    mix = {name: str(share) for name, share in shares(chosen.data.mix).items()}
    if json:
        about = {"recipe": chosen.name, "seed": chosen.seed, "step": step, "batch": batch, "mix": mix}
        print_json(about | {"samples": rows})
        return
    parts = ", ".join(f"{share} {name}" for name, share in mix.items())
    say(f"{chosen.name}, seed {chosen.seed}: step {step} is slots {step * batch} to {step * batch + batch - 1}")
    say(f"of a schedule that deals {parts}. The n-th slot of a dataset is place n of its shuffled epochs.\n")
    header = [*(TITLES.get(key, key) for key in COLUMNS), "corner y, x", "done to it"]
    print_table(header, [_cells(row) for row in rows])


def _row(samples: Samples, step: int, slot: int) -> dict[str, Any]:
    found, classes, batch = samples.find(step, slot), samples.taxonomy.classes, samples.order.batch
    pick, draw = found.pick, asdict(found.draw)
    place = {"split": found.split} | {name: getattr(pick, name) for name in ("draw", "epoch", "place", "index")}
    crop = {name: draw[name] for name in DRAWN}
    named = {"slot": slot, "run_slot": step * batch + slot, "dataset": pick.dataset, "key": found.key}
    why = {"class": None if pick.class_id is None else classes[pick.class_id], "anchor_xy": pick.anchor_xy}
    return named | place | {"shard": found.shard, "position": found.position} | crop | why | {"centroid": pick.nth}


def _cells(row: dict[str, Any]) -> list[Any]:
    shown = row | {
        "key": row["key"] if row["key"].startswith(row["dataset"]) else f"{row['dataset']}: {row['key']}",
        "shard": f"{row['split']}/{Path(row['shard']).stem}",
        "scale": f"{row['scale']:.3f}",
        "angle_deg": f"{row['angle_deg']:+.1f}" if row["angle_deg"] else "-",
    }
    done = [name for name in ("flip", "blur", "jitter") if row[name]]
    if row["class"] is not None:
        done.append(FOR_CLASS.format_map(row))
    return [*(shown[key] for key in COLUMNS), "{}, {}".format(*row["corner_px"]), ", ".join(done) or "-"]
