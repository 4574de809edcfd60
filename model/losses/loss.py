"""The loss of a step: over a mix of datasets, over a network's main and further predictions.

loss = sum over datasets d of w_d * (mean over the labelled pixels of d in the global batch)

where the mean may be weighted by class, and every prediction of the network (`TrainOutput`) adds its own such loss by
its own weight. With `rmi`, the main prediction is sums by region mutual information as well (`model.losses.rmi`). With
`ccsa`, all this makes way for a share of the contrastive loss (`model.losses.ccsa`).

A global batch may be spread over processes and over several passes of each. So the counts that the means divide by are
taken first (`count_labels`), summed over all of it, and each part of the batch then gives its share of the sum
(`mixed_loss`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from segstream.model.config import LossName
from segstream.model.losses.pixel_loss import image_weights, pixel_losses, pixel_weights
from segstream.model.losses.rmi import region_losses
from segstream.model.networks.upsample import at_least_float32
from segstream.model.types import TrainOutput
from segstream.shards.taxonomy import IGNORE_INDEX

RAREST = 1e-4  # a share of pixels; below it a class weighs no more, so that one stray label cannot outshout a batch
REGIONS = 0.5  # share of region mutual information in `rmi`; the rest is binary cross-entropy


@dataclass(frozen=True, slots=True)
class LabelCounts:
    """How much there is of each of D datasets; float64, in which whole numbers add up exactly."""

    pixels: Tensor
    """(D,) labelled pixels, or what they weigh by class."""
    images: Tensor
    """(D,) images."""


@dataclass(frozen=True, slots=True)
class HeadSums:
    """Losses of one prediction of B images, before they are divided by anything."""

    weight: float
    """What the prediction counts."""
    pixels: Tensor
    """(B,) sums over labelled pixels."""
    regions: Tensor | None
    """(B,) region losses, for rmi."""


@dataclass(frozen=True, slots=True)
class LossSums:
    """Losses of all predictions."""

    heads: tuple[HeadSums, ...]
    """By prediction, the main one first."""
    ccsa: tuple[float, Tensor] | None = None
    """What the contrastive loss counts, 0..1, and a scalar: this process' part of it."""


def count_labels(
    labels: Tensor, dataset_ids: Tensor, num_datasets: int, class_weights: Tensor | None = None
) -> LabelCounts:
    """What the means of a mix divide by, of these images.

    Args:
        labels: (B, H, W) integer class ids, 255 = ignored.
        dataset_ids: (B,) int64 below `num_datasets`, on the labels' device like everything here.
        num_datasets: D.
        class_weights: (K,) float32, see `loss_sums`; for `image_weighted` (B, K), those of `image_weights`.
    """
    pixels = labels != IGNORE_INDEX if class_weights is None else pixel_weights(labels, class_weights)
    each = pixels.sum(dim=(1, 2)).double()
    return LabelCounts(
        pixels=_by_dataset(each, dataset_ids, num_datasets),
        images=_by_dataset(torch.ones_like(each), dataset_ids, num_datasets),
    )


