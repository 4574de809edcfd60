"""The CPU engine: one warp for the image, one for the label, nothing computed that the crop does not show."""

import math
from operator import mul
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from segstream.pipeline.decode import Scratch
from segstream.pipeline.geometry import Box, Draw, source_box
from segstream.shards.taxonomy import IGNORE_INDEX

MEAN_STEP = 4  # rows: the mean colour of each fourth is near enough to that of all, and takes a third of the time
BLUR_PX = 5  # side of the rule's Gaussian; OpenCV derives its sigma, 1.1


def crop_image(
    image: npt.NDArray[np.uint8],
    draw: Draw,
    out_HW3: npt.NDArray[np.uint8],
    scratch: Scratch,
    *,
    at: tuple[int, int] = (0, 0),
) -> None:
    """Apply a draw to an image: bilinear without antialiasing, `fill_rgb` where the crop shows nothing of it.

    The blur sees what lies around the crop, as if it came before the crop; the jitter comes last, and leaves padding.

    Args:
        image: (H, W, 3) RGB, or (H, W, 4) with anything fourth, of the size the draw was made for; or of that a part
            which holds the pixels of `box_touched`.
        out_HW3: where the crop goes, (h, w, 3).
        at: (y, x) in the stored image of the part's first pixel.
    """
    seen, (top, left, bottom, right) = seen_by(draw), draw.valid
    warped = _warp_image(image, draw, seen, at, scratch)
    rgb = (*warped.shape[:2], 3)
    whole = draw.valid == (0, 0, *draw.crop_hw)
    if draw.blur:
        sharp = cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB, dst=scratch.take("sharp", rgb))
        side_px, sigma = blur_kernel(draw)
        crop = cv2.GaussianBlur(sharp, (side_px, side_px), sigma, dst=scratch.take("blurred", rgb))
        crop = crop[top - seen[0] : bottom - seen[0], left - seen[1] : right - seen[1]]
    else:
        last = whole and draw.jitter is None
        crop = cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB, dst=out_HW3 if last else scratch.take("sharp", rgb))
    if draw.jitter is not None:
        of_pixel, of_mean = draw.jitter.linear
        added = sum(map(mul, of_mean, cv2.mean(crop[::MEAN_STEP])))
        affine = np.array([(*row, added) for row in of_pixel])
        crop = cv2.transform(crop, affine, dst=out_HW3 if whole else scratch.take("jittered", crop.shape))
    if not whole:
        crop = cv2.copyMakeBorder(crop, *_pads(draw), cv2.BORDER_CONSTANT, value=draw.fill_rgb, dst=out_HW3)
    _settle(crop, out_HW3)


def crop_label(label_HW: npt.NDArray[Any], draw: Draw, out_HW: npt.NDArray[Any], *, first_row: int = 0) -> None:
    """Apply a draw to a label: nearest pixel centre, 255 where the crop shows nothing of it.

    Args:
        label_HW: ids, uint8 or int16, of the size the draw was made for; it may lack rows outside `box_touched`.
        out_HW: where the crop goes, (h, w) of the label's dtype.
        first_row: the stored label's row with which `label_HW` begins.
    """
    top, _, bottom, _ = source_box(draw, draw.valid)
    rows = label_HW[top - first_row : bottom - first_row]
    padded = draw.valid != (0, 0, *draw.crop_hw)
    # No pixel centre of the canvas lies beyond the outermost pixels of the image, so the border is rotation's alone.
    border = cv2.BORDER_CONSTANT, (IGNORE_INDEX,)
    label = _warp(rows, draw, draw.valid, (top, 0), cv2.INTER_NEAREST, border, None if padded else out_HW)
    if padded:
        label = cv2.copyMakeBorder(label, *_pads(draw), cv2.BORDER_CONSTANT, value=(IGNORE_INDEX,), dst=out_HW)
    _settle(label, out_HW)


def box_touched(draw: Draw) -> Box:
    """(top, left, bottom, right) of the stored image and label that the crop takes anything from, ends exclusive."""
    return source_box(draw, seen_by(draw))


def blur_kernel(draw: Draw) -> tuple[int, float]:
    """Side of the Gaussian's kernel in pixels and its sigma, 0 for that which OpenCV derives from the side.

    A kernel that reaches 3 sigma or more to each side: beyond lies less than 0.2 % of its weight for the sigmas up to 2
    that are in use, under half a grey level between black and white.
    """
    return (BLUR_PX, 0.0) if draw.blur_sigma is None else (2 * math.ceil(3 * draw.blur_sigma) + 1, draw.blur_sigma)


