"""The loss of a step in one call, as the trainer puts it together."""

from typing import NamedTuple

import torch
from torch import Tensor

from segstream.model.losses.loss import count_labels, dataset_means, loss_sums, mixed_loss
from segstream.model.losses.pixel_loss import image_weights


class MixLoss(NamedTuple):
    total: Tensor
    means: Tensor


def mix_loss(
    output, labels, dataset_ids, weights, *, loss="ce", class_weights=None, aux_rmi=False, global_counts=None
) -> MixLoss:
    """Of a part of a global batch whose counts are given; without counts the part is the whole."""
    sums = loss_sums(output, labels, loss=loss, class_weights=class_weights, aux_rmi=aux_rmi)
    counted = image_weights(labels, output.logits.shape[1]) if loss == "image_weighted" else class_weights
    counts = global_counts or count_labels(labels, dataset_ids, len(weights), counted)
    shares = torch.tensor(weights, dtype=torch.float32, device=labels.device)
    return MixLoss(mixed_loss(sums, dataset_ids, shares, counts), dataset_means(sums, dataset_ids, counts))
