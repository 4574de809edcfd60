import pytest
import torch

from segstream.model.networks.build import build
from segstream.model.types import TrainOutput
from segstream.shards.errors import DataError, UsageError
from tests.model.plain import published, rows, shaken

TINY = {"stem": 8, "stage1_width": 4, "widths": [4, 4, 6, 8], "blocks": 1}


@pytest.fixture(scope="module")
def w48():
    with torch.device("meta"):
        return build("hrnet-w48", 194)


def test_w48_has_the_published_number_of_parameters(w48):
    assert sum(p.numel() for p in w48.parameters()) == 65_985_554


def test_w48_naive_differs_in_the_last_layer_only():
    with torch.device("meta"):
        assert sum(p.numel() for p in build("hrnet-w48", 316).parameters()) == 66_073_516


def test_w48_has_the_published_names_shapes_and_types_in_their_order(w48):
    assert rows(w48) == published("mseg_hrnet_w48_194.tsv")


def test_names_of_the_corners_of_the_structure(w48):
    shapes = {name: tuple(t.shape) for name, t in w48.state_dict().items()}
    assert shapes["layer1.0.downsample.0.weight"] == (256, 64, 1, 1)
    assert shapes["transition1.1.0.0.weight"] == (96, 256, 3, 3)
    assert shapes["stage4.2.fuse_layers.3.0.1.0.weight"] == (48, 48, 3, 3)
    assert shapes["stage4.2.fuse_layers.3.0.2.0.weight"] == (384, 48, 3, 3)
    assert shapes["stage3.3.fuse_layers.0.2.0.weight"] == (48, 192, 1, 1)
    assert shapes["last_layer.3.bias"] == (194,)
    assert len(shapes) == 1839


@pytest.mark.parametrize("size_hw", [(33, 41), (32, 32), (17, 50), (1, 1), (30, 7)])
def test_logits_come_at_input_size_whatever_it_is(size_hw):
    net = build("hrnet-tiny", 5, **TINY).eval()
    with torch.no_grad():
        assert net(torch.zeros(2, 3, *size_hw)).shape == (2, 5, *size_hw)


def test_train_mode_returns_what_the_loss_upsamples():
    net = build("hrnet-tiny", 5, **TINY).train()
    output = net(torch.randn(2, 3, 33, 42))
    assert isinstance(output, TrainOutput)
    assert output.logits.shape == (2, 5, 9, 11)
    assert output.size_hw == (33, 42)


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


def test_initial_weights_are_a_function_of_the_seed_alone():
    torch.manual_seed(0)
    a = build("hrnet-tiny", 3, seed=7, **TINY).state_dict()
    torch.manual_seed(1)
    b = build("hrnet-tiny", 3, seed=7, **TINY).state_dict()
    c = build("hrnet-tiny", 3, seed=8, **TINY).state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["conv1.weight"], c["conv1.weight"])


def test_initialisation_scales():
    for init, expected in (("reference", 0.001), ("kaiming", (2 / (64 * 9)) ** 0.5)):
        net = build("hrnet-w18-small", 3, init=init)
        assert net.conv2.weight.detach().std().item() == pytest.approx(expected, rel=0.05)
        bias = net.last_layer[0].bias.detach()  # uniform within 1 / sqrt(fan in)
        assert 0.8 * 240**-0.5 < bias.abs().max().item() <= 240**-0.5
        assert net.bn1.momentum == 0.01
    assert {m.momentum for m in build("hrnet-tiny", 3, bn_momentum=0.1).modules() if hasattr(m, "momentum")} == {0.1}


def test_presets_have_the_authors_sizes():
    with torch.device("meta"):
        sizes = {arch: sum(p.numel() for p in build(arch, 19).parameters()) for arch in ("hrnet-w18", "hrnet-w48")}
    assert sizes["hrnet-w48"] == 65_985_554 - (194 - 19) * 721
    assert sizes["hrnet-w18"] == pytest.approx(9.6e6, rel=0.02)  # the authors' table says 9.6 M


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: build("hrnet-w47", 3), UsageError, r"'hrnet-w47' is unknown; did you mean 'hrnet-w48'\?"),
        (lambda: build("hrnet-tiny", 3, width=[4]), UsageError, r"no option 'width'; did you mean 'widths'\?"),
        (lambda: build("hrnet-tiny", 3, widths=[4, 8]), DataError, r"widths: expected 4 positive integers"),
        (
            lambda: build("hrnet-tiny", 3, blocks=0),
            DataError,
            r"blocks: expected 3 positive integers, found \(0, 0, 0\)",
        ),
        (lambda: build("hrnet-tiny", 3, stem="x"), DataError, r"stem: expected 1 positive"),
        (lambda: build("hrnet-tiny", 3, init="xavier"), DataError, r"init: 'xavier' is not one of"),
        (lambda: build("hrnet-tiny", 3, seed=1.5), DataError, r"seed: 1.5 is not an integer"),
        (lambda: build("hrnet-tiny", 3, bn_momentum=0), DataError, r"bn_momentum: 0 is not a number above 0"),
        (lambda: build("hrnet-tiny", 0), DataError, r"num_classes: 0"),
    ],
)
def test_bad_calls_are_named(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_channels_last_changes_nothing():
    net = shaken(build("hrnet-tiny", 4, **TINY)).eval()
    images = torch.randn(1, 3, 33, 42)
    with torch.no_grad():
        expected = net(images)
        got = net.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
