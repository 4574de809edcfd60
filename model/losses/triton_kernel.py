"""Bilinear upsampling, log-softmax and cross-entropy in one kernel, and its gradient in another, for CUDA.

Nothing of classes x H x W is ever stored: forward keeps one number per pixel (the logarithm of the softmax' sum), and
backward computes each pixel's probabilities again from it. Backward gathers: each cell of the logits visits the pixels
that were interpolated from it, so no two programs write to one place and the result is the same every time.

Imported only where it is used; needs the `triton` that comes with torch for CUDA.
"""

from functools import lru_cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from segstream.model.networks.upsample import taps

TILE_K, TILE_X = 32, 64  # classes and columns that a program holds at a time


@triton.jit
def _upsampled(row0, row1, share_y, left, right, share_x, mask):  # type: ignore[no-untyped-def]
    """Interpolated logits of a tile; row0 and row1 point at (classes, 1) of two rows, the rest is per column."""
    top = tl.load(row0 + left, mask, 0.0).to(tl.float32) * (1 - share_x)
    top += tl.load(row0 + right, mask, 0.0).to(tl.float32) * share_x
    low = tl.load(row1 + left, mask, 0.0).to(tl.float32) * (1 - share_x)
    low += tl.load(row1 + right, mask, 0.0).to(tl.float32) * share_x
    return top * (1 - share_y) + low * share_y


@triton.jit  # type: ignore[untyped-decorator]
def _forward(  # type: ignore[no-untyped-def]
    logits, labels, weights, left_y, share_y, left_x, share_x, log_sums, losses,
    num_classes, low_h, low_w, high_h, high_w, step_b, step_k, step_y, step_x,
    TILE_K: tl.constexpr, TILE_X: tl.constexpr,
):  # fmt: skip
    """One strip of columns of one row of one image: log of the softmax' sum by pixel, and the strip's loss."""
    strip, y, b = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    x = strip * TILE_X + tl.arange(0, TILE_X)
    inside = x < high_w
    pixel = (b * high_h + y) * high_w + x
    target = tl.load(labels + pixel, inside, 0).to(tl.int32)
    weight = tl.load(weights + pixel, inside, 0.0)
    y0, part_y = tl.load(left_y + y), tl.load(share_y + y)
    y1 = tl.minimum(y0 + 1, low_h - 1)
    x0, part_x = tl.load(left_x + x, inside, 0), tl.load(share_x + x, inside, 0.0)
    x1 = tl.minimum(x0 + 1, low_w - 1)

    largest = tl.full((TILE_X,), float("-inf"), tl.float32)
    total = tl.zeros((TILE_X,), tl.float32)
    picked = tl.zeros((TILE_X,), tl.float32)
    for first in range(0, num_classes, TILE_K):
        k = first + tl.arange(0, TILE_K)
        mask = (k < num_classes)[:, None] & inside[None, :]
        at = logits + b * step_b + (k * step_k)[:, None]
        left, right = (x0 * step_x)[None, :], (x1 * step_x)[None, :]
        z = _upsampled(at + y0 * step_y, at + y1 * step_y, part_y, left, right, part_x[None, :], mask)
        z = tl.where((k < num_classes)[:, None], z, float("-inf"))
        higher = tl.maximum(largest, tl.max(z, 0))
        total = total * tl.exp(largest - higher) + tl.sum(tl.exp(z - higher[None, :]), 0)
        picked += tl.sum(tl.where(k[:, None] == target[None, :], z, 0.0), 0)
        largest = higher
    log_sum = largest + tl.log(total)
    tl.store(log_sums + pixel, log_sum, inside)
    loss = tl.sum(tl.where(inside & (weight != 0), (log_sum - picked) * weight, 0.0), 0)
    tl.store(losses + (b * high_h + y) * tl.num_programs(0) + strip, loss)


