"""ResNet for dense prediction: a deep stem, and dilation in place of stride in the last two stages (output stride 8).

Shapes for an input of (B, 3, H, W), width c (the published 64) and size h = ceil(H/8), w = ceil(W/8):

    layer0    3x3 stride 2 to c, 3x3 to c, 3x3 to 2c; max pool 3x3 stride 2    (B, 2c, 2h, 2w) or one less
    layer1    bottlenecks of c                                              (B, 4c, as before)
    layer2    bottlenecks of 2c, the first with stride 2                    (B, 8c, h, w)
    layer3    bottlenecks of 4c, dilation 2                                 (B, 16c, h, w)
    layer4    bottlenecks of 8c, dilation 4                                 (B, 32c, h, w)

The rules, those of the PSPNet authors' ResNet ("v2" weights):

- the stem is three 3x3 convolutions instead of one 7x7, each followed by batch norm and ReLU;
- in a bottleneck it is the 3x3 convolution that has the stride and the dilation, in every block of its stage, the first
  included; the projection of the first block of layers 3 and 4 has stride 1;
- padding equals dilation, so every size is halved rounding up and any input of at least 1 x 1 works;
- batch norms have eps 1e-5 and momentum 0.1, convolutions no bias.

Source: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016; Zhao et al., "Pyramid Scene Parsing
Network", CVPR 2017, with its published code's stem.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from segstream.model.networks.blocks import Bottleneck, call_block, conv_bn


@dataclass(frozen=True, slots=True, kw_only=True)
class ResNetConfig:
    """Bottlenecks in each of the four stages, and the channels that all others are multiples of."""

    blocks: tuple[int, ...]
    width: int = 64


class ResNet(nn.Module):
    """The backbone; its weights are as torch draws them.

    Args:
        config: sizes.
        checkpointing: keep only what enters each bottleneck, see `model.networks.blocks`.
    """

    def __init__(self, config: ResNetConfig, *, checkpointing: bool = False) -> None:
        super().__init__()
        self.checkpointing = checkpointing
        c = config.width
        self.layer0 = nn.Sequential(
            *conv_bn(3, c, 3, stride=2),
            *conv_bn(c, c, 3),
            *conv_bn(c, 2 * c, 3),
            nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
        )
        self.layer1 = _stage(2 * c, c, config.blocks[0])
        self.layer2 = _stage(4 * c, 2 * c, config.blocks[1], stride=2)
        self.layer3 = _stage(8 * c, 4 * c, config.blocks[2], dilation=2)
        self.layer4 = _stage(16 * c, 8 * c, config.blocks[3], dilation=4)

    def features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised images (B, 3, H, W) -> layer3, (B, 16 * width, h, w), and layer4, (B, 32 * width, h, w)."""
        x = self.layer0(images)
        stages = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            for block in stage:
                x = call_block(block, x, checkpointing=self.checkpointing)
            stages.append(x)
        return stages[2], stages[3]


def _stage(num_in: int, num_mid: int, blocks: int, *, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    first = Bottleneck(num_in, num_mid, stride=stride, dilation=dilation)
    num_out = num_mid * Bottleneck.expansion
    return nn.Sequential(first, *(Bottleneck(num_out, num_mid, dilation=dilation) for _ in range(blocks - 1)))
