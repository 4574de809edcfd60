"""Hierarchical multi-scale attention: one network on several sizes of an image, and where to trust which.

Each size of the image gives logits, a first guess (see `model.networks.ocr`) and an attention in 0..1, (B, 1, h, w),
read from the augmented pixels: two 3x3 convolutions with batch norm and ReLU, a 1x1, no biases, a sigmoid.

The rules, those of NVIDIA's code; "up" and "down" are bilinear with align_corners=False and no smoothing:

- the image at scale s is resized to floor(s * H) x floor(s * W), at least 1 x 1; at scale 1 it is left alone;
- logits, guess and attention, after its sigmoid, are upsampled to the size of *that scale's image* first. Scales are
  combined there, on logits, not on probabilities, and in float32 whatever the network runs in;
- training takes scales `lo_scale` (0.5) and 1, whatever `n_scales` says, the low one first (batch norms see it first,
  dropout draws for it first), and its attention alone decides:
      logits = up(a_lo * logits_lo) + (1 - up(a_lo)) * logits_hi
  and the same with the same attention for the first guesses. The attention head sees the high scale too, so that its
  batch norms record it;
- losses: main + 0.4 auxiliary; with a `scale_weight` above 0 also that much times the loss of logits_lo, upsampled, and
  of logits_hi, by themselves. (Region mutual information belongs to the main loss only.);
- use goes from the highest scale down. The highest gives the first prediction p; then, for each lower scale s,
      s >= 1:  p = a_s * logits_s + (1 - a_s) * down(p)
      s < 1:   p = up(a_s * logits_s) + (1 - up(a_s)) * p
  so p ends at scale 1. With scales (`lo_scale`, 1), the default, this is the formula of training.

Batch norms, dropout and first weights are those of `model.networks.ocr`, for the attention head too. Any input of at
least 1 x 1 works: odd sizes lose up to one pixel's worth of alignment per scale to the rounding above, as in the
reference.

Parameter names and shapes are those of the published weights.
Source: Tao, Sapra, Catanzaro, "Hierarchical Multi-Scale Attention for Semantic Segmentation", arXiv 2005.10821.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn

from segstream.model.networks.blocks import conv, conv_bn
from segstream.model.networks.ocr import OCRConfig, OCRNet
from segstream.model.networks.upsample import at_least_float32, bilinear
from segstream.model.types import Aux, TrainOutput
from segstream.shards.errors import DataError

LOW_SCALE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class HMSAConfig(OCRConfig):
    """Sizes: those of the network at one scale, and the channels of the attention head."""

    attention: int = 256


class ScaleOutput(NamedTuple):
    """One scale's view, all at the size of that scale's image, float32."""

    logits: Tensor
    """(B, K, H_s, W_s)."""
    aux: Tensor
    """(B, K, H_s, W_s), the first guess."""
    attention: Tensor
    """(B, 1, H_s, W_s) in 0..1."""
    features: Tensor | None
    """The trunk's, at 1/4, as they come; in train mode only."""


