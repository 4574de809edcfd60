"""The loss of a step: over a mix of datasets, over a network's main and further predictions.

loss = sum over datasets d of w_d * (mean over the labelled pixels of d in the global batch)

where the mean may be weighted by class, and every prediction of the network (`TrainOutput`) adds its own such loss by
its own weight. With `rmi`, the main prediction is judged by region mutual information as well (`model.rmi`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.config import LossName
from model.pixel_loss import binary_losses, pixel_losses, pixel_weights
from model.rmi import region_losses
from model.types import TrainOutput
from shards.taxonomy import IGNORE_INDEX

RAREST = 1e-4  # a share of pixels; below it a class weighs no more, so that one stray label cannot outshout a batch
REGIONS = 0.5  # share of region mutual information in `rmi`; the rest is binary cross-entropy


@dataclass(frozen=True, slots=True)
class MixLoss:
    """Loss of one step over a mix of D datasets."""

    total: Tensor
    """Scalar to differentiate."""
    means: Tensor
    """(D,) detached mean of the main prediction's loss on each dataset in this process' batch (ce: cross-entropy per
    pixel), nan without a labelled pixel."""


def mix_loss(
    output: TrainOutput,
    labels: Tensor,
    dataset_ids: Tensor,
    weights: Sequence[float],
    *,
    loss: LossName = "ce",
    class_weights: Tensor | None = None,
    sum_counts: Callable[[Tensor], Tensor] | None = None,
) -> MixLoss:
    """A loss in which every dataset has its weight, however many pixels of it are labelled.

    A dataset without a labelled pixel contributes zero, so a batch that is ignored entirely has loss 0 and zero
    gradients. With one dataset of weight 1, `ce` is plain cross-entropy with ignored pixels left out of its mean.

    `rmi`: half the region mutual information, averaged over a dataset's images, and half the binary cross-entropy,
    summed over classes and divided by the dataset's labelled pixels + 1 (the published constant). Further predictions
    are judged by the binary cross-entropy alone.

    Args:
        output: logits (B, K, h, w), the size (H, W) of the labels, and further predictions with their weights.
        labels: (B, H, W) integer class ids below K, or 255 = ignored.
        dataset_ids: (B,) int64, which of the D datasets each image is of.
        weights: D shares.
        loss: ce or rmi.
        class_weights: (K,) float32, what a pixel of each class counts in its dataset's mean; None: 1. Only with ce.
        sum_counts: maps this process' (D,) counts to those of the global batch; None for one process.

    Raises:
        ValueError: class weights with rmi, which has no place for them.
        DataError: crops are too small for rmi.
    """
    if loss == "rmi" and class_weights is not None:
        raise ValueError("rmi takes no class weights")
    everywhere_of = sum_counts or (lambda counts: counts)
    shares = torch.tensor(weights, dtype=torch.float32, device=labels.device)

    def by_dataset(values: Tensor) -> Tensor:
        return values.new_zeros(len(shares)).index_add_(0, dataset_ids, values)

    # What one pixel counts, by dataset.
    pixels = labels != IGNORE_INDEX if class_weights is None else pixel_weights(labels, class_weights)
    counts = by_dataset(pixels.sum(dim=(1, 2)))
    everywhere = everywhere_of(counts)
    extra = 1 if loss == "rmi" else 0
    scale = torch.where(everywhere > 0, shares / (everywhere + extra), 0.0)

    def sums_of(logits: Tensor, *, align_corners: bool) -> Tensor:
        if loss == "rmi":
            return binary_losses(logits, labels, output.size_hw, align_corners=align_corners)
        return pixel_losses(logits, labels, output.size_hw, class_weights, align_corners=align_corners)

    sums = sums_of(output.logits, align_corners=output.align_corners)
    total = (scale[dataset_ids] * sums).sum()
    means = by_dataset(sums.detach()) / (counts + extra)
    if loss == "rmi":
        regions = region_losses(output.logits, labels, output.size_hw, align_corners=output.align_corners)
        images = by_dataset(torch.ones_like(dataset_ids))
        each = torch.where(everywhere > 0, shares / everywhere_of(images), 0.0)
        total = (1 - REGIONS) * total + REGIONS * (each[dataset_ids] * regions).sum()
        means = (1 - REGIONS) * means + REGIONS * by_dataset(regions.detach()) / images
        means = means.masked_fill(counts == 0, torch.nan)
    for aux in output.aux:
        total = total + aux.weight * (scale[dataset_ids] * sums_of(aux.logits, align_corners=aux.align_corners)).sum()
    return MixLoss(total=total, means=means)


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
