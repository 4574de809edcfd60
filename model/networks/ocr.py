"""HRNet-OCR: every pixel of an HRNet asks what the classes look like in this very image.

Shapes for an input of (B, 3, H, W), h = ceil(H/4), w = ceil(W/4), C stacked channels of the trunk (W48: 720), widths
m (512) and k (256), K classes:

    backbone        see `model.networks.hrnet`                               (B, C, h, w)
    conv3x3_ocr     3x3 to m, norm, ReLU                            (B, m, h, w): pixels
    aux_head        1x1 to C, norm, ReLU, 1x1                       (B, K, h, w): first guess
    gather          mean of pixels, weighted by the guess           (B, m, K, 1): classes
    context         attention of pixels (query) to classes          (B, m, h, w)
    conv_bn_dropout context beside pixels, 1x1 to m, norm, ReLU     (B, m, h, w): augmented pixels
    cls_head        1x1                                             (B, K, h, w)
    output          bilinear, half-pixel centres                    (B, K, H, W)

The rules, those of NVIDIA's code, which follows the HRNet authors':

- a class's vector is the mean of pixels weighted by the softmax of its guess over all *pixels* of the image, not over
  classes;
- query and key are two 1x1 convolutions each, value and the way back up one each, all without bias and all followed by
  batch norm and ReLU; scores are divided by sqrt(k) before their softmax over classes;
- context comes first in the concatenation; dropout drops whole channels (Dropout2d) with probability 0.05;
- the 3x3 convolution and the aux head's first have biases although batch norm follows them;
- main and auxiliary logits are upsampled bilinearly with align_corners=False, unlike in `model.networks.hrnet` and
  `model.networks.pspnet`; the auxiliary loss counts 0.4, and its gradient also comes through the class vectors;
- batch norms have eps 1e-5 and momentum 0.1, those of the trunk too;
- first weights: the trunk's as in `model.networks.hrnet.draw_trunk`, the heads' uniform as torch draws them.

Any input of at least 1 x 1 works, see `model.networks.hrnet`; with half-pixel centres no size is better than another.

Parameter names and shapes are those of the published weights.
Source: Yuan, Chen, Wang, "Object-Contextual Representations for Semantic Segmentation", ECCV 2020.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import softmax

from segstream.model.networks.blocks import conv, draw_uniform, set_momentum
from segstream.model.networks.hrnet import HRNetConfig, HRNetTrunk, Init, draw_trunk
from segstream.model.networks.upsample import bilinear
from segstream.model.types import Aux, TrainOutput

BN_MOMENTUM = 0.1
DROPOUT = 0.05
AUX_WEIGHT = 0.4


@dataclass(frozen=True, slots=True, kw_only=True)
class OCRConfig:
    """Sizes: the trunk's, the channels of pixels and classes, and those of query, key and value."""

    trunk: HRNetConfig
    mid: int = 512
    key: int = 256


class ObjectAttention(nn.Module):
    """Pixels attend to class vectors."""

    def __init__(self, num_in: int, num_key: int) -> None:
        super().__init__()
        self.f_pixel = nn.Sequential(*_conv_norm(num_in, num_key), *_conv_norm(num_key, num_key))
        self.f_object = nn.Sequential(*_conv_norm(num_in, num_key), *_conv_norm(num_key, num_key))
        self.f_down = nn.Sequential(*_conv_norm(num_in, num_key))
        self.f_up = nn.Sequential(*_conv_norm(num_key, num_in))

    def forward(self, pixels: Tensor, classes: Tensor) -> Tensor:
        """(B, m, h, w) and (B, m, K, 1) -> context (B, m, h, w)."""
        query = self.f_pixel(pixels).flatten(2).transpose(1, 2)  # (B, hw, k)
        key = self.f_object(classes).flatten(2).transpose(1, 2)  # (B, K, k)
        value = self.f_down(classes).flatten(2).transpose(1, 2)
        scores = torch.matmul(query, key.transpose(1, 2)) * query.shape[2] ** -0.5  # (B, hw, K)
        context = torch.matmul(softmax(scores, dim=2), value)
        up: Tensor = self.f_up(context.transpose(1, 2).reshape(-1, context.shape[2], *pixels.shape[-2:]))
        return up


