"""Bilinear upsampling of logits, a strip of rows at a time.

At the size of the image, 194 classes are most of a small network's time and memory, in training as in use. Upsampling
is linear and separable, so a strip of rows is two small matrix products, fits the cache, and need not be kept. The
same two matrices, transposed, carry a gradient back.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

STRIP_BYTES = {"cpu": 4 << 20, "cuda": 256 << 20}  # of upsampled logits at a time: fits the cache / a GPU kept busy
SAFE_SPREAD = 80.0  # exp(-80) is still a normal float32


@dataclass(frozen=True, slots=True)
class Strip:
    """Rows of the output and how they come about."""

    high: slice
    """Rows of the output, r of them."""
    low: slice
    """Rows of the logits that these are interpolated from, s of them."""
    down: Tensor
    """(r, s) weights."""


@dataclass(frozen=True, slots=True)
class Upsampling:
    """From (h, w) to (H, W), in strips."""

    strips: tuple[Strip, ...]
    across: Tensor
    """(W, w) weights."""

    def rows(self, low_hKw: Tensor, strip: Strip, across: Tensor | None = None) -> Tensor:
        """One strip of the output, (r, K, W), from logits laid out as (h, K * w).

        `across` may replace the column weights: flipped, they give the mirror image.
        """
        across = self.across if across is None else across
        low_w = across.shape[1]
        rows = (strip.down @ low_hKw[strip.low]).view(-1, low_w)
        return (rows @ across.T).view(len(strip.down), -1, len(across))

    def add_gradient(self, grad_hKw: Tensor, strip: Strip, grad_rKW: Tensor) -> None:
        """Add to the logits' gradient, (h, K * w), what a strip's gradient, (r, K, W), means for it."""
        rows = grad_rKW.view(-1, len(self.across)) @ self.across
        grad_hKw[strip.low].addmm_(strip.down.T, rows.view(len(strip.down), -1))


def upsampling(logits: Tensor, high_hw: tuple[int, int], *, align_corners: bool = True) -> Upsampling:
    """The plan for logits (B, K, h, w), in their type and on their device: strips as high as that likes."""
    (_, num_classes, low_h, low_w), device = logits.shape, logits.device
    down = _weights(low_h, high_hw[0], align_corners=align_corners).to(logits.dtype)
    across = _weights(low_w, high_hw[1], align_corners=align_corners).to(logits.dtype)
    rows = max(1, STRIP_BYTES[device.type] // (4 * num_classes * high_hw[1]))
    strips = []
    for top in range(0, high_hw[0], rows):
        touched = down[top : top + rows].any(dim=0).nonzero()
        low = slice(int(touched[0]), int(touched[-1]) + 1)
        strips.append(Strip(slice(top, top + rows), low, down[top : top + rows, low].to(device)))
    return Upsampling(tuple(strips), across.to(device))


def rows_first(logits_Khw: Tensor) -> Tensor:
    """(K, h, w) -> (h, K * w), the layout that `Upsampling.rows` reads."""
    return logits_Khw.permute(1, 0, 2).reshape(logits_Khw.shape[1], -1)


def shifted(logits: Tensor) -> tuple[Tensor, bool]:
    """(B, K, h, w) logits with the maximum over classes at 0, and whether exp of them is safe as it is.

    In float32, except that float64 stays.
    A shift that is the same for all classes changes no softmax, before or after upsampling, and upsampled values stay
    at most 0. Only where the spread is enormous can all classes of an upsampled pixel be so low that exp gives 0; then
    the maximum must be subtracted once more at full size.
    """
    logits = at_least_float32(logits)
    logits = logits - logits.amax(dim=1, keepdim=True)
    return logits, bool(-logits.amin() < SAFE_SPREAD)


def bilinear(x: Tensor, size_hw: Sequence[int], *, align_corners: bool = False) -> Tensor:
    """(B, C, h, w) -> (B, C, H, W); either the corner pixels of both coincide, or the corners of their areas do."""
    return interpolate(x, size=tuple(size_hw), mode="bilinear", align_corners=align_corners)


def at_least_float32(x: Tensor) -> Tensor:
    """Half precision becomes float32; float64 stays, so that gradients can be checked."""
    return x if x.dtype == torch.float64 else x.float()


def taps(low: int, high: int, *, align_corners: bool) -> tuple[Tensor, Tensor]:
    """Between which low positions each of the `high` outputs lies: the left one (int64), and the right one's share.

    The right neighbour is the next position, or the left one itself where there is no other; shares are float64. Either
    the corner pixels of both grids coincide (align_corners), or the corners of their areas do, and what lies outside
    the outermost pixel centres takes their value.
    """
    at = torch.arange(high, dtype=torch.float64)
    at = at * ((low - 1) / max(high - 1, 1)) if align_corners else ((at + 0.5) * (low / high) - 0.5).clamp(0, low - 1)
    left = at.floor().long().clamp(max=max(low - 2, 0))
    return left, at - left


def _weights(low: int, high: int, *, align_corners: bool) -> Tensor:
    """(high, low) float64 weights of linear interpolation: each row holds at most two, summing to 1."""
    left, part = taps(low, high, align_corners=align_corners)
    weights = torch.zeros(high, low, dtype=torch.float64)
    row = torch.arange(high)
    weights[row, left] = 1 - part
    weights[row, (left + 1).clamp(max=low - 1)] += part
    return weights
