import math

import pytest
import torch
from torch.nn.functional import max_pool2d

from segstream.model.networks.build import build
from tests.model.plain import Plain, bilinear

TINY = {"width": 4, "blocks": (2, 1, 2, 2)}


def pooled(x, bins):
    """Adaptive average: bin i of n spans floor(i * size / n) to ceil((i + 1) * size / n)."""

    def spans(size):
        return [slice(i * size // bins, math.ceil((i + 1) * size / bins)) for i in range(bins)]

    lines = [torch.stack([x[..., r, c].mean(dim=(-2, -1)) for c in spans(x.shape[-1])], -1) for r in spans(x.shape[-2])]
    return torch.stack(lines, -2)


def pspnet(net, x):
    """Main and auxiliary logits at 1/8 and layer4's features, spelt out in float64."""
    p = Plain(net)
    x = p.norm(p.conv(x.double(), "layer0.0", stride=2), "layer0.1").relu()
    x = p.norm(p.conv(x, "layer0.3"), "layer0.4").relu()
    x = p.norm(p.conv(x, "layer0.6"), "layer0.7").relu()
    x = max_pool2d(x, 3, stride=2, padding=1)
    for layer, blocks, stride, dilation in zip((1, 2, 3, 4), TINY["blocks"], (1, 2, 1, 1), (1, 1, 2, 4), strict=True):
        for block in range(blocks):
            x = p.bottleneck(x, f"layer{layer}.{block}", stride if block == 0 else 1, dilation)
        if layer == 3:
            layer3 = x
    stack = [x]
    for i, bins in enumerate((1, 2, 3, 6)):
        y = p.norm(p.conv(pooled(x, bins), f"ppm.features.{i}.1"), f"ppm.features.{i}.2").relu()
        stack.append(bilinear(y, (x.shape[-2], x.shape[-1]), aligned=True))
    main = p.conv(p.norm(p.conv(torch.cat(stack, 1), "cls.0"), "cls.1").relu(), "cls.4")
    aux = p.conv(p.norm(p.conv(layer3, "aux.0"), "aux.1").relu(), "aux.4")
    return {"main": main, "aux": aux, "features": x}


def test_the_backbone_is_drawn_by_fan_out_and_the_heads_by_fan_in():
    net = build("pspnet-50", 3, width=16, blocks=1)
    assert net.layer4[0].conv2.weight.std().item() == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.05)
    for conv in (net.cls[0], net.ppm.features[0][1], net.cls[4]):
        bound = (conv.in_channels * conv.kernel_size[0] ** 2) ** -0.5
        assert 0.95 * bound < conv.weight.abs().max().item() <= bound