class Distribution(nn.Module):
    """Class vectors distributed to pixels: context beside pixels, mixed."""

    def __init__(self, num_mid: int, num_key: int) -> None:
        super().__init__()
        self.object_context_block = ObjectAttention(num_mid, num_key)
        self.conv_bn_dropout = nn.Sequential(*_conv_norm(2 * num_mid, num_mid), nn.Dropout2d(DROPOUT))

    def forward(self, pixels: Tensor, classes: Tensor) -> Tensor:
        """(B, m, h, w) and (B, m, K, 1) -> (B, m, h, w)."""
        mixed: Tensor = self.conv_bn_dropout(torch.cat([self.object_context_block(pixels, classes), pixels], dim=1))
        return mixed


class OCRHead(nn.Module):
    """From a trunk's features to logits."""

    def __init__(self, num_in: int, num_mid: int, num_key: int, num_classes: int) -> None:
        super().__init__()
        self.conv3x3_ocr = nn.Sequential(nn.Conv2d(num_in, num_mid, 3, padding=1), _norm_relu(num_mid))
        self.ocr_distri_head = Distribution(num_mid, num_key)
        self.cls_head = nn.Conv2d(num_mid, num_classes, 1)
        self.aux_head = nn.Sequential(
            nn.Conv2d(num_in, num_in, 1), _norm_relu(num_in), nn.Conv2d(num_in, num_classes, 1)
        )

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, C, h, w) -> logits and first guess, (B, K, h, w), and augmented pixels, (B, m, h, w)."""
        pixels = self.conv3x3_ocr(features)
        aux = self.aux_head(features)
        augmented = self.ocr_distri_head(pixels, gather(pixels, aux))
        return self.cls_head(augmented), aux, augmented


class OCRNet(nn.Module):
    """The network. See the module's docstring for shapes.

    Args:
        config: sizes.
        num_classes: channels of the logits.
        init: of the trunk, see `model.networks.hrnet.draw_trunk`.
        bn_momentum: share of the newest batch in the running statistics.
        aux_weight: what the auxiliary loss counts.
        seed: key of the initial weights.
        checkpointing: see `model.networks.hrnet.HRNetTrunk`.
        **heads: further ones by name, drawn after that of `ocr` and as it is.
    """

    def __init__(
        self,
        config: OCRConfig,
        num_classes: int,
        *,
        init: Init = "reference",
        bn_momentum: float = BN_MOMENTUM,
        aux_weight: float = AUX_WEIGHT,
        seed: int = 0,
        checkpointing: bool = False,
        **heads: nn.Module,
    ) -> None:
        super().__init__()
        self.aux_weight = aux_weight
        self.backbone = HRNetTrunk(config.trunk, checkpointing=checkpointing)
        self.ocr = OCRHead(self.backbone.num_features, config.mid, config.key, num_classes)
        generator = torch.Generator().manual_seed(seed)
        draw_trunk(self.backbone, init, generator)
        draw_uniform(self.ocr, generator)
        for name, head in heads.items():
            draw_uniform(head, generator)
            self.add_module(name, head)
        set_momentum(self, bn_momentum)

    def forward(self, images: Tensor) -> Tensor | TrainOutput:
        """Segment images.

        Args:
            images: (B, 3, H, W) float RGB, ImageNet-normalised.

        Returns:
            In eval mode the logits, (B, num_classes, H, W). In train mode logits and first guess at 1/4, which the
            loss upsamples.
        """
        features = self.backbone.features(images)
        logits, guess, _ = self.ocr(features)
        size_hw = (images.shape[-2], images.shape[-1])
        if not self.training:
            return bilinear(logits, size_hw)
        aux = Aux(name="aux", logits=guess, weight=self.aux_weight, align_corners=False)
        return TrainOutput(logits=logits, size_hw=size_hw, aux=(aux,), align_corners=False, features=features)


def gather(pixels: Tensor, guess: Tensor) -> Tensor:
    """Class vectors: (B, m, h, w) pixels and (B, K, h, w) logits -> (B, m, K, 1)."""
    shares = softmax(guess.flatten(2), dim=2)  # over pixels
    return torch.matmul(pixels.flatten(2), shares.transpose(1, 2)).unsqueeze(3)


def _conv_norm(num_in: int, num_out: int) -> tuple[nn.Module, nn.Module]:
    return conv(num_in, num_out, 1), _norm_relu(num_out)


def _norm_relu(num: int) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(num), nn.ReLU(inplace=True))
