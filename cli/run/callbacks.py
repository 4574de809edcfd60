"""What a person sees of a training run: a line, curves, validation scores, pictures. Only rank 0 shows anything."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from torch import nn

from segstream.cli.console import note, write_text
from segstream.cli.run.curves import Curves, open_curves
from segstream.cli.run.panel import crop_panel, write_jpeg
from segstream.colors import class_colors
from segstream.evaluation import EvalModel, Validation, headline

if TYPE_CHECKING:
    from segstream.model.distributed import Ranks
    from segstream.model.evaluation.eval_result import EvalResult
    from segstream.model.training.metrics_log import LogRow
    from segstream.pipeline import Loader
    from segstream.recipe import Recipe


class Observer:
    """The callbacks of a training run. Every process has one; it shows things on rank 0."""

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        loader: Loader,
        ranks: Ranks,
        *,
        line: Callable[[LogRow], None],
        curves: Sequence[Curves],
        validation: Validation,
    ) -> None:
        self._recipe = recipe
        self._folder = folder
        self._loader = loader
        self._main = ranks.is_main
        self._line = line
        self._curves = curves
        self._validation = validation

    def on_log(self, row: LogRow) -> None:
        """Show a row of the log."""
        if not self._main:
            return
        self._line(row)
        self._log(row.step, curve_values(row))

    def on_note(self, text: str) -> None:
        """Tell a person something, once."""
        if self._main:
            note(f"{self._recipe.name}: {text}")

    def on_validate(self, net: nn.Module, step: int) -> None:
        """Score and draw the weights of a step; every process takes part in the scores."""
        scores = self._validation.results(net)
        if not self._main:
            return
        if scores:
            self.on_note(f"step {step}: " + ", ".join(f"{name} mIoU {100 * s.miou:.1f}" for name, s in scores.items()))
            write_scores(self._folder / "validation.json", step, scores)
            self._log(step, headline(scores))
        if self._recipe.validate.pictures:
            self._draw(net, step)

    def _log(self, step: int, values: Mapping[str, float]) -> None:
        for curves in self._curves:
            curves.log(step, values)

    def _draw(self, net: nn.Module, step: int) -> None:
        """The first crops of the run, always the same, so that panels show what is learnt and not other pictures."""
        batch = next(iter(self._loader.batches(0, 1)))
        colors = class_colors(self._loader.taxonomy.classes)
        picture = crop_panel(net, batch, self._recipe.validate.pictures, colors, self._recipe.eval)
        write_jpeg(self._folder / "pictures" / f"step-{step}.jpg", picture)
        for curves in self._curves:
            curves.picture(step, "crops", picture)


@contextmanager
def observe(
    recipe: Recipe, net: nn.Module, folder: Path, loader: Loader, ranks: Ranks, *, tensorboard: bool
) -> Iterator[Observer]:
    """The observer of a run, its files open for as long.

    Raises:
        DataError: a set of `validate.data` cannot be used.
        UsageError: TensorBoard is asked for and not installed.
    """
    with ExitStack() as opened:
        validation = opened.enter_context(Validation(recipe.validate.data, recipe.validate.limit, EvalModel.of_run(recipe, net, loader.taxonomy), ranks))
        curves: tuple[Curves, ...] = ()
        line: Callable[[LogRow], None] = _nothing
        if ranks.is_main:
            curves = opened.enter_context(open_curves(folder, tensorboard=tensorboard))
            line = opened.enter_context(training_line(recipe.name))
        yield Observer(recipe, folder, loader, ranks, line=line, curves=curves, validation=validation)


@contextmanager
def training_line(name: str) -> Iterator[Callable[[LogRow], None]]:
    """A bar in a terminal; elsewhere a line for every row."""
    if not sys.stderr.isatty():
        yield lambda row: note(f"{name}: step {row.step} of {row.steps}, {figures(row)}")
        return
    columns = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TextColumn("{task.fields[row]}"))
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=None, row="")
        yield lambda row: bar.update(task, completed=row.step, total=row.steps, row=figures(row))


def figures(row: LogRow) -> str:
    """The figures of a row, for people."""
    parts = [
        f"loss {row.loss:.3f}",
        f"lr {row.lr:.4g}",
        f"{_brief(row.crops_per_s)} crops/s",
        f"data wait {row.data_wait:.0%}",
        *([] if math.isnan(row.memory_mib) else [f"{row.memory_mib / 1024:.1f} GiB"]),
        *([f"{row.skipped} steps skipped"] if row.skipped else []),
        f"{duration(row.eta_s)} to go",
    ]
    return ", ".join(parts)


def _brief(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2f}"


def duration(seconds: float) -> str:
    """`42 s`, `5 min 07 s`, `3 h 20 min`, `2 d 04 h`: the two units that matter."""
    whole = round(seconds)
    for size, unit, small, small_unit in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // small:02d} {small_unit}"
    return f"{whole} s"


def curve_values(row: LogRow) -> dict[str, float]:
    """What of a row becomes curves; a figure that is not a number leaves a gap."""
    names = ("loss", "lr", "crops_per_s", "data_wait", "memory_mib")
    values = {name: getattr(row, name) for name in names}
    values |= {f"loss_on/{dataset}": loss for dataset, loss in row.losses.items()}
    return {name: value for name, value in values.items() if math.isfinite(value)}


def write_scores(path: Path, step: int, scores: Mapping[str, EvalResult]) -> None:
    """Add the scores of a step to a run's `validation.json`; those that an earlier start left at it or later go.

    Raises:
        DataError: the file cannot be written.
    """
    rows = [row for row in _rows(path) if row["step"] < step]
    rows.append({"step": step, "sets": {name: _as_dict(score) for name, score in scores.items()}})
    write_text(path, json.dumps(rows, indent=2) + "\n")


def _rows(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return rows


def _as_dict(score: EvalResult) -> dict[str, Any]:
    classes = [{"name": c.name, "iou": c.iou, "pixels": c.pixels} for c in score.classes]
    return {"miou": score.miou, "macc": score.macc, "acc": score.acc, "images": score.images, "classes": classes}


def _nothing(row: LogRow) -> None:
    """Other ranks show no line."""
