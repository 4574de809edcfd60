"""HRNetV2 for segmentation: parallel branches at 1/4, 1/8, 1/16 and 1/32 of the input that keep exchanging features.

Shapes for an input of (B, 3, H, W), h = ceil(H/4), w = ceil(W/4), branch widths C0..C3 (W48: 48, 96, 192, 384):

    conv1, conv2     3x3 stride 2 each         (B, stem, h, w)
    layer1           bottlenecks               (B, 4 * stage1_width, h, w)
    stage2           2 branches                (B, C0, h, w), (B, C1, h/2, w/2)
    stage3           3 branches                ... (B, C2, h/4, w/4)
    stage4           4 branches                ... (B, C3, h/8, w/8)
    last_layer       branches at 1/4, stacked  (B, num_classes, h, w)
    output           bilinear, align_corners   (B, num_classes, H, W)

Any input of at least 1 x 1 works. Every stride-2 convolution halves rounding up, and a branch is brought to another's
size by name, not by factor, so nothing has to divide. Only where (H - 1) and (W - 1) are multiples of 8, as the
reference demands, do the corners of the 1/4 and 1/8 grids lie exactly on the input's corner pixels, which is what the
final align_corners=True assumes; elsewhere the output is shifted by less than one 1/4-grid cell at the far edge.

Parameter names and shapes are those of the published W48 weights.
Source: Wang et al., "Deep High-Resolution Representation Learning for Visual Recognition", TPAMI 2020.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from segstream.model.networks.blocks import BasicBlock, Bottleneck, call_block, conv, conv_bn, draw_normal, set_momentum
from segstream.model.networks.upsample import bilinear
from segstream.model.types import TrainOutput

BN_MOMENTUM = 0.01
Init = Literal["reference", "kaiming"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HRNetConfig:
    """Sizes: a stage of bottlenecks, then stages of 2, 3 and 4 branches that keep exchanging. The defaults are the
    authors', whatever the widths."""

    widths: tuple[int, ...]
    """Channels of the four branches, finest first."""
    stem: int = 64
    """Channels before the first stage."""
    stage1_width: int = 64
    """Of the bottlenecks' 3x3 convolutions."""
    stage1_blocks: int = 4
    blocks: tuple[int, ...] = (4, 4, 4)
    """Residual blocks of a branch between two exchanges, in stages 2, 3 and 4."""
    modules: tuple[int, ...] = (1, 4, 3)
    """Exchanges of those stages."""


class Exchange(nn.Module):
    """Residual blocks on each branch, then every branch receives the sum of all, each brought to its size and width."""

    def __init__(self, widths: Sequence[int], blocks: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(BasicBlock(width, width) for _ in range(blocks))) for width in widths
        )
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_fuse(widths, source, target) for source in range(len(widths)))
            for target in range(len(widths))
        )

    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        """One (B, C_i, h_i, w_i) per branch -> the same shapes."""
        xs = [branch(x) for branch, x in zip(self.branches, xs, strict=True)]
        return [self._fused(xs, target) for target in range(len(xs))]

    def _fused(self, xs: list[Tensor], target: int) -> Tensor:
        total: Tensor | None = None
        for source, x in enumerate(xs):
            part = self.fuse_layers[target][source](x)  # type: ignore[index]
            if source > target:
                part = bilinear(part, xs[target].shape[-2:])
            total = part if total is None else total + part
        assert total is not None
        return relu(total)


