"""One sample's random geometry, drawn purely and composed into a single affine matrix.

The rule, in its order: resize the shorter side to `short_side`, or the longer one to `long_side`; scale; rotate about
the centre on the same canvas; blur; mirror; crop at a uniform place, padding where the canvas is smaller; jitter the
colours of what the crop shows. All of it but blur and jitter is one affine map, so an engine samples only the crop,
once. Source of the rule: MSeg (Lambert et al., CVPR 2020); jitter, long side and blurs of several widths: hierarchical
multi-scale attention (Tao et al., arXiv 2005.10821).
"""

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from segstream.pipeline import color
from segstream.pipeline.config import FILLS, AugmentConfig

Box = tuple[int, int, int, int]
"""(top, left, bottom, right) in pixels, ends exclusive."""
Affine = tuple[tuple[float, float, float], tuple[float, float, float]]
STREAM = 3  # tells this use of the generator from those of the sample order
UNIFORMS = (
    8 + color.UNIFORMS
)  # a fixed number, each with its own use: setting one probability to 0 leaves the other draws alone


@dataclass(frozen=True, kw_only=True, slots=True)
class Draw:
    """What happens to one sample. Any engine that applies matrix, valid, blur, jitter and fill makes the same crop."""

    scale: float
    """Factor drawn, after the resize to the short or long side."""
    angle_deg: float
    """Counter-clockwise; 0 for a sample that is not rotated."""
    blur: bool
    flip: bool
    source_hw: tuple[int, int]
    """Size of the stored image."""
    canvas_hw: tuple[int, int]
    """Size after resize and scale; rotation keeps it, and what it turns out of the canvas is lost."""
    corner_px: tuple[int, int]
    """(y, x) of the crop's first pixel on the canvas; negative where the crop begins in padding."""
    crop_hw: tuple[int, int]
    matrix: Affine
    """Crop pixel (x, y, 1) -> source pixel (x, y), at pixel centres; OpenCV's WARP_INVERSE_MAP."""
    valid: Box
    """(top, left, bottom, right) of the crop that lies on the canvas, ends exclusive; the rest is padding."""
    blur_sigma: float | None = None
    """Of the Gaussian if `blur`, in crop pixels; None: the rule's 5 x 5 kernel."""
    jitter: color.ColorJitter | None = None
    """Of all colours in `valid`, also those that rotation turned in; its mean colour is theirs. Padding stays."""
    fill_rgb: tuple[int, int, int] = FILLS["mean"]
    """Outside the canvas, and what rotation turns in."""


def draw(
    config: AugmentConfig,
    *,
    seed: int,
    step: int,
    slot: int,
    size_hw: tuple[int, int],
    anchor_xy: tuple[float, float] | None = None,
) -> Draw:
    """Draw one sample's augmentation; the same arguments give the same draw, on any machine.

    Args:
        seed: of the run, 0 to 2**64 - 1.
        step: global step.
        slot: place in the global batch.
        size_hw: height and width of the stored image, pixels.
        anchor_xy: a place in the stored image, pixels, that the crop holds: at any place of it with equal probability,
            but for the canvas's edges. Where rotation turns it out of the canvas, the nearest place on it.
    """
    scale_u, rotated_u, angle_u, blur_u, flip_u, y_u, x_u, sigma_u, *jitter_u = _uniforms(seed, step, slot)
    scale = _between(config.scale, scale_u)
    angle_deg = _between(config.rotate_deg, angle_u) if rotated_u < config.rotate_p else 0.0
    resized_hw = resized_size(size_hw, config.short_side, config.long_side)
    canvas_hw, crop_hw = canvas_size(resized_hw, scale), config.crop_hw
    cropped_at = functools.partial(
        compose,
        size_hw,
        resized_hw,
        scale=scale,
        angle_deg=angle_deg,
        flip=flip_u < config.flip_p,
        crop_hw=crop_hw,
        blur=blur_u < config.blur_p,
        blur_sigma=config.blur_sigma and _between(config.blur_sigma, sigma_u),
        jitter=color.jitter(config.color_jitter, jitter_u) if config.color_jitter else None,
        fill_rgb=FILLS[config.fill],
    )
    x, y = (None, None) if anchor_xy is None else _crop_place(cropped_at(corner_px=(0, 0)), anchor_xy)
    corner_px = _corner(canvas_hw[0], crop_hw[0], y_u, y), _corner(canvas_hw[1], crop_hw[1], x_u, x)
    return cropped_at(corner_px=corner_px)