class HMSA(OCRNet):
    """The network. See the module's docstring for its rules.

    Args:
        config: sizes.
        num_classes: channels of the logits.
        n_scales: sizes of the image, relative to the input, to combine in eval mode; 1 must be among them. None:
            those of training.
        lo_scale: the low one of training, above 0 and below 1.
        scale_weight: what the loss of each scale by itself counts in training; the authors' Cityscapes recipes
            have 0.05.
        **further: those of `OCRNet`; in training a batch counts once a scale in the running statistics.

    Raises:
        DataError: `n_scales` are not distinct positive numbers with 1 among them.
    """

    scale_attn: nn.Sequential

    def __init__(
        self,
        config: HMSAConfig,
        num_classes: int,
        *,
        n_scales: Sequence[float] | None = None,
        lo_scale: float = LOW_SCALE,
        scale_weight: float = 0.0,
        **further: Any,
    ) -> None:
        super().__init__(config, num_classes, scale_attn=_attention_head(config.mid, config.attention), **further)
        self.lo_scale = lo_scale
        self.n_scales = high_to_low((lo_scale, 1.0) if n_scales is None else n_scales)
        self.scale_weight = scale_weight

    def forward(self, images: Tensor, n_scales: Sequence[float] | None = None) -> Tensor | TrainOutput:
        """Segment images.

        Args:
            images: (B, 3, H, W) float RGB, ImageNet-normalised.
            n_scales: in eval mode, scales to use instead of the network's own.

        Returns:
            In eval mode the logits, (B, num_classes, H, W). In train mode the combined logits and first guess at
            (H, W) and, with a `scale_weight`, the low scale's logits at its own size and the high scale's.

        Raises:
            DataError: `n_scales` do not fit, or were given in train mode.
        """
        if self.training:
            if n_scales is not None:
                raise DataError("hmsa: n_scales in train mode; training always combines two, leave it out")
            return self._train(images)
        return self._combined(images, self.n_scales if n_scales is None else high_to_low(n_scales))

    def at_scale(self, images: Tensor, scale: float) -> ScaleOutput:
        """What the network makes of the images at one scale."""
        size_hw = _scaled(images, scale)
        features = self.backbone.features(images if scale == 1 else bilinear(images, size_hw))
        logits, aux, pixels = self.ocr(features)
        maps = (logits, aux, self.scale_attn(pixels))
        logits, aux, attention = (bilinear(at_least_float32(x), size_hw) for x in maps)
        return ScaleOutput(logits, aux, attention, features if self.training else None)

    def _train(self, images: Tensor) -> TrainOutput:
        size_hw = (images.shape[-2], images.shape[-1])
        lo = self.at_scale(images, self.lo_scale)
        hi = self.at_scale(images, 1.0)
        attention = bilinear(lo.attention, size_hw)
        logits = bilinear(lo.attention * lo.logits, size_hw) + (1 - attention) * hi.logits
        guess = bilinear(lo.attention * lo.aux, size_hw) + (1 - attention) * hi.aux
        aux = [Aux(name="aux", logits=guess, weight=self.aux_weight, align_corners=False)]
        if self.scale_weight > 0:
            aux.append(Aux(name="lo", logits=lo.logits, weight=self.scale_weight, align_corners=False))
            aux.append(Aux(name="hi", logits=hi.logits, weight=self.scale_weight, align_corners=False))
        return TrainOutput(logits=logits, size_hw=size_hw, aux=tuple(aux), align_corners=False, features=hi.features)

    def _combined(self, images: Tensor, scales: Sequence[float]) -> Tensor:
        combined = self.at_scale(images, scales[0]).logits
        for scale in scales[1:]:
            logits, _, attention, _ = self.at_scale(images, scale)
            if scale >= 1:
                combined = attention * logits + (1 - attention) * bilinear(combined, _scaled(images, scale))
            else:
                size_hw = _scaled(images, 1.0)
                lower = bilinear(attention * logits, size_hw)
                combined = lower + (1 - bilinear(attention, size_hw)) * combined
        return combined


def high_to_low(n_scales: Sequence[float]) -> tuple[float, ...]:
    """Scales in the order in which they are combined.

    Raises:
        DataError: they are not distinct positive numbers with 1 among them.
    """
    scales = tuple(n_scales) if isinstance(n_scales, list | tuple) else ()
    positive = all(isinstance(s, int | float) and not isinstance(s, bool) and 0 < s < float("inf") for s in scales)
    if not positive or 1.0 not in scales or len(set(scales)) < len(scales):
        raise DataError(f"hmsa: n_scales {n_scales!r} are not distinct positive numbers with 1.0 among them")
    return tuple(sorted(map(float, scales), reverse=True))


def _attention_head(num_in: int, num_mid: int) -> nn.Sequential:
    names = ("conv0", "bn0", "re0", "conv1", "bn1", "re1", "conv2", "sig")
    twice = (*conv_bn(num_in, num_mid, 3), *conv_bn(num_mid, num_mid, 3))
    return nn.Sequential(OrderedDict(zip(names, (*twice, conv(num_mid, 1, 1), nn.Sigmoid()), strict=True)))


def _scaled(images: Tensor, scale: float) -> tuple[int, int]:
    return max(int(images.shape[-2] * scale), 1), max(int(images.shape[-1] * scale), 1)
