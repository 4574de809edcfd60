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

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from segstream.model.config import InferConfig
from segstream.model.networks.blocks import normalise
from segstream.model.networks.hmsa import HMSA, high_to_low
from segstream.model.networks.upsample import Strip, Upsampling, rows_first, shifted, taps, upsampling
from segstream.model.types import Coarse
from segstream.shards.errors import DataError

Image = npt.NDArray[np.uint8]
Ids = npt.NDArray[np.integer]
Projection = npt.NDArray[np.float32] | None
Views = dict[float, tuple[Ids, npt.NDArray[np.float32]]]
"""By scale: (H, W) ids, and (H, W) attention in 0..1."""
LARGEST_8_BIT = 255  # classes; the value 255 itself means "none"
FLOOR = 2.0**-24  # the smallest float16: what a probability of 0 counts as where its logarithm is asked for
OVERLAP = 3  # windows advance by 2/3 of their side
LONGEST = 16  # times as long as wide: images that are enlarged
_FEW_PIXELS = 1 << 20
ROW_BYTES = 8 << 20  # of scores at full size at a time, on a CPU: they fit its cache


def predict(
    net: nn.Module, images: Sequence[Image], projections: Sequence[Projection], config: InferConfig
) -> list[list[Tensor]]:
    """Class scores of images of one size, in several taxonomies from the same forward passes.

    Windows of all images share forward passes, and all scores are held at once: as many images as `images_at_once` says
    keep a device busy.

    Args:
        net: in eval mode; maps normalised images (B, 3, H, W) to logits (B, K, H, W). One that is `model.types.Coarse`
            is stopped before it upsamples, which gives the same scores sooner.
        images: (H, W, 3) RGB.
        projections: for each result a (K', K) matrix from the network's classes to the result's, or None to keep them.
        config: windows, scales, flip. The device is the network's.

    Returns:
        For each image and projection (K', H, W) float32 on the network's device: sums of probabilities, in 0..1 for
        0/1 matrices. They sum to 1 over classes only where every class of the network is mapped to one.

    Raises:
        DataError: `n_scales` for a network without scales of its own, or that do not fit it.
    """
    with torch.inference_mode():
        size_hw = images[0].shape[:2]
        matrices = _matrices(net, projections)
        if config.n_scales is not None:
            shares = hierarchical_logits(net, images, config).softmax(dim=1)
            return [[p if m is None else _mapped(m, p) for m in matrices] for p in shares]
        maps = _at_scale(net, images, matrices, config, config.scales[0])
        totals = [[resized(scores, size_hw) for scores in image] for image in maps]
        for scale in config.scales[1:]:
            for total, maps_of in zip(totals, _at_scale(net, images, matrices, config, scale), strict=True):
                for so_far, scores in zip(total, maps_of, strict=True):
                    for rows in strips(scores, size_hw):
                        so_far[:, rows] += resized_rows(scores, size_hw, rows)
        return [[t.div_(len(config.scales)) if len(config.scales) > 1 else t for t in total] for total in totals]


def segment(
    net: nn.Module, images: Sequence[Image], projections: Sequence[Projection], config: InferConfig
) -> list[list[npt.NDArray[np.integer]]]:
    """The class with the highest score of every pixel, as by `predict`, without scores at full size.

    Returns:
        For each image and projection (H, W) ids: uint8, or uint16 above 255 classes.
    """
    with torch.inference_mode():
        if config.n_scales is not None or len(config.scales) > 1:
            return [[_ids(p.argmax(dim=0), len(p)) for p in s] for s in predict(net, images, projections, config)]
        size_hw = images[0].shape[:2]
        maps = _at_scale(net, images, _matrices(net, projections), config, config.scales[0])
        return [[_ids(_best(scores, size_hw), len(scores)) for scores in image] for image in maps]


def logits(net: nn.Module, images: Sequence[Image], projection: Projection, config: InferConfig) -> list[Tensor]:
    """Scores before softmax, (K', H, W) float32 for each image, all of one size.

    By `n_scales` and in the network's own classes these are the network's logits, averaged with the mirror image's.
    Otherwise, where probabilities have been averaged or mapped, they are the probabilities' natural logarithms (of at
    least 2**-24): their softmax gives the probabilities back, made to sum to 1.
    """
    with torch.inference_mode():
        if config.n_scales is not None and projection is None:
            return list(hierarchical_logits(net, images, config))
        return [scores[0].clamp_(min=FLOOR).log_() for scores in predict(net, images, [projection], config)]


