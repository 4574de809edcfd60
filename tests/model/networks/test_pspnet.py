import math

import pytest
import torch
from torch.nn.functional import max_pool2d

from segstream.model.networks.build import build
from segstream.model.types import TrainOutput
from tests.model.plain import Plain, bilinear, images, shaken

TINY = {"width": 4, "blocks": (2, 1, 2, 2)}


def pooled(x, bins):
    """Adaptive average: bin i of n spans floor(i * size / n) to ceil((i + 1) * size / n)."""

    def spans(size):
        return [slice(i * size // bins, math.ceil((i + 1) * size / bins)) for i in range(bins)]

    lines = [torch.stack([x[..., r, c].mean(dim=(-2, -1)) for c in spans(x.shape[-1])], -1) for r in spans(x.shape[-2])]
    return torch.stack(lines, -2)


def pspnet(net, x):
    """Main and auxiliary logits at 1/8 and layer4's features, spelt out."""
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
    return main, aux, x


@pytest.mark.parametrize("size_hw", [(41, 33), (40, 50)])
def test_eval_is_the_plain_composition_upsampled_with_aligned_corners(size_hw):
    net = shaken(build("pspnet-50", 5, **TINY)).eval()
    x = images(size_hw=size_hw)
    main, _, layer4 = pspnet(net, x)
    with torch.no_grad():
        torch.testing.assert_close(net(x).double(), bilinear(main, size_hw, aligned=True), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(net.features(x)[1].double(), layer4, rtol=1e-4, atol=1e-5)
        assert net.coarse(x).aux == ()


def test_train_mode_returns_main_and_auxiliary_logits_and_the_embedding():
    net = shaken(build("pspnet-50", 5, **TINY)).train()
    x = images(batch=3)
    main, aux, layer4 = pspnet(net, x)
    output = net(x)
    assert isinstance(output, TrainOutput)
    assert (output.size_hw, output.align_corners) == ((41, 33), True)
    torch.testing.assert_close(output.logits.double(), main, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(output.features.double(), layer4, rtol=1e-4, atol=1e-4)
    (only,) = output.aux
    assert (only.name, only.weight, only.align_corners) == ("aux", 0.4, True)
    torch.testing.assert_close(only.logits.double(), aux, rtol=1e-4, atol=1e-4)


def test_gradients_are_those_of_the_plain_composition():
    net = shaken(build("pspnet-50", 3, **TINY)).train().double()
    x = images().double().requires_grad_()
    output = net(x)
    got = torch.autograd.grad(output.logits.square().sum() + output.aux[0].logits.sum(), x)[0]
    main, aux, _ = pspnet(net, x)
    torch.testing.assert_close(got, torch.autograd.grad(main.square().sum() + aux.sum(), x)[0])


def test_the_backbone_is_drawn_by_fan_out_and_the_heads_by_fan_in():
    net = build("pspnet-50", 3, width=16, blocks=1)
    assert net.layer4[0].conv2.weight.std().item() == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.05)
    for conv in (net.cls[0], net.ppm.features[0][1], net.cls[4]):
        bound = (conv.in_channels * conv.kernel_size[0] ** 2) ** -0.5
        assert 0.95 * bound < conv.weight.abs().max().item() <= bound
