"""Cross-entropy over a mix of datasets, from logits at the network's own resolution.

loss = sum over datasets d of w_d * (mean over the labelled pixels of d in the global batch)

where the mean may be weighted by class.

The obvious composition (upsample to the crop, log-softmax, pick) holds three arrays of classes x H x W per image, and
with 194 classes it is most of the step of a small network. `pixel_losses` gives the same values and gradients but
walks over strips of rows that fit the cache. The gradient of a sum over pixels is known as soon as the sum is, so
forward computes both and nothing at full resolution outlives its strip.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from model.types import TrainOutput
from model.upsample import rows_first, shifted, upsampling
from shards.taxonomy import IGNORE_INDEX

RAREST = 1e-4  # a share of pixels; below it a class weighs no more, so that one stray label cannot outshout a batch


@dataclass(frozen=True, slots=True)
class MixLoss:
    """Loss of one step over a mix of D datasets."""

    total: Tensor
    """Scalar to differentiate."""
    means: Tensor
    """(D,) detached mean cross-entropy of each dataset in this process' batch, nan without a labelled pixel."""


def mix_loss(
    output: TrainOutput,
    labels: Tensor,
    dataset_ids: Tensor,
    weights: Sequence[float],
    *,
    class_weights: Tensor | None = None,
    sum_counts: Callable[[Tensor], Tensor] | None = None,
) -> MixLoss:
    """Cross-entropy in which every dataset has its weight, however many pixels of it are labelled.

    A dataset without a labelled pixel contributes zero, so a batch that is ignored entirely has loss 0 and zero
    gradients. With one dataset of weight 1 this is plain cross-entropy with ignored pixels left out of its mean.

    Args:
        output: logits (B, K, h, w) and the size (H, W) of the labels.
        labels: (B, H, W) integer class ids below K, or 255 = ignored.
        dataset_ids: (B,) int64, which of the D datasets each image is of.
        weights: D shares.
        class_weights: (K,) float32, what a pixel of each class counts in its dataset's mean; None: 1.
        sum_counts: maps this process' (D,) pixel counts to those of the global batch; None for one process.
    """
    pixels = labels != IGNORE_INDEX if class_weights is None else _pixel_weights(labels, class_weights)
    counts = pixels.new_zeros(len(weights), dtype=torch.int64 if class_weights is None else torch.float32)
    counts.index_add_(0, dataset_ids, pixels.sum(dim=(1, 2)))
    sums = pixel_losses(output.logits, labels, output.size_hw, class_weights)
    shares = torch.tensor(weights, dtype=torch.float32, device=labels.device)
    everywhere = counts if sum_counts is None else sum_counts(counts)
    scale = torch.where(everywhere > 0, shares / everywhere, 0.0)
    means = torch.zeros_like(shares).index_add_(0, dataset_ids, sums.detach()) / counts
    return MixLoss(total=(scale[dataset_ids] * sums).sum(), means=means)


def balance_weights(shares: Sequence[float], balance: float, *, device: torch.device) -> Tensor | None:
    """What a pixel of each class counts, so that rare classes are not drowned.

    A class with share p of the labelled pixels weighs max(p, 1/10,000)^-balance, all scaled so that the average pixel
    weighs 1.

    Returns:
        (K,) float32 on `device`, or None where all weigh the same.
    """
    if balance == 0:
        return None
    share = torch.tensor(shares, dtype=torch.float64)
    raw = share.clamp(min=RAREST) ** -balance
    return (raw / (share * raw).sum()).to(device=device, dtype=torch.float32)


def pixel_losses(
    logits: Tensor, labels: Tensor, size_hw: tuple[int, int], class_weights: Tensor | None = None
) -> Tensor:
    """Sum over each image's labelled pixels of the cross-entropy of its upsampled logits.

    Equal in value and gradient (to float32 rounding) to `cross_entropy(interpolate(logits, size_hw, mode="bilinear",
    align_corners=True), labels, weight=class_weights, ignore_index=255, reduction="none").sum(dim=(1, 2))`.
    Differentiable once.

    Args:
        logits: (B, K, h, w); computed in float32 whatever their type.
        labels: (B, H, W) integer ids below K, or 255 = ignored.
        size_hw: (H, W).
        class_weights: (K,) float32; None: 1 for every class.

    Returns:
        (B,) float32.
    """
    sums: Tensor = _PixelLosses.apply(logits, labels, size_hw, class_weights)  # type: ignore[no-untyped-call]
    return sums


class _PixelLosses(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, labels: Tensor, size_hw: tuple[int, int], class_weights: Tensor | None
    ) -> Tensor:
        with torch.autocast(logits.device.type, enabled=False):
            sums, grad = _walk(logits, labels, size_hw, class_weights, with_grad=ctx.needs_input_grad[0])
        ctx.grad, ctx.dtype = grad, logits.dtype
        return sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_sums: Tensor) -> tuple[Tensor, None, None, None]:
        return (ctx.grad * grad_sums[:, None, None, None]).to(ctx.dtype), None, None, None


def _walk(
    logits: Tensor, labels: Tensor, size_hw: tuple[int, int], class_weights: Tensor | None, *, with_grad: bool
) -> tuple[Tensor, Tensor | None]:
    """Sums (B,) and, if asked for, their gradient by each image's logits (B, K, h, w), strip by strip."""
    num, num_classes, low_h, low_w = logits.shape
    plan = upsampling((low_h, low_w), size_hw, num_classes, logits.device)
    logits, bounded = shifted(logits)
    sums = logits.new_zeros(num)
    grad = torch.empty_like(logits) if with_grad else None
    for b in range(num):
        low_hKw = rows_first(logits[b])
        grad_hKw = torch.zeros_like(low_hKw)
        for strip in plan.strips:
            logits_rKW = plan.rows(low_hKw, strip)
            sums[b] += _nll_(logits_rKW, labels[b, strip.high], class_weights, bounded=bounded)
            if with_grad:
                plan.add_gradient(grad_hKw, strip, logits_rKW)
        if grad is not None:
            grad[b] = grad_hKw.view(low_h, num_classes, low_w).permute(1, 0, 2)
    return sums, grad


def _nll_(logits_rKW: Tensor, labels: Tensor, class_weights: Tensor | None, *, bounded: bool) -> Tensor:
    """Sum of the cross-entropy of labelled pixels; overwrites the logits with its gradient."""
    labelled = labels != IGNORE_INDEX
    weight_rW = labelled if class_weights is None else _pixel_weights(labels, class_weights)
    target = torch.where(labelled, labels, 0).long().unsqueeze(1)  # (r, 1, W)
    if not bounded:
        logits_rKW -= logits_rKW.amax(dim=1, keepdim=True)
    picked = logits_rKW.gather(1, target).squeeze(1)
    total_rW = logits_rKW.exp_().sum(dim=1)
    loss = ((total_rW.log() - picked) * weight_rW).sum()
    logits_rKW *= (weight_rW / total_rW).unsqueeze(1)
    logits_rKW.scatter_add_(1, target, -weight_rW.float().unsqueeze(1))
    return loss


def _pixel_weights(labels: Tensor, class_weights: Tensor) -> Tensor:
    """The weight of every pixel's class, 0 where ignored; of the labels' shape."""
    labelled = labels != IGNORE_INDEX
    return class_weights[torch.where(labelled, labels, 0).long()] * labelled
