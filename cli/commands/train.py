"""Command: train."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segstream.cli.console import exit_code, note
from segstream.cli.jobs.scripts import STOPPED
from segstream.shards.errors import DataError, UsageError

if TYPE_CHECKING:
    from torch import nn

    from segstream.model.config import Device
    from segstream.model.distributed import ProcessGroup
    from segstream.recipe import Recipe


def train(
    recipe: Annotated[str | None, typer.Argument(help="Name of a recipe, or a YAML file.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Override any leaf, e.g. train.lr=0.05")
    ] = None,
    run: Annotated[Path | None, typer.Option(help="Run folder.", show_default="runs/RECIPE")] = None,
    restart_changed: Annotated[
        bool, typer.Option("--restart-changed", help="Start over if the folder holds another recipe, data or seed.")
    ] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Also write curves and pictures for TensorBoard, in RUN/tensorboard.")
    ] = False,
    list_recipes: Annotated[bool, typer.Option("--list", help="List the recipes and exit.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what the run would be, make one step of it, and exit.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="With --list or --dry-run: print JSON.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="With --list: print docs/recipes.md.")] = False,
) -> None:
    """Train a recipe; under torchrun on many processes. A killed run started again goes on exactly where it was."""
    from segstream.model.distributed import start, stop
    from segstream.model.training.trainer import Stopped
    from segstream.recipe import load_recipe

    if list_recipes:
        from segstream.cli.run.recipe_table import show

        show("json" if json else "markdown" if markdown else "text")
        return
    if markdown or (json and not dry_run):
        raise UsageError("--json goes with --list or --dry-run, --markdown with --list; run.json tells of a run")
    if recipe is None:
        raise UsageError("which recipe? segstream train --list names them")
    with _spoken_once("LOCAL_RANK", DataError):  # the processes of a machine read the same files
        chosen = load_recipe(recipe, overrides or ())
    if dry_run:
        if _is_first("RANK"):  # the plan is of one process
            from segstream.cli.run.dry_run import dry_run as show_plan

            show_plan(chosen, json=json)
        return
    folder = run or Path("runs") / chosen.name
    with _spoken_once("RANK", Stopped), _marked_when_stopped():
        ranks = start()
        try:
            final = _train(
                chosen,
                folder,
                restart_changed=restart_changed,
                ranks=ranks,
                tensorboard=tensorboard,
                given=(recipe, *(overrides or ())),
            )
        finally:
            stop()
    if ranks.is_main:
        note(f"{chosen.name}: done; weights in {final}")


def _train(
    recipe: Recipe,
    folder: Path,
    *,
    restart_changed: bool = False,
    ranks: ProcessGroup | None = None,
    tensorboard: bool = False,
    given: Sequence[str] = (),
) -> str:
    """Train on this process, one of `ranks`; returns the path of the weights."""
    from segstream.cli.run.callbacks import observe
    from segstream.cli.run.run_metadata import Announced, RunFile
    from segstream.model.distributed import ProcessGroup
    from segstream.model.networks.build import build
    from segstream.model.training.trainer import train as run_training
    from segstream.pipeline import Loader

    ranks = ranks or ProcessGroup()
    with ExitStack() as opened:
        share = {"rank": ranks.rank, "world_size": ranks.world_size}
        loader = opened.enter_context(Loader(recipe.data, recipe.augment, recipe.loader, seed=recipe.seed, **share))
        meta: dict[str, Any] = {
            "arch": recipe.model.arch,
            "options": recipe.model.options,
            "num_classes": loader.taxonomy.num_classes,
            "taxonomy": dataclasses.asdict(loader.taxonomy),
            "recipe": dataclasses.asdict(recipe),
        }
        net = build(recipe.model.arch, meta["num_classes"], **{"seed": recipe.seed, **recipe.model.options})
        observer = opened.enter_context(observe(recipe, net, folder, loader, ranks, tensorboard=tensorboard))
        observer.on_note(loader.engine_note)
        if recipe.model.weights is not None:
            meta["weights"] = _start_from(net, recipe.model.weights, recipe.model.fresh, observer.on_note)
        account = opened.enter_context(
            RunFile(
                folder,
                recipe,
                loader.fingerprint,
                given=list(given),
                world_size=ranks.world_size,
                device=_device_name(recipe.train.device),
                precision=_precision(recipe),
                engine=loader.engine_note,
            )
        )
        with _deaf_once_stopped():
            return run_training(
                net,
                Announced(loader, account.begin) if ranks.is_main else loader,
                recipe.train,
                str(folder),
                meta=meta,
                seed=recipe.seed,
                group=ranks,
                on_log=observer.on_log,
                on_note=observer.on_note,
                on_validate=observer.on_validate,
                restart_changed=restart_changed,
            )


def _is_first(variable: str) -> bool:
    """Whether torchrun's RANK (of all processes) or LOCAL_RANK (of a machine's) is 0; true without torchrun."""
    return os.environ.get(variable, "0") == "0"


@contextmanager
def _spoken_once(variable: str, kind: type[DataError]) -> Iterator[None]:
    """What every process meets alike, only the first tells; the others end with the same exit code."""
    try:
        yield
    except kind as error:
        if _is_first(variable):
            raise
        raise typer.Exit(exit_code(error)) from None


@contextmanager
def _marked_when_stopped() -> Iterator[None]:
    """Leave the file that a job script looks for when the run stopped before its end; see `cli.jobs`."""
    from segstream.model.training.trainer import Stopped

    path = os.environ.get(STOPPED)
    mark = None if path is None else Path(path)
    if mark is not None:
        mark.unlink(missing_ok=True)
    try:
        yield
    except Stopped:
        if mark is not None:
            mark.touch()
        raise


@contextmanager
def _deaf_once_stopped() -> Iterator[None]:
    """Let a process that stops end in peace: torchrun sends SIGTERM to the others as soon as the first has ended."""
    from segstream.model.training.trainer import SIGNALS, Stopped

    try:
        yield
    except Stopped:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # a handler would be gone before the interpreter is
        raise


def _device_name(wanted: Device) -> str:
    import torch

    from segstream.model.device import pick_device

    device = pick_device(wanted)
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _precision(recipe: Recipe) -> str:
    from segstream.model.device import pick_device, pick_precision

    return pick_precision(recipe.train.precision, pick_device(recipe.train.device))


def _start_from(net: nn.Module, path: str, fresh: Sequence[str], tell: Callable[[str], None]) -> dict[str, Any]:
    """Load a file's weights into the network; returns what the run's identity says of them."""
    from segstream.model.networks.weights import load_weights

    loaded = load_weights(net, path, fresh=tuple(fresh))
    kept = f"; freshly drawn: {len(loaded.fresh)} tensors" if loaded.fresh else ""
    tell(f"starting from {loaded.kind} {path}{kept}")
    return {"sha256": loaded.sha256, "fresh": tuple(fresh)}
