"""What a training run leaves of itself as it goes: curves, validation scores, pictures; rank 0 alone writes them.

A resumed run makes the steps after its last checkpoint again, and one that starts over all of them. Before its first
step, curves, scores and pictures of later steps than it starts with are therefore removed: every point stands once.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
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
from segstream.shards.files import append, refused, write_bytes, write_text

LOGGED = ("loss", "lr", "crops_per_s", "data_wait", "memory_mib")
GAP = 4  # pixels of white between pictures
_POINT = re.compile(r"(\d+)\t(-?\d+(?:\.\d+)?(?:e[-+]?\d+)?|nan|inf)\n")  # of a curve
WIDEST = 480  # pixels of one picture: a panel is to be looked at, not measured


def curve_values(row: LogRow) -> dict[str, float]:
    """What of a row becomes curves; a figure that is not a number leaves a gap."""
    values = {name: getattr(row, name) for name in LOGGED}
    values |= {f"loss_on/{dataset}": loss for dataset, loss in row.losses.items()}
    return {name: value for name, value in values.items() if math.isfinite(value)}


def write_scores(path: Path, step: int, scores: Mapping[str, EvalResult]) -> None:
    """Add the scores of a step to a run's `validation.json`; those of that step or later go.

    Raises:
        DataError: the file cannot be read or written.
    """
    sets = {
        name: {"miou": s.miou, "macc": s.macc, "acc": s.acc, "images": s.images}
        | {"classes": [{"name": c.name, "iou": c.iou, "pixels": c.pixels} for c in s.classes]}
        for name, s in scores.items()
    }
    rows = [*_scores_until(path, step - 1), {"step": step, "sets": sets}]
    write_text(path, json.dumps(rows, indent=2) + "\n")


def forget_later(folder: Path, step: int) -> None:
    """Remove the scores and pictures of more than `step` steps that an earlier start left in a run folder.

    Raises:
        DataError: the system refuses, or scores cannot be read.
    """
    path = folder / "validation.json"
    if path.exists():
        write_text(path, json.dumps(_scores_until(path, step), indent=2) + "\n")
    for picture in (folder / "pictures").glob("step-*.jpg"):
        if (number := picture.stem.removeprefix("step-")).isdigit() and int(number) > step:
            picture.unlink()


def _scores_until(path: Path, step: int) -> list[dict[str, Any]]:
    try:
        return [row for row in json.loads(path.read_text(encoding="utf-8")) if row["step"] <= step]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: no list of scores by step ({error!r}); restore it or remove it") from error


class Curves:
    """Figures and pictures by step: as dvclive writes them, and for TensorBoard if asked for.

    `dvclive/plots/metrics/NAME.tsv` has a line for each point, `dvclive/metrics.json` the latest values; `dvc plots`
    and DVC's extension of VS Code show them. dvclive itself would make `.dvc/` in any git repository that it runs in,
    needs a commit there, and writes into files that DVC has linked. TensorBoard reads the event files in `tensorboard`.
    """

    def __init__(self, folder: Path, *, tensorboard: bool) -> None:
        """Nothing is written yet.

        Raises:
            UsageError: TensorBoard is asked for and not installed.
        """
        self._folder = folder
        self._latest: dict[str, Any] = {}
        self._board: Any = None
        self._writer: Any = None
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise UsageError("--tensorboard: not installed; pip install 'segstream[tensorboard]'") from error
            self._writer = SummaryWriter

    def begin(self, step: int) -> None:
        """Forget the points of more than `step` steps that an earlier start left; lines that a kill cut off, too.

        Raises:
            DataError: the system refuses.
        """
        metrics = self._folder / "dvclive/plots/metrics"
        for file in sorted(metrics.rglob("*.tsv")):
            header, *lines = file.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True) or [""]
            kept = [found for line in lines if (found := _POINT.fullmatch(line)) and int(found[1]) <= step]
            if kept:  # a file of its own, whatever a cache had linked here
                write_text(file, header + "".join(found[0] for found in kept))
                self._note(file.relative_to(metrics).with_suffix("").as_posix(), float(kept[-1][2]))
            else:
                file.unlink()
        (self._folder / "dvclive/metrics.json").unlink(missing_ok=True)
        if not step:
            for events in (self._folder / "tensorboard").glob("events.out.tfevents.*"):
                events.unlink()
        if self._writer is not None:
            self._board = self._writer(str(self._folder / "tensorboard"), purge_step=step + 1)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to each named curve; steps ascend.

        Raises:
            DataError: the system refuses.
        """
        for name, value in ((name, float(value)) for name, value in values.items()):
            file = self._folder / f"dvclive/plots/metrics/{name}.tsv"
            header = "" if file.exists() else f"step\t{Path(name).name}\n"
            append(file, f"{header}{step}\t{value}\n".encode())
            self._note(name, value)
        write_text(self._folder / "dvclive/metrics.json", json.dumps(self._latest | {"step": step}, indent=4) + "\n")
        for name, value in values.items():
            self._on_board("add_scalar", name, value, step)
        self._on_board("flush")

    def picture(self, step: int, name: str, picture: Rgb) -> None:
        """Show a picture, (H, W, 3) uint8 RGB, in TensorBoard.

        Raises:
            DataError: the system refuses.
        """
        self._on_board("add_image", name, picture, step, dataformats="HWC")

    def close(self) -> None:
        """Write what is still in memory.

        Raises:
            DataError: the system refuses.
        """
        self._on_board("close")

    def _note(self, name: str, value: float) -> None:
        *groups, last = name.split("/")
        at = self._latest
        for group in groups:
            at = at.setdefault(group, {})
        at[last] = value

    def _on_board(self, call: str, *args: Any, **options: Any) -> None:
        """What TensorBoard's writer is told, if there is one."""
        if self._board is not None:
            with refused(f"{self._folder / 'tensorboard'}: cannot be written"):
                getattr(self._board, call)(*args, **options)


def crop_panel(net: nn.Module, batch: Batch, count: int, colors: Rgb, config: InferConfig) -> Rgb:
    """The first crops of a batch with their labels and what the network makes of them.

    Where the label is ignored the prediction is drawn all the same: nobody scores it, but one may look.

    Args:
        net: in eval mode.
        count: crops; fewer where the batch has fewer.
        colors: (classes, 3) uint8 RGB by id of the batch's labels.
        config: its sides are left out: crops have the size that the network learns from.

    Returns:
        (H, W, 3) uint8 RGB: a row for every crop, of image, label and prediction.
    """
    rows, config = [], replace(config, short_side=None, long_side=None)
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
