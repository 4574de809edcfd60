"""Images of any size to class probabilities at their own size.

Per scale: resize, pad, cut into overlapping windows, average each window's softmax with that of its mirror image, map
to the classes asked for, average windows where they overlap, take the padding away, resize to the image. Then average
the scales. Mapping to other classes is linear, so it comes after softmax and before argmax, and the order of the
averages does not matter to it.
Source: the inference procedure of MSeg (Lambert et al., CVPR 2020).

With `n_scales`, the rule of hierarchical multi-scale attention (Tao et al., arXiv 2005.10821) instead: the whole image
at once, the scales combined by the network, logits averaged with those of the mirror image and resized to the image,
then softmax.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from segstream.model.config import InferConfig
from segstream.model.inference.resize import resize_short_side, resized, resized_rows, strips
from segstream.model.inference.sliding_window import at_scale, normalised, num_windows
from segstream.model.networks.hmsa import HMSA
from segstream.shards.errors import DataError

Image = npt.NDArray[np.uint8]
LARGEST_8_BIT = 255  # classes; the value 255 itself means "none"
FLOOR = 2.0**-24  # the smallest float16: what a probability of 0 counts as where its logarithm is asked for


def predict(
    net: nn.Module, image: Image, projections: Sequence[npt.NDArray[np.float32] | None], config: InferConfig
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

    Raises:
        DataError: `n_scales` for a network without scales of its own, or that do not fit it.
    """
    return predict_many(net, [image], projections, config)[0]


def predict_many(
    net: nn.Module,
    images: Sequence[Image],
    projections: Sequence[npt.NDArray[np.float32] | None],
    config: InferConfig,
) -> list[list[Tensor]]:
    """`predict` of several images of one size; their windows share forward passes.

    All scores are held at once: as many images as `images_at_once` says keep a device busy.
    """
    with torch.inference_mode():
        size_hw = images[0].shape[:2]
        matrices = _matrices(net, projections)
        if config.n_scales is not None:
            shares = hierarchical_logits(net, images, config).softmax(dim=1)
            return [[p if m is None else _mapped(m, p) for m in matrices] for p in shares]
        totals = [
            [resized(m, size_hw) for m in maps] for maps in at_scale(net, images, matrices, config, config.scales[0])
        ]
        for scale in config.scales[1:]:
            for total, maps in zip(totals, at_scale(net, images, matrices, config, scale), strict=True):
                for so_far, scores in zip(total, maps, strict=True):
                    for rows in strips(scores, size_hw):
                        so_far[:, rows] += resized_rows(scores, size_hw, rows)
        return [[t.div_(len(config.scales)) if len(config.scales) > 1 else t for t in total] for total in totals]


def segment(
    net: nn.Module,
    images: Sequence[Image],
    projections: Sequence[npt.NDArray[np.float32] | None],
    config: InferConfig,
) -> list[list[npt.NDArray[np.integer]]]:
    """The class with the highest score of every pixel, as by `predict_many`, without scores at full size.

    Returns:
        For each image and projection (H, W) ids: uint8, or uint16 above 255 classes.
    """
    with torch.inference_mode():
        if config.n_scales is not None or len(config.scales) > 1:
            return [[_ids(p.argmax(dim=0), len(p)) for p in s] for s in predict_many(net, images, projections, config)]
        size_hw = images[0].shape[:2]
        maps = at_scale(net, images, _matrices(net, projections), config, config.scales[0])
        return [[_ids(_best(scores, size_hw), len(scores)) for scores in image] for image in maps]


def logits(
    net: nn.Module, images: Sequence[Image], projection: npt.NDArray[np.float32] | None, config: InferConfig
) -> list[Tensor]:
    """Scores before softmax, (K', H, W) float32 for each image, all of one size.

    By `n_scales` and in the network's own classes these are the network's logits, averaged with the mirror image's.
    Otherwise, where probabilities have been averaged or mapped, they are the probabilities' natural logarithms (of at
    least 2**-24): their softmax gives the probabilities back, made to sum to 1.
    """
    with torch.inference_mode():
        if config.n_scales is not None and projection is None:
            return list(hierarchical_logits(net, images, config))
        return [scores[0].clamp_(min=FLOOR).log_() for scores in predict_many(net, images, [projection], config)]


def hierarchical_logits(net: nn.Module, images: Sequence[Image], config: InferConfig) -> Tensor:
    """(N, K, H, W) float32 logits of images of one size, by the network's own scales; `config.n_scales` is given.

    Raises:
        DataError: the network has no scales of its own, or these do not fit.
    """
    if not isinstance(net, HMSA):
        raise DataError("n_scales: only hierarchical multi-scale attention (hmsa) has scales of its own; use scales")
    size_hw, device = images[0].shape[:2], next(net.parameters()).device
    pixels = normalised([resize_short_side(image, config.short_side or min(size_hw)) for image in images], device)
    combined: Tensor = net(pixels, config.n_scales)
    if config.flip:
        combined = (combined + net(pixels.flip(3), config.n_scales).flip(3)) / 2
    return torch.stack([resized(scores.float(), size_hw) for scores in combined])


def images_at_once(size_hw: tuple[int, int], config: InferConfig) -> int:
    """How many images of a size fill a forward pass with windows; 1 without windows."""
    if config.n_scales is not None:
        return 1
    most = max(num_windows(size_hw, config, scale) for scale in config.scales)
    return max(1, config.batch // most)


def _matrices(net: nn.Module, projections: Sequence[npt.NDArray[np.float32] | None]) -> list[Tensor | None]:
    device = next(net.parameters()).device
    return [None if p is None else torch.from_numpy(np.ascontiguousarray(p)).to(device) for p in projections]


def _mapped(matrix: Tensor, scores_Khw: Tensor) -> Tensor:
    return (matrix @ scores_Khw.flatten(1)).view(len(matrix), *scores_Khw.shape[1:])


def _best(scores: Tensor, size_hw: Sequence[int]) -> Tensor:
    """(K, h, w) -> (H, W) ids at the image's size."""
    return torch.cat([resized_rows(scores, size_hw, rows).argmax(dim=0) for rows in strips(scores, size_hw)])


def id_type(num_classes: int) -> type[np.integer]:
    """What label maps of so many classes are stored as: uint8, or uint16 above 255."""
    return np.uint16 if num_classes > LARGEST_8_BIT else np.uint8


def _ids(best: Tensor, num_classes: int) -> npt.NDArray[np.integer]:
    return best.to(torch.int32).cpu().numpy().astype(id_type(num_classes))
