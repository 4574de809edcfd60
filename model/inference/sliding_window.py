"""The window procedure of MSeg at one scale: overlapping windows and their mirror images, softmax averaged."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from segstream.model.config import InferConfig
from segstream.model.device import MEAN_RGB, normalise
from segstream.model.inference.resize import resize_short_side
from segstream.model.networks.upsample import Strip, Upsampling, rows_first, shifted, upsampling
from segstream.model.types import Coarse

OVERLAP = 3  # windows advance by 2/3 of their side


def at_scale(
    net: nn.Module,
    images: Sequence[npt.NDArray[np.uint8]],
    matrices: Sequence[Tensor | None],
    config: InferConfig,
    scale: float,
) -> list[list[Tensor]]:
    """Average windows and mirror images, mapped to the classes asked for.

    Args:
        images: (H, W, 3) RGB, all of one size.
        matrices: (K', K) on the network's device; None keeps the network's classes.

    Returns:
        For each image and matrix (K', h, w) float32, at the size of the image at this scale.
    """
    crop = config.crop
    size_hw = (images[0].shape[0], images[0].shape[1])
    scaled = [resize_short_side(image, _short_side(size_hw, config, scale)) for image in images]
    (height, width), (pad_h, pad_w) = scaled[0].shape[:2], (max(crop - side, 0) for side in scaled[0].shape[:2])
    top, left = pad_h // 2, pad_w // 2
    border = (top, pad_h - top, left, pad_w - left)
    pixels = normalised([_padded(image, border) for image in scaled], next(net.parameters()).device)
    ys, xs = window_starts(height + pad_h, crop), window_starts(width + pad_w, crop)
    sums = _summed(net, pixels, [(n, y, x) for n in range(len(images)) for y in ys for x in xs], matrices, config)
    if len(ys) * len(xs) > 1:
        visits = torch.outer(_visits(ys, crop), _visits(xs, crop)).to(pixels.device)
        sums = [total.div_(visits) for total in sums]
    return [[total[n, :, top : top + height, left : left + width] for total in sums] for n in range(len(images))]


def window_starts(size: int, crop: int) -> list[int]:
    """Where windows of `crop` start along an axis of `size` >= crop: steps of two thirds, the last moved inside."""
    stride = math.ceil(crop * 2 / OVERLAP)
    return [min(i * stride, size - crop) for i in range(math.ceil((size - crop) / stride) + 1)]


def num_windows(size_hw: tuple[int, int], config: InferConfig, scale: float) -> int:
    """How many windows an image of a size is cut into at a scale."""
    short = _short_side(size_hw, config, scale)
    long = round(short / min(size_hw) * max(size_hw))
    return math.prod(len(window_starts(max(side, config.crop), config.crop)) for side in (short, long))


def normalised(images: Sequence[npt.NDArray[np.float32]], device: torch.device) -> Tensor:
    """(H, W, 3) RGB of 0..255 -> what networks take, (N, 3, H, W) on the device."""
    return normalise(torch.from_numpy(np.stack(images)).to(device).permute(0, 3, 1, 2))


def _summed(
    net: nn.Module,
    pixels: Tensor,
    corners: Sequence[tuple[int, int, int]],
    matrices: Sequence[Tensor | None],
    config: InferConfig,
) -> list[Tensor]:
    """Per matrix (N, K', H, W): the scores of all windows (image, top, left), added where they lie."""
    crop = config.crop
    sums: list[Tensor] = []
    for start in range(0, len(corners), config.batch):
        group = corners[start : start + config.batch]
        windows = torch.stack([pixels[n, :, y : y + crop, x : x + crop] for n, y, x in group])
        low = _logits(net, torch.cat([windows, windows.flip(3)]) if config.flip else windows)
        num_classes = low.shape[1]
        low, bounded = shifted(low)
        plan = upsampling((low.shape[2], low.shape[3]), (crop, crop), num_classes, pixels.device)
        if not sums:
            sizes = (num_classes if m is None else len(m) for m in matrices)
            sums = [pixels.new_zeros(len(pixels), size, *pixels.shape[2:]) for size in sizes]
        for i, (n, y, x) in enumerate(group):
            views = [rows_first(view) for view in low[i :: len(group)]]
            for strip in plan.strips:
                p_rKW = _probabilities(views, plan, strip, bounded=bounded)
                for total, matrix in zip(sums, matrices, strict=True):
                    scores = p_rKW if matrix is None else matrix @ p_rKW
                    total[n, :, y : y + crop, x : x + crop][:, strip.high] += scores.permute(1, 0, 2)
    return sums


def _logits(net: nn.Module, windows: Tensor) -> Tensor:
    """At the network's own resolution where it offers that, otherwise at the windows'."""
    logits: Tensor = net.coarse(windows).logits if isinstance(net, Coarse) else net(windows)
    return logits


def _probabilities(views: Sequence[Tensor], plan: Upsampling, strip: Strip, *, bounded: bool) -> Tensor:
    """Softmax of a strip of a window, (r, K, W), averaged with that of its mirror image if there are two views."""
    mean: Tensor | None = None
    for view, across in zip(views, (plan.across, plan.across.flip(0)), strict=False):
        p_rKW = plan.rows(view, strip, across)
        if not bounded:
            p_rKW -= p_rKW.amax(dim=1, keepdim=True)
        share = p_rKW.exp_().sum(dim=1, keepdim=True).mul_(len(views)).reciprocal_()
        mean = p_rKW.mul_(share) if mean is None else mean.addcmul_(p_rKW, share)
    assert mean is not None
    return mean


def _short_side(size_hw: tuple[int, int], config: InferConfig, scale: float) -> int:
    return round(scale * (config.short_side or min(size_hw)))


def _padded(image: npt.NDArray[np.float32], border: tuple[int, int, int, int]) -> npt.NDArray[np.float32]:
    """With ImageNet's mean colour around it."""
    if not any(border):
        return image
    return cv2.copyMakeBorder(image, *border, cv2.BORDER_CONSTANT, value=MEAN_RGB).astype(np.float32, copy=False)


def _visits(starts: Sequence[int], crop: int) -> Tensor:
    """How many windows cover each position of an axis, float32."""
    counts = torch.zeros(starts[-1] + crop)
    for start in starts:
        counts[start : start + crop] += 1
    return counts