def hierarchical_logits(net: nn.Module, images: Sequence[Image], config: InferConfig) -> Tensor:
    """(N, K, H, W) float32 logits of images of one size, by the network's own scales; `config.n_scales` is given.

    Raises:
        DataError: the network has no scales of its own, or these do not fit.
    """
    net, pixels = _whole(net, images, config)
    combined: Tensor = net(pixels, config.n_scales)
    if config.flip:
        combined = (combined + net(pixels.flip(3), config.n_scales).flip(3)) / 2
    return torch.stack([resized(scores.float(), images[0].shape[:2]) for scores in combined])


def by_scale(net: nn.Module, image: Image, projection: Projection, config: InferConfig) -> Views:
    """What the network makes of an image at each of `config.n_scales` by itself, without its mirror image.

    Returns:
        By scale, from the highest. Attention says how far a scale is trusted over the higher ones; that of the highest
        decides nothing.

    Raises:
        DataError: see `hierarchical_logits`.
    """
    with torch.inference_mode():
        net, pixels = _whole(net, [image], config)
        (matrix,), found = _matrices(net, [projection]), {}
        for scale in high_to_low(config.n_scales or ()):
            seen = net.at_scale(pixels, scale)
            scores, attention = (resized(x[0], image.shape[:2]) for x in (seen.logits, seen.attention))
            scores = scores if matrix is None else _mapped(matrix, scores.softmax(dim=0))
            found[scale] = _ids(scores.argmax(dim=0), len(scores)), attention[0].cpu().numpy()
    return found


def _whole(net: nn.Module, images: Sequence[Image], config: InferConfig) -> tuple[HMSA, Tensor]:
    """The network, and the images as it takes them at scale 1, (N, 3, h, w)."""
    if not isinstance(net, HMSA):
        raise DataError("n_scales: only hierarchical multi-scale attention (hmsa) has scales of its own; use scales")
    return net, normalised(_scaled(images, config, 1.0), next(net.parameters()).device)


def _scaled(images: Sequence[Image], config: InferConfig, scale: float, crop: int = 1) -> list[npt.NDArray[np.float32]]:
    """Images of one size at a scale; raises as `check_thin`."""
    size_hw = images[0].shape[:2]
    target_hw = resized_hw(size_hw, config, scale)
    check_thin(size_hw, target_hw, crop)
    return [resized_image(image, target_hw) for image in images]


