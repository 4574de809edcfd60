"""What a training run leaves of itself as it goes: curves, validation scores, pictures. Only rank 0 writes.

A resumed run makes the steps after its last checkpoint again. Curves and scores therefore forget, with the first thing
they are given, what an earlier start left at that step and later: every point stands once.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from torch import nn

from segstream.colors import Rgb, class_colors, paint
from segstream.evaluation import EvalModel, Validation, headline
from segstream.model.config import InferConfig
from segstream.model.inference.infer import segment
from segstream.model.types import Batch
from segstream.shards.errors import DataError, UsageError
from segstream.shards.files import write_bytes, write_text

if TYPE_CHECKING:
    from segstream.model.distributed import ProcessGroup
    from segstream.model.evaluation.metrics import EvalResult
    from segstream.model.training.metrics_log import LogRow
    from segstream.pipeline.loader import Loader
    from segstream.recipe import Recipe

CURVES = ("loss", "lr", "crops_per_s", "data_wait", "memory_mib")
GAP = 4  # pixels of white between pictures
WIDEST = 480  # pixels of one picture: a panel is to be looked at, not measured


@dataclass(frozen=True, kw_only=True)
class Callbacks:
    """What the trainer calls. Every process has one."""

    recipe: Recipe
    folder: Path
    loader: Loader
    is_main: bool
    validation: Validation
    curves: Sequence[DvcLive | TensorBoard]
    """None but on rank 0."""
    show_row: Callable[[LogRow], None]
    note: Callable[[str], None]

    def on_log(self, row: LogRow) -> None:
        """Show a row of the log; only rank 0 is given any."""
        self.show_row(row)
        self._log(row.step, curve_values(row))

    def on_validate(self, net: nn.Module, step: int) -> None:
        """Score and draw the weights of a step; every process takes part in the scores."""
        scores = self.validation.results(net)
        if not self.is_main:
            return
        if scores:
            self.note(f"step {step}: " + ", ".join(f"{name} mIoU {100 * s.miou:.1f}" for name, s in scores.items()))
            write_scores(self.folder / "validation.json", step, scores)
            self._log(step, headline(scores))
        if count := self.recipe.validate.pictures:
            batch = next(
                iter(self.loader.batches(0, 1))
            )  # always the same: panels show what is learnt, not other crops
            colors = class_colors(self.loader.taxonomy.classes)
            picture = crop_panel(net, batch, count, colors, self.recipe.eval)
            write_jpeg(self.folder / "pictures" / f"step-{step}.jpg", picture)
            for curves in self.curves:
                curves.picture(step, "crops", picture)

    def _log(self, step: int, values: Mapping[str, float]) -> None:
        for curves in self.curves:
            curves.log(step, values)


@contextmanager
def open_callbacks(
    recipe: Recipe,
    net: nn.Module,
    folder: Path,
    loader: Loader,
    ranks: ProcessGroup,
    *,
    tensorboard: bool,
    show_row: Callable[[LogRow], None],
    note: Callable[[str], None],
) -> Iterator[Callbacks]:
    """The callbacks of a run, their files open for as long.

    Args:
        show_row: shows a row of the log to a person.
        note: tells a person something, once.

    Raises:
        DataError: a set of `validate.data` cannot be used.
        UsageError: TensorBoard is asked for and not installed.
    """
    urls, limit = recipe.validate.data, recipe.validate.limit
    validation = Validation(urls, limit, EvalModel.of_run(recipe, net, loader.taxonomy), ranks)
    with ExitStack() as opened:
        yield Callbacks(
            recipe=recipe,
            folder=folder,
            loader=loader,
            is_main=ranks.is_main,
            validation=opened.enter_context(validation),
            curves=opened.enter_context(open_curves(folder, note, tensorboard=tensorboard)) if ranks.is_main else (),
            show_row=show_row,
            note=note,
        )


def curve_values(row: LogRow) -> dict[str, float]:
    """What of a row becomes curves; a figure that is not a number leaves a gap."""
    values = {name: getattr(row, name) for name in CURVES}
    values |= {f"loss_on/{dataset}": loss for dataset, loss in row.losses.items()}
    return {name: value for name, value in values.items() if math.isfinite(value)}


def write_scores(path: Path, step: int, scores: Mapping[str, EvalResult]) -> None:
    """Add the scores of a step to a run's `validation.json`; those that an earlier start left at it or later go.

    Raises:
        DataError: the file cannot be written.
    """
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    sets = {
        name: {"miou": s.miou, "macc": s.macc, "acc": s.acc, "images": s.images}
        | {"classes": [{"name": c.name, "iou": c.iou, "pixels": c.pixels} for c in s.classes]}
        for name, s in scores.items()
    }
    rows = [*(row for row in rows if row["step"] < step), {"step": step, "sets": sets}]
    write_text(path, json.dumps(rows, indent=2) + "\n")


class DvcLive:
    """Curves as `plots/metrics/NAME.tsv` in the run's `dvclive` folder, and the latest values as `metrics.json`."""

    def __init__(self, live: Any, folder: Path) -> None:
        self._live = live
        self._folder = folder
        self._begun = False

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to each named curve."""
        if not self._begun:
            self._drop_rows_from(step)
            self._begun = True
        self._live.step = step
        for name, value in values.items():
            self._live.log_metric(name, value)
        self._live.make_summary()

    def picture(self, step: int, name: str, picture: Rgb) -> None:
        """Nothing: the pictures lie in the run folder."""

    def _drop_rows_from(self, step: int) -> None:
        for file in self._folder.glob("plots/metrics/**/*.tsv"):
            lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for i, line in enumerate(lines) if i == 0 or int(line.split("\t")[0]) < step]
            if len(kept) < len(lines):
                file.write_text("".join(kept), encoding="utf-8")


class TensorBoard:
    """Curves and pictures as an event file in the run's `tensorboard` folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: Any = None

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to each named curve."""
        for name, value in values.items():
            self._at(step).add_scalar(name, value, step)
        self._at(step).flush()

    def picture(self, step: int, name: str, picture: Rgb) -> None:
        """Show a picture, (H, W, 3) uint8 RGB."""
        self._at(step).add_image(name, picture, step, dataformats="HWC")

    def close(self) -> None:
        """Write what is still in memory."""
        if self._writer is not None:
            self._writer.close()

    def _at(self, step: int) -> Any:
        """The writer; one that begins at `step` makes readers forget that step and later ones of former files."""
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._folder), purge_step=step)
        return self._writer


@contextmanager
def open_curves(
    folder: Path, note: Callable[[str], None], *, tensorboard: bool
) -> Iterator[Sequence[DvcLive | TensorBoard]]:
    """The writers of a run folder: dvclive where it is installed, and TensorBoard if asked for.

    Raises:
        UsageError: TensorBoard is asked for and not installed.
    """
    with ExitStack() as opened:
        curves: list[DvcLive | TensorBoard] = []
        if tensorboard:
            try:
                import torch.utils.tensorboard  # noqa: F401
            except ImportError as error:
                raise UsageError("--tensorboard: not installed; pip install 'segstream[tensorboard]'") from error
            board = TensorBoard(folder / "tensorboard")
            opened.callback(board.close)
            curves.append(board)
        try:
            from dvclive import Live  # type: ignore[attr-defined]
        except ImportError:
            note("no training curves: dvclive is not installed (pip install 'segstream[dvc]')")
        else:
            place = folder / "dvclive"
            live = Live(str(place), save_dvc_exp=False, dvcyaml=None, report=None, resume=place.exists())
            curves.append(DvcLive(opened.enter_context(live), place))
        yield curves


def crop_panel(net: nn.Module, batch: Batch, count: int, colors: Rgb, config: InferConfig) -> Rgb:
    """The first crops of a batch with their labels and what the network makes of them.

    Where the label is ignored the prediction is drawn all the same: nobody scores it, but one may look.

    Args:
        net: in eval mode.
        count: crops; fewer where the batch has fewer.
        colors: (classes, 3) uint8 RGB by id of the batch's labels.
        config: its `short_side` is left out: crops have the size that the network learns from.

    Returns:
        (H, W, 3) uint8 RGB: a row for every crop, of image, label and prediction.
    """
    rows = []
    for image, label in zip(batch.images[:count].cpu(), batch.labels[:count], strict=True):
        picture = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
        ((pred,),) = segment(net, [picture], [None], config)
        row = [picture, paint(label.numpy(), colors), paint(pred, colors)]
        factor = min(1.0, WIDEST / picture.shape[1])
        if factor < 1:
            row = [cv2.resize(p, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA) for p in row]
        rows.append(_joined(row, axis=1))
    return _joined(rows, axis=0)


def write_jpeg(path: Path, picture: Rgb) -> None:
    """Write a picture, (H, W, 3) uint8 RGB, whole or not at all.

    Raises:
        DataError: the file cannot be written.
    """
    done, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if not done:
        raise DataError(f"{path}: a picture of {picture.shape[1]} x {picture.shape[0]} cannot be encoded as JPEG")
    write_bytes(path, data.tobytes())


def _joined(pictures: Sequence[Rgb], *, axis: int) -> Rgb:
    """Side by side (1) or below one another (0), with white between."""
    shape = list(pictures[0].shape)
    shape[axis] = GAP
    gap = np.full(shape, 255, np.uint8)
    return np.concatenate([part for picture in pictures for part in (gap, picture)][1:], axis=axis)
