"""Losses summed over pixels, from logits at the network's own resolution.

The obvious composition (upsample to the crop, log-softmax, pick) holds three arrays of classes x H x W per image, and
with 194 classes it is most of the step of a small network. The functions here give the same values and gradients but
walk over strips of rows that fit the cache. The gradient of a sum over pixels is known as soon as the sum is, so
forward computes both and nothing at full resolution outlives its strip. On CUDA, cross-entropy, weighted or not, is a
kernel of its own (`model.losses.triton_kernel`); the other losses walk there, too.
"""

from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad, softplus

from segstream.model.config import LossName
from segstream.model.networks.upsample import Upsampling, at_least_float32, rows_first, shifted, upsampling
from segstream.shards.taxonomy import IGNORE_INDEX

Strip = Callable[[Tensor, Tensor], Tensor]
"""Logits (r, K, W) and labels (r, W), or (r, 9, W) of `_windows` -> their sum; logits become its gradient."""


def pixel_losses(
    logits: Tensor,
    labels: Tensor,
    size_hw: tuple[int, int],
    class_weights: Tensor | None = None,
    *,
    align_corners: bool = True,
    loss: LossName = "ce",
) -> Tensor:
    """Sum over each image's labelled pixels of a loss of its upsampled logits.

    `ce` and `image_weighted`: the cross-entropy. Equal in value and gradient (to float32 rounding) to
    `cross_entropy(interpolate(logits, size_hw, mode="bilinear", align_corners=align_corners), labels,
    weight=class_weights, ignore_index=255, reduction="none").sum(dim=(1, 2))`.

    `rmi`: the binary cross-entropy "this class or not", summed over classes. Equal to
    `binary_cross_entropy_with_logits` of the upsampled logits against one-hot labels, summed over all but ignored
    pixels.

    `relaxed`: -log of what is believed of all classes in the 3 x 3 pixels around each; away from boundaries the
    cross-entropy. Neighbours that are ignored or outside of the image add no class. Source: Zhu et al., "Improving
    Semantic Segmentation via Video Propagation and Label Relaxation", CVPR 2019. The code of Tao et al., 2020, differs
    from it: it weighs by class and gives ignored pixels their neighbours' classes.

    Differentiable once.

    Args:
        logits: (B, K, h, w); computed in float32 whatever their type, except that float64 stays.
        labels: (B, H, W) integer ids below K, or 255 = ignored.
        size_hw: (H, W).
        class_weights: (K,), or (B, K) by image, of the cross-entropy; None: 1 for every class.
        align_corners: of the upsampling.
        loss: which.

    Returns:
        (B,) float32.
    """
    if loss not in _OTHERS and fusable(logits):
        from segstream.model.losses.triton_kernel import fused_pixel_losses

        weights = labels != IGNORE_INDEX if class_weights is None else pixel_weights(labels, class_weights)
        return fused_pixel_losses(logits, labels, weights.float(), size_hw, align_corners=align_corners)
    sums: Tensor = _PixelLosses.apply(logits, labels, size_hw, class_weights, align_corners, loss)  # type: ignore[no-untyped-call]
    return sums


def fusable(logits: Tensor) -> bool:
    """Whether the fused kernels of `model.losses.triton_kernel` take over: on CUDA, where triton is installed."""
    return logits.is_cuda and logits.dtype != torch.float64 and find_spec("triton") is not None


class _PixelLosses(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        labels: Tensor,
        size_hw: tuple[int, int],
        class_weights: Tensor | None,
        align_corners: bool,
        loss: LossName,
    ) -> Tensor:
        with torch.autocast(logits.device.type, enabled=False):
            if loss in _OTHERS:
                values, losses = at_least_float32(logits), [_OTHERS[loss]] * len(logits)
            else:
                values, bounded = shifted(logits)
                weights = [None] * len(logits) if class_weights is None else class_weights.expand(len(logits), -1)
                losses = [partial(_nll_, class_weights=each, bounded=bounded) for each in weights]
            labels = _windows(labels) if loss == "relaxed" else labels
            plan = upsampling(values, size_hw, align_corners=align_corners)
            sums, grad = _walk(values, labels, plan, losses, with_grad=ctx.needs_input_grad[0])
        ctx.grad, ctx.dtype = grad, logits.dtype
        return sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_sums: Tensor) -> tuple[Tensor | None, ...]:
        return (ctx.grad * grad_sums[:, None, None, None]).to(ctx.dtype), None, None, None, None, None