class HRNetTrunk(nn.Module):
    """The network without its head; weights are as torch draws them, see `draw_trunk`.

    Args:
        config: sizes.
        checkpointing: keep only what enters each bottleneck and each exchange, see `model.networks.blocks`.
    """

    def __init__(self, config: HRNetConfig, *, checkpointing: bool = False) -> None:
        super().__init__()
        self.checkpointing = checkpointing
        widths, mid = config.widths, config.stage1_width
        self.num_features = sum(widths)
        self.conv1 = conv(3, config.stem, 3, stride=2)
        self.bn1 = nn.BatchNorm2d(config.stem)
        self.conv2 = conv(config.stem, config.stem, 3, stride=2)
        self.bn2 = nn.BatchNorm2d(config.stem)
        wide = mid * Bottleneck.expansion
        rest = (Bottleneck(wide, mid) for _ in range(config.stage1_blocks - 1))
        self.layer1 = nn.Sequential(Bottleneck(config.stem, mid), *rest)
        self.transition1 = _transition((wide,), widths[:2])
        self.stage2 = _stage(config, 2)
        self.transition2 = _transition(widths[:2], widths[:3])
        self.stage3 = _stage(config, 3)
        self.transition3 = _transition(widths[:3], widths)
        self.stage4 = _stage(config, 4)

    def features(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) -> the four branches at 1/4 size, stacked: (B, C0 + C1 + C2 + C3, h, w)."""
        x = relu(self.bn1(self.conv1(images)), inplace=True)
        x = relu(self.bn2(self.conv2(x)), inplace=True)
        for block in self.layer1:
            x = call_block(block, x, checkpointing=self.checkpointing)
        xs = [x]
        transitions = (self.transition1, self.transition2, self.transition3)
        for transition, stage in zip(transitions, (self.stage2, self.stage3, self.stage4), strict=True):
            xs = [layer(xs[min(i, len(xs) - 1)]) for i, layer in enumerate(transition)]
            for exchange in stage:
                xs = call_block(exchange, xs, checkpointing=self.checkpointing)
        size_hw = xs[0].shape[-2:]
        return torch.cat([xs[0], *(bilinear(x, size_hw) for x in xs[1:])], dim=1)


class HRNet(HRNetTrunk):
    """The network. See the module's docstring for shapes.

    Args:
        config: sizes.
        num_classes: channels of the logits.
        init: see `draw_trunk`; the head is drawn like the trunk.
        bn_momentum: share of the newest batch in the running statistics. The published 0.01 averages over some 100
            steps; in a run of a few hundred steps the statistics then lag behind the weights: use 0.1.
        seed: key of the initial weights; the same key gives the same weights whatever was drawn before.
        checkpointing: see `HRNetTrunk`.
    """

    def __init__(
        self,
        config: HRNetConfig,
        num_classes: int,
        *,
        init: Init = "reference",
        bn_momentum: float = BN_MOMENTUM,
        seed: int = 0,
        checkpointing: bool = False,
    ) -> None:
        super().__init__(config, checkpointing=checkpointing)
        stacked = self.num_features
        self.last_layer = nn.Sequential(
            nn.Conv2d(stacked, stacked, 1),
            nn.BatchNorm2d(stacked),
            nn.ReLU(inplace=True),
            nn.Conv2d(stacked, num_classes, 1),
        )
        set_momentum(self, bn_momentum)
        draw_trunk(self, init, torch.Generator().manual_seed(seed))

    def coarse(self, images: Tensor) -> TrainOutput:
        """Normalised images (B, 3, H, W) -> logits before the last upsampling, (B, num_classes, h, w)."""
        size_hw, features = (images.shape[-2], images.shape[-1]), self.features(images)
        logits = self.last_layer(features)
        return TrainOutput(logits=logits, size_hw=size_hw, features=features if self.training else None)

    def forward(self, images: Tensor) -> Tensor | TrainOutput:
        """Segment images.

        Args:
            images: (B, 3, H, W) float RGB, ImageNet-normalised.

        Returns:
            In eval mode the logits, (B, num_classes, H, W). In train mode `coarse(images)`: the loss upsamples by
            itself, because at full size 194 channels are most of a step's memory and time.
        """
        output = self.coarse(images)
        return output if self.training else bilinear(output.logits, output.size_hw, align_corners=True)


def draw_trunk(net: nn.Module, init: Init, generator: torch.Generator) -> None:
    """Draw the first weights of all convolutions of `net`.

    `reference` draws them from N(0, 0.001), as the published recipes do before they load ImageNet weights (nearly
    every convolution is followed by batch norm, so the scale hardly matters to the forward pass; it makes the first
    steps very large relative to the weights). `kaiming` draws from N(0, 2 / fan_out), the usual choice when training
    from scratch.
    """
    draw_normal(net, generator, std=0.001 if init == "reference" else None)


def _fuse(widths: Sequence[int], source: int, target: int) -> nn.Module:
    """What carries branch `source` to branch `target`: up a 1x1 convolution (then resized), down strided 3x3 ones."""
    if source == target:
        return nn.Identity()
    if source > target:
        return nn.Sequential(conv(widths[source], widths[target], 1), nn.BatchNorm2d(widths[target]))
    same, new = widths[source], widths[target]
    halved = [nn.Sequential(*conv_bn(same, same, 3, stride=2)) for _ in range(target - source - 1)]
    return nn.Sequential(*halved, nn.Sequential(conv(same, new, 3, stride=2), nn.BatchNorm2d(new)))


def _stage(config: HRNetConfig, branches: int) -> nn.Sequential:
    widths, blocks, modules = config.widths[:branches], config.blocks[branches - 2], config.modules[branches - 2]
    return nn.Sequential(*(Exchange(widths, blocks) for _ in range(modules)))


def _transition(before: Sequence[int], after: Sequence[int]) -> nn.ModuleList:
    """Adjust the widths of existing branches and start one more from the coarsest of them."""
    pairs = zip(before, after, strict=False)
    kept = [nn.Identity() if old == new else nn.Sequential(*conv_bn(old, new, 3)) for old, new in pairs]
    begun = [nn.Sequential(*conv_bn(before[-1], new, 3, stride=2)) for new in after[len(before) :]]
    return nn.ModuleList([*kept, *map(nn.Sequential, begun)])