def loss_sums(
    output: TrainOutput,
    labels: Tensor,
    *,
    loss: LossName = "ce",
    class_weights: Tensor | None = None,
    aux_rmi: bool = False,
) -> LossSums:
    """A network's predictions against labels, image by image.

    `rmi`: half the region mutual information, averaged over a dataset's images, and half the binary cross-entropy,
    summed over classes and divided by the dataset's labelled pixels + 1 (the published constant). Further predictions
    are compared by the binary cross-entropy alone; with `aux_rmi` auxiliary heads are compared as the main one, single
    scales are not.

    `image_weighted`: cross-entropy whose classes count by their share of the image, see `image_weights`; a dataset's
    mean divides by what its pixels count in the global batch. (The published code takes the mean of each image and sums
    over images, the same for one image.)

    `relaxed`: see `pixel_losses`; a dataset's mean divides by its labelled pixels. (NVIDIA's code: by those with a
    labelled neighbour + 1, by image.)

    Args:
        output: logits (B, K, h, w), the size (H, W) of the labels, and further predictions with their weights.
        labels: (B, H, W) integer class ids below K, or 255 = ignored.
        class_weights: (K,) float32, what a pixel of each class counts in its dataset's mean; None: 1. Only with ce.

    Raises:
        ValueError: class weights with another loss, which has no place for them.
        DataError: crops are too small for rmi.
    """
    if loss != "ce" and class_weights is not None:
        raise ValueError(f"{loss} takes no class weights")
    if loss == "image_weighted":
        class_weights = image_weights(labels, output.logits.shape[1]).to(at_least_float32(output.logits).dtype)

    def head(logits: Tensor, weight: float, align_corners: bool, *, by_region: bool) -> HeadSums:
        at = (logits, labels, output.size_hw)
        pixels = pixel_losses(*at, class_weights, align_corners=align_corners, loss=loss)
        regions = region_losses(*at, align_corners=align_corners) if by_region and loss == "rmi" else None
        return HeadSums(weight, pixels, regions)

    main = head(output.logits, 1.0, output.align_corners, by_region=True)
    regional = {"aux"} if aux_rmi else set()
    further = (head(aux.logits, aux.weight, aux.align_corners, by_region=aux.name in regional) for aux in output.aux)
    return LossSums(heads=(main, *further))


def mixed_loss(sums: LossSums, dataset_ids: Tensor, shares: Tensor, global_counts: LabelCounts) -> Tensor:
    """What these images add to the loss of the global batch, a scalar to differentiate.

    A dataset without a labelled pixel contributes zero, so a batch that is ignored entirely has loss 0 and zero
    gradients. With one dataset of share 1, `ce` is plain cross-entropy with ignored pixels left out of its mean.

    Args:
        sums: of `loss_sums`.
        dataset_ids: (B,) int64, which of the D datasets each image is of.
        shares: (D,) float32, what each dataset counts.
        global_counts: counts of the whole global batch, on the same device.
    """
    labelled = global_counts.pixels > 0
    scale = torch.where(labelled, shares / _pixels(sums, global_counts), 0.0)

    def value(head: HeadSums) -> Tensor:
        by_pixel = (scale[dataset_ids] * head.pixels).sum()
        if head.regions is None:
            return by_pixel
        each = torch.where(labelled, shares / global_counts.images.float(), 0.0)
        return (1 - REGIONS) * by_pixel + REGIONS * (each[dataset_ids] * head.regions).sum()

    total = value(sums.heads[0])
    for head in sums.heads[1:]:
        total = total + head.weight * value(head)
    if sums.ccsa is not None:
        alpha, contrast = sums.ccsa
        total = (1 - alpha) * total + alpha * contrast
    return total


def dataset_means(sums: LossSums, dataset_ids: Tensor, global_counts: LabelCounts) -> Tensor:
    """What these images add to the mean of the main prediction's loss by dataset (ce: cross-entropy per pixel).

    Returns:
        (D,) detached; summed over all parts of a global batch they are its means; nan without a labelled pixel in it.
    """
    num_datasets = len(global_counts.pixels)
    main = sums.heads[0]
    means = _by_dataset(main.pixels.detach(), dataset_ids, num_datasets) / _pixels(sums, global_counts)
    if main.regions is not None:
        regions = _by_dataset(main.regions.detach(), dataset_ids, num_datasets) / global_counts.images.float()
        means = (1 - REGIONS) * means + REGIONS * regions
    return means.masked_fill(global_counts.pixels == 0, torch.nan)


def _by_dataset(values: Tensor, dataset_ids: Tensor, num_datasets: int) -> Tensor:
    return values.new_zeros(num_datasets).index_add_(0, dataset_ids, values)


def _pixels(sums: LossSums, global_counts: LabelCounts) -> Tensor:
    """What sums over pixels are divided by; rmi's published code adds one to its count."""
    main = sums.heads[0]
    return (global_counts.pixels + (1 if main.regions is not None else 0)).to(main.pixels.dtype)


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
