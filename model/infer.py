"""One image of any size to class probabilities at its own size.

Per scale: resize, pad, cut into overlapping windows, average each window's softmax with that of its mirror image, map
to the classes asked for, average windows where they overlap, take the padding away, resize to the image. Then average
the scales. Mapping to other classes is linear, so it comes after softmax and before argmax, and the order of the
averages does not matter to it.
Source: the inference procedure of MSeg (Lambert et al., CVPR 2020).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from model.config import InferConfig
from model.image import MEAN_RGB, normalise
from model.types import Coarse
from model.upsample import Strip, Upsampling, rows_first, shifted, upsampling

OVERLAP = 3  # windows advance by 2/3 of their side


def predict(
    net: nn.Module,
    image: npt.NDArray[np.uint8],
    projections: Sequence[npt.NDArray[np.float32] | None],
    config: InferConfig,
) -> list[Tensor]:
    """Class scores of one image, in several taxonomies from the same forward passes.

    Args:
        net: in eval mode; maps normalised images (B, 3, H, W) to logits (B, K, H, W). One that is `model.types.Coarse`
            is stopped before it upsamples, which gives the same scores sooner.
        image: (H, W, 3) RGB.
        projections: for each result a (K', K) matrix from the network's classes to the result's, or None to keep them.
        config: windows, scales, flip. The device is the network's.

    Returns:
        For each projection (K', H, W) float32 on the network's device: sums of probabilities, in 0..1 for 0/1
        matrices. They sum to 1 over classes only where every class of the network is mapped to one.
    """
    device = next(net.parameters()).device
    matrices = [None if p is None else torch.from_numpy(np.ascontiguousarray(p)).to(device) for p in projections]
    size_hw = image.shape[:2]
    totals: list[Tensor] = []
    with torch.inference_mode():
        for scale in config.scales:
            scaled = resize_short_side(image, round(scale * (config.short_side or min(size_hw))))
            maps = _predict_scaled(net, scaled, matrices, config, device)
            maps = [_resized(scores, size_hw) for scores in maps]
            totals = [a.add_(b) for a, b in zip(totals, maps, strict=True)] if totals else maps
        return [total.div_(len(config.scales)) if len(config.scales) > 1 else total for total in totals]


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


def window_starts(size: int, crop: int) -> list[int]:
    """Where windows of `crop` start along an axis of `size` >= crop: steps of two thirds, the last moved inside."""
    stride = math.ceil(crop * 2 / OVERLAP)
    return [min(i * stride, size - crop) for i in range(math.ceil((size - crop) / stride) + 1)]


def _predict_scaled(
    net: nn.Module,
    image: npt.NDArray[np.float32],
    matrices: Sequence[Tensor | None],
    config: InferConfig,
    device: torch.device,
) -> list[Tensor]:
    """(H, W, 3) -> per matrix (K', H, W): windows and mirror images averaged."""
    crop = config.crop
    (height, width), (pad_h, pad_w) = image.shape[:2], (max(crop - side, 0) for side in image.shape[:2])
    top, left = pad_h // 2, pad_w // 2
    if pad_h or pad_w:
        image = cv2.copyMakeBorder(
            image, top, pad_h - top, left, pad_w - left, cv2.BORDER_CONSTANT, value=MEAN_RGB
        ).astype(np.float32, copy=False)
    pixels = normalise(torch.from_numpy(image).to(device).permute(2, 0, 1)[None])
    corners = [(y, x) for y in window_starts(height + pad_h, crop) for x in window_starts(width + pad_w, crop)]
    visits = pixels.new_zeros(height + pad_h, width + pad_w)
    sums: list[Tensor] = []
    for start in range(0, len(corners), config.batch):
        group = corners[start : start + config.batch]
        windows = torch.cat([pixels[:, :, y : y + crop, x : x + crop] for y, x in group])
        logits = _logits(net, torch.cat([windows, windows.flip(3)]) if config.flip else windows)
        num_classes = logits.shape[1]
        logits, bounded = shifted(logits)
        plan = upsampling((logits.shape[2], logits.shape[3]), (crop, crop), num_classes, device)
        if not sums:
            sums = [visits.new_zeros(num_classes if m is None else len(m), *visits.shape) for m in matrices]
        for i, (y, x) in enumerate(group):
            views = [rows_first(view) for view in logits[i :: len(group)]]
            visits[y : y + crop, x : x + crop] += 1
            for strip in plan.strips:
                p_rKW = _probabilities(views, plan, strip, bounded=bounded)
                for total, matrix in zip(sums, matrices, strict=True):
                    scores = p_rKW if matrix is None else matrix @ p_rKW
                    total[:, y : y + crop, x : x + crop][:, strip.high] += scores.permute(1, 0, 2)
    if len(corners) > 1:
        sums = [total.div_(visits) for total in sums]
    return [total[:, top : top + height, left : left + width] for total in sums]


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


def _resized(scores: Tensor, size_hw: Sequence[int]) -> Tensor:
    """(K, h, w) -> (K, H, W), bilinear with half-pixel centres and no smoothing: what OpenCV's INTER_LINEAR does."""
    if tuple(scores.shape[1:]) == tuple(size_hw):
        return scores
    return interpolate(scores[None], size=tuple(size_hw), mode="bilinear", align_corners=False)[0]
