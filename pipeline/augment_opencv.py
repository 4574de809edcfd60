"""The CPU engine: one warp for the image, one for the label, nothing computed that the crop does not show."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.geometry import FILL_RGB, Draw
from shards.taxonomy import IGNORE_INDEX

BLUR_PX = 5  # side of the Gaussian's kernel; OpenCV derives its sigma, 1.1
REACH_PX = BLUR_PX // 2


def augment(
    image_HW3: npt.NDArray[np.uint8], label_HW: npt.NDArray[Any], draw: Draw
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[Any]]:
    """Apply a draw to one sample.

    Bilinear without antialiasing for the image, nearest pixel centre for the label; where the crop shows nothing of
    the image, `FILL_RGB` and 255. The blur sees what lies around the crop, as if it came before the crop.

    Args:
        image_HW3: RGB, of the size the draw was made for.
        label_HW: ids, uint8 or int16, of the same size.

    Returns:
        The crop, (h, w, 3) uint8, and its label, (h, w) of the label's dtype.
    """
    top, left, bottom, right = draw.valid
    around = REACH_PX if draw.blur else 0
    rows = _grown(top, bottom, draw.corner_px[0], draw.canvas_hw[0], around)
    columns = _grown(left, right, draw.corner_px[1], draw.canvas_hw[1], around)
    seen = _warp(image_HW3, draw, rows, columns, cv2.INTER_LINEAR, FILL_RGB)
    if draw.blur:
        seen = cv2.GaussianBlur(seen, (BLUR_PX, BLUR_PX), 0)
        seen = seen[top - rows[0] : bottom - rows[0], left - columns[0] : right - columns[0]]
    label = _warp(label_HW, draw, (top, bottom), (left, right), cv2.INTER_NEAREST, (IGNORE_INDEX,))
    if draw.valid == (0, 0, *draw.crop_hw):
        return seen, label
    crop = np.empty((*draw.crop_hw, 3), np.uint8)
    crop[:] = FILL_RGB
    crop[top:bottom, left:right] = seen
    labels = np.full(draw.crop_hw, IGNORE_INDEX, label_HW.dtype)
    labels[top:bottom, left:right] = label
    return crop, labels


def _grown(low: int, high: int, corner: int, side: int, by: int) -> tuple[int, int]:
    """A range of crop pixels, extended both ways by `by` but not beyond the canvas."""
    return max(low - by, -corner), min(high + by, side - corner)


def _warp(
    source: npt.NDArray[Any],
    draw: Draw,
    rows: tuple[int, int],
    columns: tuple[int, int],
    interpolation: int,
    fill: tuple[int, ...],
) -> npt.NDArray[Any]:
    matrix = np.array(draw.matrix, np.float64)
    matrix[:, 2] += matrix[:, :2] @ (columns[0], rows[0])
    # Inside the canvas only rotation brings in outside pixels; a plain resize repeats its edge pixels.
    border = cv2.BORDER_CONSTANT if draw.angle_deg else cv2.BORDER_REPLICATE
    size_wh = (columns[1] - columns[0], rows[1] - rows[0])
    flags = interpolation | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(source, matrix, size_wh, flags=flags, borderMode=border, borderValue=fill)
