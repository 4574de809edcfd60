"""What a training run leaves of itself as it goes: curves, validation scores, pictures; rank 0 alone writes them.

A resumed run makes the steps after its last checkpoint again. Curves and scores therefore forget, with the first thing
they are given, what an earlier start left at that step and later: every point stands once.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from torch import nn

from segstream.colors import Rgb, paint
from segstream.model.config import InferConfig
from segstream.model.evaluation.metrics import EvalResult
from segstream.model.inference.infer import segment
from segstream.model.types import Batch, LogRow
from segstream.shards.errors import DataError, UsageError
from segstream.shards.files import write_bytes, write_text

LOGGED = ("loss", "lr", "crops_per_s", "data_wait", "memory_mib")
GAP = 4  # pixels of white between pictures
WIDEST = 480  # pixels of one picture: a panel is to be looked at, not measured


def curve_values(row: LogRow) -> dict[str, float]:
    """What of a row becomes curves; a figure that is not a number leaves a gap."""
    values = {name: getattr(row, name) for name in LOGGED}
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


class Curves:
    """Figures and pictures by step, drawn by dvclive where it is installed, and by TensorBoard if asked for.

    dvclive writes `plots/metrics/NAME.tsv` and the latest values as `metrics.json` in the run's `dvclive` folder,
    TensorBoard an event file in `tensorboard`.
    """

    def __init__(self, folder: Path, note: Callable[[str], None], *, tensorboard: bool) -> None:
        """Nothing is forgotten yet.

        Raises:
            UsageError: TensorBoard is asked for and not installed.
        """
        self._folder, self._tensorboard = folder, tensorboard
        self._live: Any = None
        self._board: Any = None
        self._begun = False
        if tensorboard:
            try:
                import torch.utils.tensorboard  # noqa: F401
            except ImportError as error:
                raise UsageError("--tensorboard: not installed; pip install 'segstream[tensorboard]'") from error
        try:
            from dvclive import Live  # type: ignore[attr-defined]
        except ImportError:
            note("no training curves: dvclive is not installed (pip install 'segstream[dvc]')")
        else:
            place = folder / "dvclive"
            self._live = Live(str(place), save_dvc_exp=False, dvcyaml=None, report=None, resume=place.exists())

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to each named curve; steps ascend."""
        self._begin(step)
        if self._live is not None:
            self._live.step = step
            for name, value in values.items():
                self._live.log_metric(name, value)
            self._live.make_summary()
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)
            self._board.flush()

    def picture(self, step: int, name: str, picture: Rgb) -> None:
        """Show a picture, (H, W, 3) uint8 RGB; dvclive has none of them, they lie in the run folder."""
        self._begin(step)
        if self._board is not None:
            self._board.add_image(name, picture, step, dataformats="HWC")

    def close(self) -> None:
        """Write what is still in memory."""
        if self._live is not None:
            self._live.end()
        if self._board is not None:
            self._board.close()

    def _begin(self, step: int) -> None:
        """Forget the points of this step and later that an earlier start left."""
        if self._begun:
            return
        self._begun = True
        for file in (self._folder / "dvclive").glob("plots/metrics/**/*.tsv"):
            lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for i, line in enumerate(lines) if i == 0 or int(line.split("\t")[0]) < step]
            if len(kept) < len(lines):
                file.write_text("".join(kept), encoding="utf-8")
        if self._tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(self._folder / "tensorboard"), purge_step=step)


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