def images_at_once(size_hw: tuple[int, int], config: InferConfig) -> int:
    """How many images of a size fill a forward pass with windows; 1 without windows."""
    if config.n_scales is not None:
        return 1
    largest = resized_hw(size_hw, config, max(config.scales))
    windows = math.prod(len(window_starts(max(side, config.crop), config.crop)) for side in largest)
    return max(1, config.batch // windows)


def _matrices(net: nn.Module, projections: Sequence[Projection]) -> list[Tensor | None]:
    device = next(net.parameters()).device
    return [None if p is None else torch.from_numpy(np.ascontiguousarray(p)).to(device) for p in projections]


def _mapped(matrix: Tensor, scores_Khw: Tensor) -> Tensor:
    return (matrix @ scores_Khw.flatten(1)).view(len(matrix), *scores_Khw.shape[1:])


def _best(scores: Tensor, size_hw: Sequence[int]) -> Tensor:
    """(K, h, w) -> (H, W) ids at the image's size."""
    best = torch.empty(tuple(size_hw), dtype=torch.int32, device=scores.device)
    for rows in strips(scores, size_hw):  # argmax gives 8 bytes a pixel
        best[rows] = resized_rows(scores, size_hw, rows).argmax(dim=0)
    return best


def softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Probabilities of (classes, H, W) logits."""
    e: npt.NDArray[np.float32] = np.exp(logits - logits.max(axis=0))
    e /= e.sum(axis=0)
    return e


def id_type(num_classes: int) -> type[np.integer]:
    """What label maps of so many classes are stored as: uint8, or uint16 above 255."""
    return np.uint16 if num_classes > LARGEST_8_BIT else np.uint8


def _ids(best: Tensor, num_classes: int) -> npt.NDArray[np.integer]:
    return best.to(torch.int32).cpu().numpy().astype(id_type(num_classes))


def _at_scale(
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
    scaled = _scaled(images, config, scale, crop)
    (height, width), (pad_h, pad_w) = scaled[0].shape[:2], (max(crop - side, 0) for side in scaled[0].shape[:2])
    top, left = pad_h // 2, pad_w // 2
    border = (left, pad_w - left, top, pad_h - top)  # of 0, ImageNet's mean colour
    pixels = pad(normalised(scaled, next(net.parameters()).device), border)
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
        seen = torch.cat([windows, windows.flip(3)]) if config.flip else windows
        low = net.coarse(seen).logits if isinstance(net, Coarse) else net(seen)
        low, bounded = shifted(low)
        plan = upsampling(low, (crop, crop))
        if not sums:
            sizes = (low.shape[1] if m is None else len(m) for m in matrices)
            sums = [pixels.new_zeros(len(pixels), size, *pixels.shape[2:]) for size in sizes]
        for i, (n, y, x) in enumerate(group):
            views = [rows_first(view) for view in low[i :: len(group)]]
            for strip in plan.strips:
                p_rKW = _probabilities(views, plan, strip, bounded=bounded)
                for total, matrix in zip(sums, matrices, strict=True):
                    scores = p_rKW if matrix is None else matrix @ p_rKW
                    total[n, :, y : y + crop, x : x + crop][:, strip.high] += scores.permute(1, 0, 2)
    return sums


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


def resized_hw(size_hw: Sequence[int], config: InferConfig, scale: float = 1.0) -> tuple[int, int]:
    """An image's size at a scale: the shorter side, or with `long_side` the longer, rounded, then the other by it."""
    edge = max(size_hw) if config.long_side else min(size_hw)
    side = round(scale * (config.long_side or config.short_side or edge))
    return max(1, round(side / edge * size_hw[0])), max(1, round(side / edge * size_hw[1]))


def check_thin(size_hw: Sequence[int], target_hw: Sequence[int], crop: int = 1) -> None:
    """Refuse an image that a side too short makes explode: resized by that side, and padded to the windows.

    Raises:
        DataError: the result would have more than twice its pixels, a million, and 16 times the square of its shorter
            side.
    """
    high, wide = (max(crop, side) for side in target_hw)
    if high * wide > max(2 * math.prod(size_hw), _FEW_PIXELS, LONGEST * min(high, wide) ** 2):
        raise DataError(
            f"an image of {size_hw[1]} x {size_hw[0]} would be segmented at {wide} x {high}, for its shorter side; cut "
            f"it into pieces at most {LONGEST} times as long as wide"
        )


def _visits(starts: Sequence[int], crop: int) -> Tensor:
    """How many windows cover each position of an axis, float32."""
    within = torch.arange(starts[-1] + crop) - torch.tensor(starts)[:, None]
    return ((within >= 0) & (within < crop)).sum(dim=0).float()


def resized_image(image: npt.NDArray[Any], target_hw: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Resize to a size, bilinear; (H, W, 3) of 0..255 as float32."""
    pixels = image.astype(np.float32)
    if target_hw != image.shape[:2]:
        pixels = cv2.resize(pixels, target_hw[::-1], interpolation=cv2.INTER_LINEAR).astype(np.float32, copy=False)
    return pixels


def resized(scores: Tensor, size_hw: Sequence[int]) -> Tensor:
    """(K, h, w) -> (K, H, W); the same tensor where nothing changes."""
    if tuple(scores.shape[1:]) == tuple(size_hw):
        return scores
    return interpolate(scores[None], size=tuple(size_hw), mode="bilinear", align_corners=False)[0]


def resized_rows(scores: Tensor, size_hw: Sequence[int], rows: slice) -> Tensor:
    """Some rows of `resized`, (K, rows, W)."""
    if tuple(scores.shape[1:]) == tuple(size_hw):
        return scores[:, rows]
    above, share = (t[rows].to(scores.device) for t in taps(scores.shape[1], size_hw[0], align_corners=False))
    below = (above + 1).clamp(max=scores.shape[1] - 1)
    mixed = scores[:, above].lerp(scores[:, below], share.to(scores.dtype)[None, :, None])
    return interpolate(mixed, size=size_hw[1], mode="linear", align_corners=False)


def strips(scores: Tensor, size_hw: Sequence[int]) -> list[slice]:
    """Rows of the result to make at a time."""
    rows = max(1, ROW_BYTES // (4 * len(scores) * size_hw[1])) if scores.device.type == "cpu" else size_hw[0]
    return [slice(top, min(top + rows, size_hw[0])) for top in range(0, size_hw[0], rows)]
