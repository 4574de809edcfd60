"""Command: train."""

from __future__ import annotations

import dataclasses
import json as jsonlib
import os
import platform
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.output import note
from shards.errors import UsageError

if TYPE_CHECKING:
    from cli.recipe import Recipe
    from model import LogRow, Ranks


def train(
    recipe: Annotated[str | None, typer.Argument(help="Name of a recipe, or a YAML file.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Override any leaf, e.g. train.lr=0.05")
    ] = None,
    run: Annotated[Path | None, typer.Option(help="Run folder.", show_default="runs/RECIPE")] = None,
    restart_changed: Annotated[
        bool, typer.Option("--restart-changed", help="Start over if the folder holds another recipe, data or seed.")
    ] = False,
    list_recipes: Annotated[bool, typer.Option("--list", help="List the recipes and exit.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what the run would be, make one step of it, and exit.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="With --list or --dry-run: print JSON.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="With --list: print docs/recipes.md.")] = False,
) -> None:
    """Train a recipe. A killed run started again goes on exactly where it was."""
    from cli.recipe import load_recipe

    if list_recipes:
        from cli.listing import show

        show("json" if json else "markdown" if markdown else "text")
        return
    if recipe is None:
        raise UsageError("which recipe? segstream train --list names them")
    chosen = load_recipe(recipe, overrides or ())
    if dry_run:
        from cli.plan import dry_run as show_plan

        show_plan(chosen, json=json)
        return
    folder = run or Path("runs") / chosen.name
    final = _train(chosen, folder, restart_changed=restart_changed)
    note(f"{chosen.name}: done; weights in {final}")


def _train(recipe: Recipe, folder: Path, *, restart_changed: bool, ranks: Ranks | None = None) -> str:
    from model import Ranks, build, load_weights
    from model import train as run_training
    from pipeline import Loader

    ranks = ranks or Ranks()
    share = {"rank": ranks.rank, "world_size": ranks.world_size}
    with Loader(recipe.data, recipe.augment, recipe.loader, seed=recipe.seed, **share) as loader:
        note(f"{recipe.name}: {loader.engine_note}")
        num_classes = loader.taxonomy.num_classes
        meta: dict[str, Any] = {
            "arch": recipe.model.arch,
            "options": recipe.model.options,
            "num_classes": num_classes,
            "taxonomy": dataclasses.asdict(loader.taxonomy),
            "recipe": dataclasses.asdict(recipe),
        }
        net = build(recipe.model.arch, num_classes, **{"seed": recipe.seed, **recipe.model.options})
        if recipe.model.weights is not None:
            loaded = load_weights(net, recipe.model.weights, fresh=recipe.model.fresh)
            meta["weights"] = {"sha256": loaded.sha256, "fresh": recipe.model.fresh}
            kept = f"; freshly drawn: {len(loaded.fresh)} tensors" if loaded.fresh else ""
            note(f"{recipe.name}: starting from {loaded.kind} {recipe.model.weights}{kept}")
        with _curves(folder) as curves:

            def on_log(row: LogRow) -> None:
                note(f"{recipe.name}: {_line(row)}")
                curves(row)

            final = run_training(
                net,
                loader,
                recipe.train,
                str(folder),
                meta=meta,
                seed=recipe.seed,
                ranks=ranks,
                on_log=on_log,
                on_note=lambda line: note(f"{recipe.name}: {line}"),
                restart_changed=restart_changed,
            )
        _write_run_json(folder, recipe, loader.fingerprint)
        return final


def _line(row: LogRow) -> str:
    return (
        f"step {row.step} of {row.steps}, loss {row.loss:.3f}, lr {row.lr:.4f}, {row.crops_per_s:.0f} crops/s, "
        f"data wait {row.data_wait:.0%}, {row.eta_s:.0f} s to go"
    )


def _write_run_json(folder: Path, recipe: Recipe, fingerprint: dict[str, Any]) -> None:
    """What ran, on what, with which versions: for people; resuming goes by the checkpoint's own identity."""
    folder.mkdir(parents=True, exist_ok=True)
    git = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    content = {
        "recipe": dataclasses.asdict(recipe),
        "data": fingerprint,
        "git": git.stdout.strip() or None,
        "versions": {name: version(name) for name in ("segstream", "torch", "numpy", "opencv-python-headless")},
        "python": platform.python_version(),
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
    }
    part = folder / "run.json.part"
    part.write_text(jsonlib.dumps(content, indent=2, default=str), encoding="utf-8")
    part.replace(folder / "run.json")


@contextmanager
def _curves(folder: Path) -> Iterator[Callable[[LogRow], None]]:
    """Training curves through dvclive where it is installed (extra `dvc`); without it the log lines remain."""
    try:
        from dvclive import Live  # type: ignore[attr-defined]
    except ImportError:
        note("no training curves: dvclive is not installed (pip install 'segstream[dvc]')")
        yield lambda row: None
        return
    curves = folder / "dvclive"
    with Live(str(curves), save_dvc_exp=False, dvcyaml=None, report=None, resume=curves.exists()) as live:

        def write(row: LogRow) -> None:
            _drop_rows_from(curves, row.step)
            live.step = row.step
            for name in ("loss", "lr", "crops_per_s", "data_wait"):
                live.log_metric(name, getattr(row, name))
            live.make_summary()

        yield write


def _drop_rows_from(curves: Path, step: int) -> None:
    """A resumed run repeats the steps after its last checkpoint: their first account gives way to the second."""
    for file in curves.glob("plots/metrics/**/*.tsv"):
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for i, line in enumerate(lines) if i == 0 or int(line.split("\t")[0]) < step]
        if len(kept) < len(lines):
            file.write_text("".join(kept), encoding="utf-8")
