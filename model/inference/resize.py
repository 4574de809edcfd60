"""Resizing as the procedures of inference have it: bilinear with half-pixel centres, no smoothing (OpenCV's)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.nn.functional import interpolate

from segstream.model.networks.upsample import taps

ROW_BYTES = 8 << 20  # of scores at full size at a time, on a CPU: they fit its cache


def resize_short_side(image: npt.NDArray[Any], short_side: int) -> npt.NDArray[np.float32]:
    """Resize to a shorter side of `short_side`, the other rounded, bilinear; (H, W, 3) of 0..255 as float32."""
    height, width = image.shape[:2]
    target_h, target_w = short_side, short_side
    if height > width:
        target_h = round(short_side / width * height)
    else:
        target_w = round(short_side / height * width)
    pixels = image.astype(np.float32)
    if (target_h, target_w) != (height, width):
        pixels = cv2.resize(pixels, (target_w, target_h), interpolation=cv2.INTER_LINEAR).astype(np.float32, copy=False)
    return pixels


def resized(scores: Tensor, size_hw: Sequence[int]) -> Tensor:
    """(K, h, w) -> (K, H, W); the same tensor where nothing changes."""
    if tuple(scores.shape[1:]) == tuple(size_hw):
        return scores
    return interpolate(scores[None], size=tuple(size_hw), mode="bilinear", align_corners=False)[0]


def resized_rows(scores: Tensor, size_hw: Sequence[int], rows: slice) -> Tensor:
    """Some rows of `resized`, (K, rows, W)."""
    if tuple(scores.shape[1:]) == tuple(size_hw):
        return scores[:, rows]
    above, share = (t[rows].to(scores.device) for t in taps(scores.shape[1], size_hw[0], align_corners=False))
    below = (above + 1).clamp(max=scores.shape[1] - 1)
    mixed = scores[:, above].lerp(scores[:, below], share.to(scores.dtype)[None, :, None])
    return interpolate(mixed, size=size_hw[1], mode="linear", align_corners=False)


def strips(scores: Tensor, size_hw: Sequence[int]) -> list[slice]:
    """Rows of the result to make at a time."""
    rows = max(1, ROW_BYTES // (4 * len(scores) * size_hw[1])) if scores.device.type == "cpu" else size_hw[0]
    return [slice(top, min(top + rows, size_hw[0])) for top in range(0, size_hw[0], rows)]