def _walk(
    logits: Tensor, labels: Tensor, plan: Upsampling, losses: list[Strip], *, with_grad: bool
) -> tuple[Tensor, Tensor | None]:
    """Sums (B,) and, if asked for, their gradient by each image's logits (B, K, h, w), strip by strip."""
    num, num_classes, low_h, low_w = logits.shape
    sums = logits.new_zeros(num)
    grad = torch.empty_like(logits) if with_grad else None
    for b, loss_ in enumerate(losses):
        if (low_h, low_w) == (labels.shape[1], labels.shape[-1]):  # scales were combined: nothing to interpolate
            for strip in plan.strips:
                logits_rKW = logits[b, :, strip.high].permute(1, 0, 2).contiguous()
                sums[b] += loss_(logits_rKW, labels[b, strip.high])
                if grad is not None:
                    grad[b, :, strip.high] = logits_rKW.permute(1, 0, 2)
            continue
        low_hKw = rows_first(logits[b])
        grad_hKw = torch.zeros_like(low_hKw)
        for strip in plan.strips:
            logits_rKW = plan.rows(low_hKw, strip)
            sums[b] += loss_(logits_rKW, labels[b, strip.high])
            if with_grad:
                plan.add_gradient(grad_hKw, strip, logits_rKW)
        if grad is not None:
            grad[b] = grad_hKw.view(low_h, num_classes, low_w).permute(1, 0, 2)
    return sums, grad


def _nll_(logits_rKW: Tensor, labels: Tensor, *, class_weights: Tensor | None, bounded: bool) -> Tensor:
    """Sum of the cross-entropy of labelled pixels; overwrites the logits with its gradient."""
    labelled = labels != IGNORE_INDEX
    weight_rW = labelled if class_weights is None else pixel_weights(labels, class_weights)
    target = torch.where(labelled, labels, 0).long().unsqueeze(1)  # (r, 1, W)
    if not bounded:
        logits_rKW -= logits_rKW.amax(dim=1, keepdim=True)
    picked = logits_rKW.gather(1, target).squeeze(1)
    total_rW = logits_rKW.exp_().sum(dim=1)
    loss = ((total_rW.log() - picked) * weight_rW).sum()
    logits_rKW *= (weight_rW / total_rW).unsqueeze(1)
    logits_rKW.scatter_add_(1, target, -weight_rW.to(logits_rKW.dtype).unsqueeze(1))
    return loss


def _bce_(logits_rKW: Tensor, labels: Tensor) -> Tensor:
    """Sum of the binary cross-entropy of all classes of labelled pixels; overwrites the logits with its gradient."""
    labelled = labels != IGNORE_INDEX
    target = torch.where(labelled, labels, 0).long().unsqueeze(1)  # (r, 1, W)
    picked = logits_rKW.gather(1, target).squeeze(1)
    loss = ((softplus(logits_rKW).sum(dim=1) - picked) * labelled).sum()
    logits_rKW.sigmoid_().mul_(labelled.unsqueeze(1))
    logits_rKW.scatter_add_(1, target, -labelled.to(logits_rKW.dtype).unsqueeze(1))
    return loss


def _relaxed_(logits_rKW: Tensor, labels_r9W: Tensor) -> Tensor:
    """Sum of -log of the classes' joint probability of labelled pixels; overwrites the logits with its gradient."""
    labelled = labels_r9W[:, 4:5] != IGNORE_INDEX
    right = torch.zeros_like(logits_rKW, dtype=torch.bool)
    right.scatter_(1, torch.where(labels_r9W == IGNORE_INDEX, 0, labels_r9W).long(), True)
    among = logits_rKW.masked_fill(~right, -torch.inf)
    log_all, log_right = (x.logsumexp(dim=1, keepdim=True) for x in (logits_rKW, among))
    loss = ((log_all - log_right) * labelled).sum()
    logits_rKW.sub_(log_all).exp_().sub_((among - log_right).exp_()).mul_(labelled)
    return loss


def _windows(labels: Tensor) -> Tensor:
    """(B, H, W) -> (B, H, 9, W), the labels of 3 x 3 pixels; the middle one's where there is no other."""
    around = pad(labels, (1, 1, 1, 1), value=IGNORE_INDEX)
    each = [around[:, y : y + labels.shape[1], x : x + labels.shape[2]] for y in range(3) for x in range(3)]
    near = torch.stack(each, dim=2)
    return torch.where(near == IGNORE_INDEX, labels.unsqueeze(2), near)


_OTHERS: Mapping[str, Strip] = {"rmi": _bce_, "relaxed": _relaxed_}
"""The losses that are no cross-entropy."""


def pixel_weights(labels: Tensor, class_weights: Tensor) -> Tensor:
    """The weight of every pixel's class, (K,) or by image (B, K), 0 where ignored; of the labels' shape."""
    labelled = labels != IGNORE_INDEX
    target = torch.where(labelled, labels, 0).long()
    if class_weights.dim() == 2:
        return class_weights.gather(1, target.flatten(1)).view_as(target) * labelled
    return class_weights[target] * labelled


def image_weights(labels: Tensor, num_classes: int) -> Tensor:
    """What a class counts in each image: 2 - its share of the image's labelled pixels; 1 if it is not there.

    Returns:
        (B, num_classes) float64.

    Source: `ImageBasedCrossEntropyLoss2d` of NVIDIA's code for Tao et al., 2020, with its bound of 1.
    """
    labelled = (labels != IGNORE_INDEX).flatten(1)
    target = torch.where(labelled, labels.flatten(1), 0).long()
    pixels = labelled.new_zeros(len(labels), num_classes, dtype=torch.float64)
    pixels.scatter_add_(1, target, labelled.double())
    return 1 + (pixels > 0) * (1 - pixels / pixels.sum(dim=1, keepdim=True).clamp(min=1))
