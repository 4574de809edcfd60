import pytest
import torch

from segstream.model.networks.build import build
from segstream.model.types import TrainOutput
from tests.model.plain import TINY


def test_train_mode_returns_what_the_loss_upsamples():
    output = build("hrnet-tiny", 5, **TINY).train()(torch.randn(2, 3, 33, 42))
    assert isinstance(output, TrainOutput)
    assert (output.logits.shape, output.size_hw) == ((2, 5, 9, 11), (33, 42))


def test_eval_upsamples_with_aligned_corners():
    net = build("hrnet-tiny", 5, init="kaiming", **TINY).eval()
    images = torch.randn(1, 3, 33, 41)
    with torch.no_grad():
        low = net.last_layer(net.features(images))
        high = net(images)
    assert torch.allclose(high[:, :, ::4, ::4], low, atol=1e-6)  # 33 = 4 * 8 + 1: every fourth pixel is a grid point


def test_a_branch_reaches_every_other():
    """One exchange, by hand: resize up after a 1x1 convolution, strided 3x3 down, sum, ReLU."""
    net = build("hrnet-tiny", 2, init="kaiming", **TINY).eval()
    exchange = net.stage2[0]
    fine, coarse = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 4, 4)
    with torch.no_grad():
        a, b = exchange.branches[0](fine), exchange.branches[1](coarse)
        up = exchange.fuse_layers[0][1](b)
        up = torch.nn.functional.interpolate(up, size=(8, 8), mode="bilinear", align_corners=False)
        down = exchange.fuse_layers[1][0](a)
        got = exchange([fine, coarse])
    assert torch.allclose(got[0], (a + up).relu(), atol=1e-6)
    assert torch.allclose(got[1], (b + down).relu(), atol=1e-6)


def test_initialisation_scales():
    for init, expected in (("reference", 0.001), ("kaiming", (2 / (64 * 9)) ** 0.5)):
        net = build("hrnet-w18-small", 3, init=init)
        assert net.conv2.weight.detach().std().item() == pytest.approx(expected, rel=0.05)
        bias = net.last_layer[0].bias.detach()  # uniform within 1 / sqrt(fan in)
        assert 0.8 * 240**-0.5 < bias.abs().max().item() <= 240**-0.5
        assert net.bn1.momentum == 0.01
    assert {m.momentum for m in build("hrnet-tiny", 3, bn_momentum=0.1).modules() if hasattr(m, "momentum")} == {0.1}
    with torch.device("meta"):
        w18 = sum(p.numel() for p in build("hrnet-w18", 19).parameters())
    assert w18 == pytest.approx(9.6e6, rel=0.02)  # the authors' table says 9.6 M
