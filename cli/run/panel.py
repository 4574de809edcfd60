"""A panel of pictures: rows of image, label and prediction."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from torch import nn

from segstream.colors import Rgb, paint
from segstream.model.config import InferConfig
from segstream.model.inference.infer import segment
from segstream.model.types import Batch
from segstream.shards.errors import DataError

GAP = 4  # pixels of white between pictures
WIDEST = 480  # pixels of one picture: a panel is to be looked at, not measured


def crop_panel(net: nn.Module, batch: Batch, count: int, colors: Rgb, config: InferConfig) -> Rgb:
    """The first crops of a batch with their labels and what the network makes of them.

    Args:
        net: in eval mode.
        count: crops; fewer where the batch has fewer.
        colors: (classes, 3) uint8 RGB by id of the batch's labels.
        config: its `short_side` is left out: crops have the size that the network learns from.

    Returns:
        (H, W, 3) uint8 RGB: a row for every crop, of image, label and prediction.
    """
    rows = []
    for image, label in list(zip(batch.images.cpu(), batch.labels, strict=True))[:count]:
        picture = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
        ((pred,),) = segment(net, [picture], [None], config)
        rows.append((picture, label.numpy(), pred))
    return panel(rows, colors)


def panel(rows: Sequence[tuple[Rgb, npt.NDArray[np.integer], npt.NDArray[np.integer]]], colors: Rgb) -> Rgb:
    """Rows of (image (H, W, 3), label (H, W), prediction (H, W)), all of one size, as one picture.

    Where the label is ignored the prediction is drawn all the same: nobody scores it, but one may look.
    """
    return _stack([_row(image, paint(label, colors), paint(pred, colors)) for image, label, pred in rows], axis=0)


def write_jpeg(path: Path, picture: Rgb) -> None:
    """Write a picture, (H, W, 3) uint8 RGB, whole or not at all.

    Raises:
        DataError: the file cannot be written.
    """
    done, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    part = path.with_name(path.name + ".part")
    try:
        if not done:
            raise OSError("not encoded")
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data.tobytes())
        part.replace(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error}); check the folder and free space") from error


def _row(*pictures: Rgb) -> Rgb:
    factor = min(1.0, WIDEST / pictures[0].shape[1])
    if factor < 1:
        pictures = tuple(cv2.resize(p, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA) for p in pictures)  # type: ignore[misc]
    return _stack(pictures, axis=1)


def _stack(pictures: Sequence[Rgb], *, axis: int) -> Rgb:
    """Side by side with a white gap between."""
    shape = list(pictures[0].shape)
    shape[axis] = GAP
    gap = np.full(shape, 255, np.uint8)
    parts = [part for picture in pictures for part in (gap, picture)][1:]
    return np.concatenate(parts, axis=axis)
