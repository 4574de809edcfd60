"""The CPU engine: one warp for the image, one for the label, nothing computed that the crop does not show."""

from __future__ import annotations

from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.geometry import FILL_RGB, Draw, source_box
from shards.taxonomy import IGNORE_INDEX

BLUR_PX = 5  # side of the Gaussian's kernel; OpenCV derives its sigma, 1.1
REACH_PX = BLUR_PX // 2


def augment(
    image_HW3: npt.NDArray[np.uint8], label_HW: npt.NDArray[Any], draw: Draw, *, first_row: int = 0
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[Any]]:
    """Apply a draw to one sample.

    Bilinear without antialiasing for the image, nearest pixel centre for the label; where the crop shows nothing of
    the image, `FILL_RGB` and 255. The blur sees what lies around the crop, as if it came before the crop.

    Args:
        image_HW3: RGB, of the size the draw was made for.
        label_HW: ids, uint8 or int16, of the same size.
        first_row: of the stored image, with which `image_HW3` begins; it may lack rows that `rows_touched` leaves out.

    Returns:
        The crop, (h, w, 3) uint8, and its label, (h, w) of the label's dtype.
    """
    top, left, bottom, right = draw.valid
    first_y, first_x, *_ = part = _seen(draw)
    crop = _warp_image(image_HW3, draw, part, first_row)
    if draw.blur:
        crop = cv2.GaussianBlur(crop, (BLUR_PX, BLUR_PX), 0)
        crop = crop[top - first_y : bottom - first_y, left - first_x : right - first_x]
    if draw.valid != (0, 0, *draw.crop_hw):
        crop = cv2.copyMakeBorder(crop, *_pads(draw), cv2.BORDER_CONSTANT, value=FILL_RGB)
    return cast("npt.NDArray[np.uint8]", crop), crop_label(label_HW, draw)


def crop_label(label_HW: npt.NDArray[Any], draw: Draw) -> npt.NDArray[Any]:
    """The label's part of `augment`: (h, w)."""
    label = _warp(label_HW, draw, draw.valid, (0, 0), cv2.INTER_NEAREST, (IGNORE_INDEX,))
    if draw.valid != (0, 0, *draw.crop_hw):
        label = cv2.copyMakeBorder(label, *_pads(draw), cv2.BORDER_CONSTANT, value=(IGNORE_INDEX,))
    return label


def rows_touched(draw: Draw) -> tuple[int, int]:
    """First row of the stored image and label that the crop takes anything from, and the one after the last."""
    top, _, bottom, _ = source_box(draw, _seen(draw))
    return top, bottom


def _pads(draw: Draw) -> tuple[int, int, int, int]:
    """(top, bottom, left, right): pixels of the crop around what it shows of the image."""
    top, left, bottom, right = draw.valid
    return top, draw.crop_hw[0] - bottom, left, draw.crop_hw[1] - right


def _seen(draw: Draw) -> tuple[int, int, int, int]:
    """(top, left, bottom, right) in crop pixels: what the crop shows of the canvas, and what the blur sees around."""
    top, left, bottom, right = draw.valid
    around = REACH_PX if draw.blur else 0
    first_y, last_y = _grown(top, bottom, draw.corner_px[0], draw.canvas_hw[0], around)
    first_x, last_x = _grown(left, right, draw.corner_px[1], draw.canvas_hw[1], around)
    return first_y, first_x, last_y, last_x


def _grown(low: int, high: int, corner: int, side: int, by: int) -> tuple[int, int]:
    """A range of crop pixels, extended both ways by `by` but not beyond the canvas."""
    return max(low - by, -corner), min(high + by, side - corner)


def _warp_image(
    image_HW3: npt.NDArray[np.uint8], draw: Draw, part: tuple[int, int, int, int], first_row: int
) -> npt.NDArray[Any]:
    # OpenCV warps four channels twice as fast as three: only those can fill its vector registers.
    top, left, bottom, right = source_box(draw, part)
    rgba_HW4 = cv2.cvtColor(image_HW3[top - first_row : bottom - first_row, left:right], cv2.COLOR_RGB2RGBA)
    return cv2.cvtColor(_warp(rgba_HW4, draw, part, (top, left), cv2.INTER_LINEAR, (*FILL_RGB, 0)), cv2.COLOR_RGBA2RGB)


def _warp(
    source: npt.NDArray[Any],
    draw: Draw,
    part: tuple[int, int, int, int],
    origin: tuple[int, int],
    interpolation: int,
    fill: tuple[int, ...],
) -> npt.NDArray[Any]:
    """Part (top, left, bottom, right) of the crop, from a source whose first pixel is `origin` of the stored one."""
    top, left, bottom, right = part
    matrix = np.array(draw.matrix, np.float64)
    matrix[:, 2] += matrix[:, :2] @ (left, top)
    matrix[:, 2] -= origin[::-1]
    # Inside the canvas only rotation brings in outside pixels; a plain resize repeats its edge pixels.
    border = cv2.BORDER_CONSTANT if draw.angle_deg else cv2.BORDER_REPLICATE
    flags = interpolation | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(
        source, matrix, (right - left, bottom - top), flags=flags, borderMode=border, borderValue=fill
    )
