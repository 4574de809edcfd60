"""PSPNet: a dilated ResNet whose last features are seen together with their averages over ever larger regions.

Shapes for an input of (B, 3, H, W), width c (64), h = ceil(H/8), w = ceil(W/8), K classes:

    layer3, layer4    see `model.networks.resnet`                     (B, 16c, h, w), (B, 32c, h, w)
    ppm               pool, 1x1, norm, ReLU, upsample; x4     (B, 64c, h, w): layer4, then bins 1, 2, 3, 6
    cls               3x3 to 8c, norm, ReLU, dropout, 1x1     (B, K, h, w)
    aux               the same on layer3, 3x3 to 4c           (B, K, h, w), in train mode only
    output            bilinear, align_corners                 (B, K, H, W)

The rules, those of the published code:

- the pyramid averages adaptively into 1, 2, 3 and 6 bins a side; each average is reduced to a quarter of layer4's
  channels by a 1x1 convolution without bias, batch norm and ReLU, and upsampled bilinearly with aligned corners;
- dropout drops whole channels (Dropout2d) with probability 0.1; the last 1x1 convolutions have biases;
- main and auxiliary logits are upsampled to the input's size bilinearly with aligned corners before their losses, and
  the auxiliary loss counts 0.4;
- batch norms have eps 1e-5 and momentum 0.1;
- the heads (ppm, cls, aux) learn at 10 times the backbone's rate;
- first weights: the backbone's from N(0, 2 / fan_out), the heads' uniform as torch draws them.

Any input of at least 1 x 1 works in eval mode. The reference refuses sides that are not a multiple of 8 plus 1. There,
and only there, the corners of the 1/8 grid lie on the input's corner pixels, which is what aligned corners assume;
elsewhere the output is shifted by less than one cell of that grid at the far edge.

Parameter names and shapes are those of the published weights.
Source: Zhao et al., "Pyramid Scene Parsing Network", CVPR 2017.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from segstream.model.networks.blocks import conv_bn, draw_normal, draw_uniform, set_momentum
from segstream.model.networks.resnet import ResNet, ResNetConfig
from segstream.model.networks.upsample import bilinear
from segstream.model.types import Aux, TrainOutput
from segstream.shards.errors import DataError

BN_MOMENTUM = 0.1
BINS = (1, 2, 3, 6)
DROPOUT = 0.1
AUX_WEIGHT = 0.4
HEADS_LR = 10.0


class PyramidPooling(nn.Module):
    """Features beside their averages over regions of several sizes."""

    def __init__(self, num_in: int, bins: Sequence[int] = BINS) -> None:
        super().__init__()
        reduced = num_in // len(bins)
        self.features = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(bin_), *conv_bn(num_in, reduced, 1)) for bin_ in bins
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, 2C, h, w)."""
        size_hw = (x.shape[-2], x.shape[-1])
        return torch.cat([x, *(bilinear(branch(x), size_hw, align_corners=True) for branch in self.features)], dim=1)


class PSPNet(ResNet):
    """The network. See the module's docstring for shapes.

    Args:
        config: sizes of the backbone; the heads' follow from its width.
        num_classes: channels of the logits.
        bn_momentum: share of the newest batch in the running statistics.
        aux_weight: what the auxiliary loss counts.
        seed: key of the initial weights.
        checkpointing: see `ResNet`.
    """

    def __init__(
        self,
        config: ResNetConfig,
        num_classes: int,
        *,
        bn_momentum: float = BN_MOMENTUM,
        aux_weight: float = AUX_WEIGHT,
        seed: int = 0,
        checkpointing: bool = False,
    ) -> None:
        super().__init__(config, checkpointing=checkpointing)
        self.aux_weight = aux_weight
        generator = torch.Generator().manual_seed(seed)
        draw_normal(self, generator)
        c = config.width
        self.ppm = PyramidPooling(32 * c)
        self.cls = _head(64 * c, 8 * c, num_classes)
        self.aux = _head(16 * c, 4 * c, num_classes)
        for head in (self.ppm, self.cls, self.aux):
            draw_uniform(head, generator)
        set_momentum(self, bn_momentum)

    def coarse(self, images: Tensor) -> TrainOutput:
        """Normalised images (B, 3, H, W) -> logits before the last upsampling, (B, num_classes, h, w).

        Raises:
            DataError: one image alone in train mode, where its average over one bin has no variance to normalise by.
        """
        lone = self.ppm.features[0][2]  # type: ignore[index]  # norms synchronised over processes see more than this
        if images.shape[0] == 1 and lone.training and isinstance(lone, nn.BatchNorm2d):
            raise DataError("pspnet: 1 image in train mode leaves batch norm one value a channel; use at least 2")
        layer3, layer4 = self.features(images)
        main = self.cls(self.ppm(layer4))
        aux = (Aux(name="aux", logits=self.aux(layer3), weight=self.aux_weight),) if self.training else ()
        size_hw = (images.shape[-2], images.shape[-1])
        return TrainOutput(logits=main, size_hw=size_hw, aux=aux, features=layer4)

    def lr_groups(self) -> tuple[tuple[nn.Module, float], ...]:
        """The five parts of the backbone at the learning rate, the three heads at 10 times it."""
        backbone = (self.layer0, self.layer1, self.layer2, self.layer3, self.layer4)
        return (*((part, 1.0) for part in backbone), *((head, HEADS_LR) for head in (self.ppm, self.cls, self.aux)))

    def forward(self, images: Tensor) -> Tensor | TrainOutput:
        """Segment images.

        Args:
            images: (B, 3, H, W) float RGB, ImageNet-normalised.

        Returns:
            In eval mode the logits, (B, num_classes, H, W). In train mode `coarse(images)`, which the loss upsamples.
        """
        output = self.coarse(images)
        return output if self.training else bilinear(output.logits, output.size_hw, align_corners=True)


def _head(num_in: int, num_mid: int, num_classes: int) -> nn.Sequential:
    last = nn.Dropout2d(DROPOUT), nn.Conv2d(num_mid, num_classes, 1)
    return nn.Sequential(*conv_bn(num_in, num_mid, 3), *last)
