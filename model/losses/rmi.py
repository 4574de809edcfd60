"""Region mutual information: how much 3 x 3 neighbourhoods of a prediction tell about those of the labels.

A pixel-wise loss treats neighbours as strangers. Here each class' map of probabilities and of labels is pooled 4 x 4,
every 3 x 3 neighbourhood becomes a point in 9 dimensions, and the loss is a bound on the entropy that is left in the
labels' points once the prediction's are known, both taken as Gaussian:

    M = S_yy - S_yp (S_pp + a I)^-1 S_py,    loss = 1/9 * sum over classes of 1/2 log det (M + a I),    a = 5e-4

with S sums (not means) of products of centred points. Computed in float64, whatever autocast says.

Source: Zhao et al., "Region Mutual Information Loss for Semantic Segmentation", NeurIPS 2019, with the parameters of
Tao et al., "Hierarchical Multi-Scale Attention for Semantic Segmentation", 2020.
"""

from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, one_hot
from torch.utils.checkpoint import checkpoint

from segstream.model.networks.upsample import at_least_float32
from segstream.shards.errors import DataError
from segstream.shards.taxonomy import IGNORE_INDEX

POOL = 4  # pixels; kernel and stride, padded by half
RADIUS = 3  # side of a neighbourhood after pooling
LEAST = POOL * (RADIUS - 1)  # pixels of a side: fewer leave no neighbourhood
FLOOR = 1e-6  # added to probabilities
RIDGE = 5e-4  # added to diagonals, so that they can be inverted
LOG_FLOOR = 1e-8  # added inside the logarithm of the determinant's factors


def region_losses(logits: Tensor, labels: Tensor, size_hw: tuple[int, int], *, align_corners: bool = True) -> Tensor:
    """The loss of each image, a number below or above zero that falls as the prediction explains the labels.

    Ignored pixels have no label and no probability. Only one image at a time is held at full size: backward computes
    it again.

    Args:
        logits: (B, K, h, w) of any float type.
        labels: (B, H, W) integer ids below K, or 255 = ignored.
        size_hw: (H, W), both at least 8, to which logits are upsampled.
        align_corners: of the upsampling.

    Returns:
        (B,) float32 (float64 for float64 logits); nan where logits are not finite.

    Raises:
        DataError: images are too small for a neighbourhood.
    """
    if min(size_hw) < LEAST:
        raise DataError(f"loss rmi: crops of {size_hw[0]} x {size_hw[1]} pixels; its regions have {LEAST} and more")
    with torch.autocast(logits.device.type, enabled=False):
        again = partial(checkpoint, _region_loss, use_reentrant=False, preserve_rng_state=False)
        return torch.stack([again(logits[b], labels[b], size_hw, align_corners) for b in range(len(logits))])


def _region_loss(logits_Khw: Tensor, labels_HW: Tensor, size_hw: tuple[int, int], align_corners: bool) -> Tensor:
    logits_KHW = at_least_float32(logits_Khw)
    if tuple(logits_KHW.shape[1:]) != tuple(size_hw):
        logits_KHW = interpolate(logits_KHW[None], size=size_hw, mode="bilinear", align_corners=align_corners)[0]
    labelled = labels_HW != IGNORE_INDEX
    truth_HWK = one_hot(torch.where(labelled, labels_HW, 0).long(), len(logits_KHW)) * labelled.unsqueeze(2)
    truth = _points(truth_HWK.permute(2, 0, 1).to(logits_KHW.dtype))
    belief = _points(logits_KHW.sigmoid() * labelled + FLOOR)

    ridge = RIDGE * torch.eye(RADIUS**2, dtype=truth.dtype, device=truth.device)
    cross = truth @ belief.mT  # (K, 9, 9)
    factor, bad = torch.linalg.cholesky_ex(belief @ belief.mT + ridge)
    left = truth @ truth.mT - cross @ torch.cholesky_solve(cross.mT, factor)
    factor, worse = torch.linalg.cholesky_ex(left + ridge)
    log_det_K: Tensor = 2 * (factor.diagonal(dim1=-2, dim2=-1) + LOG_FLOOR).log().sum(dim=-1)
    log_det_K = log_det_K.masked_fill((bad != 0) | (worse != 0), torch.nan)
    loss: Tensor = 0.5 * log_det_K.sum() / RADIUS**2
    return loss.to(logits_KHW.dtype)


def _points(maps_KHW: Tensor) -> Tensor:
    """(K, H, W) -> (K, 9, N) float64: every 3 x 3 neighbourhood of the pooled maps, less their mean."""
    pooled = avg_pool2d(maps_KHW, POOL, stride=POOL, padding=POOL // 2).double()
    windows: Tensor = pooled.unfold(1, RADIUS, 1).unfold(2, RADIUS, 1)  # (K, h, w, 3, 3)
    points: Tensor = windows.permute(0, 3, 4, 1, 2).flatten(3).flatten(1, 2)
    return points - points.mean(dim=2, keepdim=True)
