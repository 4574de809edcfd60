"""Command: train."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from segstream.cli.commands.options import Staged
from segstream.cli.console import note
from segstream.cli.jobs.scripts import STOPPED
from segstream.shards.errors import DataError, UsageError


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
    staged: Staged = False,
    list_recipes: Annotated[bool, typer.Option("--list", help="List the recipes and exit.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what the run would be, make one step of it, and exit.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="With --list or --dry-run: print JSON.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="With --list: print docs/recipes.md.")] = False,
) -> None:
    """Train a recipe; under torchrun on many processes. A killed run started again goes on exactly where it was."""
    if list_recipes:
        from segstream.cli.run.recipe_table import show

        show("json" if json else "markdown" if markdown else "text")
        return
    if markdown or (json and not dry_run):
        raise UsageError("--json goes with --list or --dry-run, --markdown with --list; run.json tells of a run")
    if recipe is None:
        raise UsageError("which recipe? segstream train --list names them")
    from segstream.model.training.trainer import Stopped
    from segstream.recipe import load_recipe

    with _told_once("LOCAL_RANK", DataError):  # the processes of a machine read the same files
        chosen = load_recipe(recipe, overrides or ())
    if dry_run:
        if _is_first("RANK"):  # what is shown is of one process
            from segstream.cli.run.dry_run import dry_run as show_plan

            show_plan(chosen, json=json)
        return
    from segstream.cli.run.training_line import training_line
    from segstream.training import train as run_training

    with _told_once("RANK", Stopped), _marked_when_stopped(), training_line(chosen.name) as line:
        final = run_training(
            chosen,
            run,
            restart_changed=restart_changed,
            tensorboard=tensorboard,
            staged=staged,
            on_log=line,
            on_note=lambda text: note(f"{chosen.name}: {text}"),
            given=(recipe, *(overrides or ())),
        )
    if _is_first("RANK"):
        note(f"{chosen.name}: done; weights in {final}")


def _is_first(variable: str) -> bool:
    """Whether torchrun's RANK (of all processes) or LOCAL_RANK (of a machine's) is 0; true without torchrun."""
    return os.environ.get(variable, "0") == "0"


@contextmanager
def _told_once(variable: str, kind: type[DataError]) -> Iterator[None]:
    """What every process meets alike is an error of the first only; the others end with its exit code, in silence."""
    try:
        yield
    except kind as error:
        if _is_first(variable):
            raise
        raise typer.Exit(error.exit_code) from None


@contextmanager
def _marked_when_stopped() -> Iterator[None]:
    """Leave the file that a job script looks for when the run stopped before its end; see `cli.jobs.scripts`."""
    from segstream.model.training.trainer import Stopped

    mark = os.environ.get(STOPPED)
    if mark is not None:
        Path(mark).unlink(missing_ok=True)
    try:
        yield
    except Stopped:
        if mark is not None:
            Path(mark).touch()
        raise