def _settle(made: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
    """OpenCV writes to `dst` where it can."""
    if made is not out:
        out[...] = made


def _pads(draw: Draw) -> Box:
    """(top, bottom, left, right): pixels of the crop around what it shows of the image."""
    top, left, bottom, right = draw.valid
    return top, draw.crop_hw[0] - bottom, left, draw.crop_hw[1] - right


def seen_by(draw: Draw) -> Box:
    """(top, left, bottom, right) in crop pixels: what the crop shows of the canvas, and what the blur sees around."""
    top, left, bottom, right = draw.valid
    (y, x), (height, width) = draw.corner_px, draw.canvas_hw
    around = blur_kernel(draw)[0] // 2 if draw.blur else 0
    last_y, last_x = min(bottom + around, height - y), min(right + around, width - x)
    return max(top - around, -y), max(left - around, -x), last_y, last_x


def _warp_image(
    image: npt.NDArray[np.uint8], draw: Draw, part: Box, at: tuple[int, int], scratch: Scratch
) -> npt.NDArray[Any]:
    """(h, w, 4): part of the crop."""
    # Always the same box, whatever more there is: OpenCV rounds by place.
    top, left, bottom, right = source_box(draw, part)
    source = image[top - at[0] : bottom - at[0], left - at[1] : right - at[1]]
    if source.shape[2] == 3:  # OpenCV warps four channels twice as fast: only those can fill its vector registers
        source = cv2.cvtColor(source, cv2.COLOR_RGB2RGBA)  # type: ignore[assignment]
    fill = cv2.BORDER_CONSTANT, (*draw.fill_rgb, 0)
    out = scratch.take("warped", (part[2] - part[0], part[3] - part[1], 4))
    warped = _warp(source, draw, part, (top, left), cv2.INTER_LINEAR, fill, out)
    # Inside the canvas only rotation brings in outside pixels; a plain resize repeats its edge pixels. Only those of
    # the crop are made so, for such a border takes OpenCV twice the time.
    for strip in [] if draw.angle_deg else _beyond(draw, part):
        first_y, first_x, last_y, last_x = strip
        repeat = cv2.BORDER_REPLICATE, ()
        warped[first_y - part[0] : last_y - part[0], first_x - part[1] : last_x - part[1]] = _warp(
            source, draw, strip, (top, left), cv2.INTER_LINEAR, repeat
        )
    return warped


def _beyond(draw: Draw, part: Box) -> list[Box]:
    """What of a part, not rotated, lies between the outermost pixel centres of the image and its edges."""
    top, left, bottom, right = part
    (x_step, _, x_origin), (_, y_step, y_origin) = draw.matrix
    height, width = draw.source_hw
    y0, y1 = _within(y_step, y_origin, height - 1, top, bottom)
    x0, x1 = _within(x_step, x_origin, width - 1, left, right)
    strips = [(top, left, y0, right), (y1, left, bottom, right), (y0, left, y1, x0), (y0, x1, y1, right)]
    return [strip for strip in strips if strip[0] < strip[2] and strip[1] < strip[3]]


def _within(step: float, origin: float, last: int, low: int, high: int) -> tuple[int, int]:
    """The range of i in [low, high) for which 0 <= step * i + origin <= last."""
    one, other = sorted((-origin / step, (last - origin) / step))
    first = min(max(math.ceil(one), low), high)
    return first, max(min(math.floor(other) + 1, high), first)


def _warp(
    source: npt.NDArray[Any],
    draw: Draw,
    part: Box,
    origin: tuple[int, int],
    interpolation: int,
    border: tuple[int, tuple[int, ...]],
    out: npt.NDArray[Any] | None = None,
) -> npt.NDArray[Any]:
    """Part (top, left, bottom, right) of the crop, from a source whose first pixel is `origin` of the stored one."""
    top, left, bottom, right = part
    rows = zip(draw.matrix, reversed(origin), strict=True)
    matrix = np.array([(x, y, x * left + y * top + offset - first) for (x, y, offset), first in rows])
    size_wh, flags = (right - left, bottom - top), interpolation | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(source, matrix, size_wh, dst=out, flags=flags, borderMode=border[0], borderValue=border[1])