@triton.jit  # type: ignore[untyped-decorator]
def _backward(  # type: ignore[no-untyped-def]
    logits, labels, weights, left_y, share_y, left_x, share_x, log_sums, first_y, last_y, first_x, last_x, scale, grad,
    num_classes, low_h, low_w, high_h, high_w, widest, step_b, step_k, step_y, step_x, out_b, out_k, out_y, out_x,
    TILE_K: tl.constexpr, TILE_X: tl.constexpr,
):  # fmt: skip
    """A tile of classes and columns of one row of the logits' gradient."""
    num_tiles = tl.cdiv(low_w, TILE_X)
    tile, i, b = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    k = (tile // num_tiles) * TILE_K + tl.arange(0, TILE_K)
    j = (tile % num_tiles) * TILE_X + tl.arange(0, TILE_X)
    inside = j < low_w
    from_x, to_x = tl.load(first_x + j, inside, 0), tl.load(last_x + j, inside, 0)
    at = logits + b * step_b + (k * step_k)[:, None]
    sums = tl.zeros((TILE_K, TILE_X), tl.float32)
    for y in range(tl.load(first_y + i), tl.load(last_y + i)):
        y0, part_y = tl.load(left_y + y), tl.load(share_y + y)
        y1 = tl.minimum(y0 + 1, low_h - 1)
        share_i = tl.where(y0 == i, 1 - part_y, 0.0) + tl.where(y1 == i, part_y, 0.0)
        for dx in range(0, widest):
            x = from_x + dx
            seen = inside & (x < to_x)
            pixel = (b * high_h + y) * high_w + x
            target = tl.load(labels + pixel, seen, 0).to(tl.int32)
            weight = tl.load(weights + pixel, seen, 0.0)
            log_sum = tl.load(log_sums + pixel, seen, 0.0)
            x0, part_x = tl.load(left_x + x, seen, 0), tl.load(share_x + x, seen, 0.0)
            x1 = tl.minimum(x0 + 1, low_w - 1)
            share_j = tl.where(x0 == j, 1 - part_x, 0.0) + tl.where(x1 == j, part_x, 0.0)
            mask = (k < num_classes)[:, None] & (seen & (weight != 0))[None, :]
            left, right = (x0 * step_x)[None, :], (x1 * step_x)[None, :]
            z = _upsampled(at + y0 * step_y, at + y1 * step_y, part_y, left, right, part_x[None, :], mask)
            slope = tl.exp(z - log_sum[None, :]) - tl.where(k[:, None] == target[None, :], 1.0, 0.0)
            sums += tl.where(mask, slope * (share_i * share_j * weight)[None, :], 0.0)
    out = grad + b * out_b + (k * out_k)[:, None] + i * out_y + (j * out_x)[None, :]
    tl.store(out, sums * tl.load(scale + b), (k < num_classes)[:, None] & inside[None, :])


def fused_pixel_losses(
    logits: Tensor, labels: Tensor, weights: Tensor, size_hw: tuple[int, int], *, align_corners: bool = True
) -> Tensor:
    """What `model.losses.pixel_loss.pixel_losses` computes.

    Args:
        logits: (B, K, h, w) float32, bfloat16 or float16, in any memory layout.
        labels: (B, H, W) integer ids below K, any value where the weight is 0.
        weights: (B, H, W) float32, what each pixel counts.
        size_hw: (H, W).
        align_corners: of the upsampling.

    Returns:
        (B,) float32, differentiable once by the logits.
    """
    sums: Tensor = _Fused.apply(logits, labels, weights, size_hw, align_corners)  # type: ignore[no-untyped-call]
    return sums


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, labels: Tensor, weights: Tensor, size_hw: tuple[int, int], align_corners: bool
    ) -> Tensor:
        num, num_classes, low_h, low_w = logits.shape
        labels, weights = labels.contiguous(), weights.contiguous()
        axis_y, axis_x = (
            _axis(low, high, align_corners, logits.device) for low, high in zip((low_h, low_w), size_hw, strict=True)
        )
        log_sums = torch.empty(num, *size_hw, dtype=torch.float32, device=logits.device)
        strips = triton.cdiv(size_hw[1], TILE_X)
        losses = torch.empty(num, size_hw[0] * strips, dtype=torch.float32, device=logits.device)
        _forward[(strips, size_hw[0], num)](
            logits, labels, weights, *axis_y[:2], *axis_x[:2], log_sums, losses,
            num_classes, low_h, low_w, *size_hw, *logits.stride(), TILE_K=TILE_K, TILE_X=TILE_X,
        )  # fmt: skip
        ctx.save_for_backward(logits, labels, weights, log_sums)
        ctx.axes = axis_y, axis_x
        return losses.sum(dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_sums: Tensor) -> tuple[Tensor | None, ...]:
        logits, labels, weights, log_sums = ctx.saved_tensors
        (left_y, share_y, first_y, last_y, _), (left_x, share_x, first_x, last_x, widest) = ctx.axes
        num, num_classes, low_h, low_w = logits.shape
        grad = torch.empty_like(logits, dtype=torch.float32)
        tiles = triton.cdiv(num_classes, TILE_K) * triton.cdiv(low_w, TILE_X)
        _backward[(tiles, low_h, num)](
            logits, labels, weights, left_y, share_y, left_x, share_x, log_sums, first_y, last_y, first_x, last_x,
            grad_sums.contiguous(), grad, num_classes, low_h, low_w, *labels.shape[1:], widest,
            *logits.stride(), *grad.stride(), TILE_K=TILE_K, TILE_X=TILE_X,
        )  # fmt: skip
        return grad.to(logits.dtype), None, None, None, None


@lru_cache(maxsize=64)
def _axis(low: int, high: int, align_corners: bool, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor, int]:
    """How positions of logits and outputs belong together along an axis.

    Returns:
        By output, (high,), its left neighbour (int32) and the right neighbour's share (float32); by position, (low,)
        int32, the first output that it enters and one after the last; and the most outputs that one enters.
    """
    left, share = taps(low, high, align_corners=align_corners)
    position = torch.arange(low)
    first, last = torch.searchsorted(left, position - 1), torch.searchsorted(left, position, right=True)
    left, first_, last_ = (index.to(device, torch.int32) for index in (left, first, last))
    return left, share.to(device, torch.float32), first_, last_, int((last - first).max())