def compose(
    size_hw: tuple[int, int],
    resized_hw: tuple[int, int],
    *,
    scale: float,
    angle_deg: float,
    flip: bool,
    corner_px: tuple[int, int],
    crop_hw: tuple[int, int],
    **colours: Any,
) -> Draw:
    """The draw with exactly these parameters, see `Draw`; `colours` are its fields about blur, jitter and fill."""
    canvas_hw = canvas_size(resized_hw, scale)
    (height, width), (top, left) = canvas_hw, corner_px
    # Pixel centres lie at half-integers of the continuous image: x_source + 1/2 = (x_canvas + 1/2) * factor.
    factor_y, factor_x = (source / (resized * scale) for source, resized in zip(size_hw, resized_hw, strict=True))
    matrix = ((factor_x, 0.0, factor_x / 2 - 0.5), (0.0, factor_y, factor_y / 2 - 0.5))
    if angle_deg:
        matrix = _after(matrix, _unrotate(canvas_hw, angle_deg))
    if flip:
        matrix = _after(matrix, ((-1.0, 0.0, width - 1.0), (0.0, 1.0, 0.0)))
    matrix = _after(matrix, ((1.0, 0.0, left), (0.0, 1.0, top)))
    return Draw(
        scale=scale,
        angle_deg=angle_deg,
        flip=flip,
        source_hw=size_hw,
        canvas_hw=canvas_hw,
        corner_px=corner_px,
        crop_hw=crop_hw,
        matrix=matrix,
        valid=(max(0, -top), max(0, -left), min(crop_hw[0], height - top), min(crop_hw[1], width - left)),
        **colours,
    )


def resized_size(size_hw: tuple[int, int], short_side: int | None, long_side: int | None = None) -> tuple[int, int]:
    """(height, width) with the shorter side at `short_side`, or the longer at `long_side`; the other is truncated."""
    side = long_side or short_side
    if side is None:
        return size_hw
    edge = max(size_hw) if long_side else min(size_hw)
    return max(1, size_hw[0] * side // edge), max(1, size_hw[1] * side // edge)


def canvas_size(resized_hw: tuple[int, int], scale: float) -> tuple[int, int]:
    """(height, width) after resize and scale, rounded half to even as OpenCV does."""
    return max(1, round(resized_hw[0] * scale)), max(1, round(resized_hw[1] * scale))


def source_box(drawn: Draw, part: Box) -> Box:
    """The stored pixels that a part of the crop is made of, with the neighbours that bilinear sampling needs.

    Args:
        part: (top, left, bottom, right) in crop pixels, ends exclusive; may reach beyond the crop.

    Returns:
        (top, left, bottom, right) in source pixels, ends exclusive, at least one pixel.
    """
    top, left, bottom, right = part
    spans = []
    for (along_x, along_y, origin), side in zip(drawn.matrix, reversed(drawn.source_hw), strict=True):
        ends = [along_x * x + along_y * y + origin for x in (left, right - 1) for y in (top, bottom - 1)]
        low = min(max(math.floor(min(ends)) - 1, 0), side - 1)
        spans.append((low, max(min(math.ceil(max(ends)) + 2, side), low + 1)))
    (x0, x1), (y0, y1) = spans
    return y0, x0, y1, x1


def _uniforms(seed: int, step: int, slot: int) -> list[float]:
    # The counter is the place in the run; raw words of Philox are fixed by its definition, whatever the numpy version.
    key, counter = np.array([seed, 0], np.uint64), np.array([0, slot, step, STREAM], np.uint64)
    words: list[int] = np.random.Philox(key=key, counter=counter).random_raw(UNIFORMS).tolist()
    return [(word >> 11) * 2.0**-53 for word in words]


def _between(bounds: tuple[float, float], u: float) -> float:
    return bounds[0] + (bounds[1] - bounds[0]) * u


def _corner(side: int, crop: int, u: float, anchor: float | None = None) -> int:
    """Where the crop begins on a canvas side; centred in the padding (odd pixel last) if the crop is."""
    if side < crop:
        return -((crop - side) // 2)
    first, last = 0, side - crop
    if anchor is not None:
        pixel = min(max(round(anchor), 0), side - 1)
        first, last = max(first, pixel - crop + 1), min(last, pixel)
    return first + int(u * (last - first + 1))


def _crop_place(drawn: Draw, source_xy: tuple[float, float]) -> tuple[float, float]:
    """(x, y) in crop pixels of a place in the stored image: `matrix` the other way round."""
    ((a, b, c), (d, e, f)), (x, y) = drawn.matrix, source_xy
    scale = a * e - b * d
    return (e * (x - c) - b * (y - f)) / scale, (a * (y - f) - d * (x - c)) / scale


def _unrotate(canvas_hw: tuple[int, int], angle_deg: float) -> Affine:
    """Rotated canvas pixel -> canvas pixel. The centre is (width/2, height/2) in pixel numbers, as in the rule."""
    x, y = canvas_hw[1] / 2, canvas_hw[0] / 2
    cos, sin = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    return (cos, -sin, x - cos * x + sin * y), (sin, cos, y - sin * x - cos * y)


def _after(last: Affine, first: Affine) -> Affine:
    """The map that does `first`, then `last`. In plain numbers: arrays of this size take ten times as long."""
    (a, b, c), (d, e, f) = first
    (p, q, r), (s, t, u) = last
    return (p * a + q * d, p * b + q * e, p * c + q * f + r), (s * a + t * d, s * b + t * e, s * c + t * f + u)
