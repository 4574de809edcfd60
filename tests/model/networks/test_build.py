"""What holds for every network: its published names, any size of image, a seed, options refused by name."""

import pytest
import torch

from segstream.model.networks.build import build
from segstream.model.types import Coarse
from segstream.shards.errors import DataError, UsageError
from tests.model.networks.test_blocks import NETS
from tests.model.plain import published, rows, shaken


@pytest.mark.parametrize(
    ("arch", "classes", "parameters", "table"),
    [
        ("hrnet-w48", 194, 65_985_554, "mseg_hrnet_w48_194.tsv"),
        ("pspnet-50", 194, 49_214_788, "mseg_pspnet50_194.tsv"),
        ("pspnet-101", 194, 68_206_916, "mseg_pspnet101_194.tsv"),
        ("hrnet-ocr", 19, None, "hmsa_ocrnet_19.tsv"),
        ("hmsa", 19, None, "hmsa_mscale_ocr_19.tsv"),
    ],
)
def test_names_shapes_and_types_are_the_published_ones_in_their_order(arch, classes, parameters, table):
    with torch.device("meta"):
        net = build(arch, classes)
    assert parameters in (None, sum(p.numel() for p in net.parameters()))
    assert rows(net) == published(table)


@pytest.mark.parametrize("arch", NETS)
@pytest.mark.parametrize("size_hw", [(1, 1), (8, 9), (33, 50)])
def test_logits_come_at_input_size_whatever_it_is(arch, size_hw):
    net = build(arch, 4, **NETS[arch]).eval()
    with torch.no_grad():
        assert net(torch.zeros(2, 3, *size_hw)).shape == (2, 4, *size_hw)


@pytest.mark.parametrize("arch", NETS)
def test_channels_last_changes_nothing(arch):
    net = shaken(build(arch, 4, **NETS[arch])).eval()
    images = torch.randn(2, 3, 33, 42, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = net(images)
        got = net.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("arch", NETS)
def test_initial_weights_are_a_function_of_the_seed_alone(arch):
    weights = []
    for drawn_before, seed in enumerate((7, 7, 8)):
        torch.manual_seed(drawn_before)
        weights.append(build(arch, 3, seed=seed, **NETS[arch]).state_dict())
    one, same, other = weights
    assert all(torch.equal(one[name], same[name]) for name in one)
    drawn = [name for name in one if one[name].ndim == 4]
    assert not any(torch.equal(one[name], other[name]) for name in drawn)


def test_only_networks_that_align_corners_offer_coarse_logits():
    """Whoever takes them upsamples with aligned corners."""
    offered = {"hrnet-tiny": True, "pspnet-50": True, "hrnet-ocr": False, "hmsa": False}
    with torch.device("meta"):
        assert {arch: isinstance(build(arch, 3), Coarse) for arch in offered} == offered


@pytest.mark.parametrize(
    ("arch", "options", "error", "text"),
    [
        ("hrnet-w47", {}, UsageError, r"'hrnet-w47' is unknown; did you mean 'hrnet-w48'\?"),
        ("hrnet-tiny", {"width": [4]}, UsageError, r"no option 'width'; did you mean 'widths'\?"),
        ("hrnet-tiny", {"widths": [4, 8]}, DataError, r"widths: expected 4 positive integers"),
        ("hrnet-tiny", {"blocks": 0}, DataError, r"blocks: expected 3 positive integers up to 64, found \(0, 0, 0\)"),
        ("hrnet-tiny", {"stem": "x"}, DataError, r"stem: expected 1 positive"),
        ("hrnet-tiny", {"init": "xavier"}, DataError, r"init: 'xavier' is not one of reference, kaiming"),
        ("hrnet-tiny", {"seed": 1.5}, DataError, r"seed: 1.5 is not an integer"),
        ("hrnet-tiny", {"bn_momentum": 0}, DataError, r"bn_momentum: 0 is not a number above 0 and at most 1"),
        ("pspnet-50", {"init": "kaiming"}, UsageError, r"pspnet-50 has no option 'init'"),
        ("pspnet-50", {"aux_weight": -1}, DataError, r"aux_weight: -1 is not a number of at least 0"),
        ("pspnet-50", {"checkpointing": 1}, DataError, r"checkpointing: 1 is neither true nor false"),
        ("hrnet-ocr", {"ocr_widht": 3}, UsageError, r"no option 'ocr_widht'; did you mean 'ocr_width'\?"),
        ("hmsa", {"n_scales": (0.5, 2.0)}, DataError, r"n_scales \(0.5, 2.0\) are not .* 1.0 among them"),
        ("hmsa", {"n_scales": (1.0, 1.0)}, DataError, r"are not distinct"),
        ("hmsa", {"n_scales": (1.0, -2)}, DataError, r"are not distinct positive"),
        ("hmsa", {"n_scales": 1.0}, DataError, r"n_scales 1.0 are not"),
    ],
)
def test_options_are_refused_by_name(arch, options, error, text):
    with pytest.raises(error, match=text):
        build(arch, 3, **options)


def test_calls_are_refused_by_name():
    images = torch.zeros(1, 3, 33, 33)
    with pytest.raises(DataError, match="num_classes: 0"):
        build("hrnet-tiny", 0)
    with pytest.raises(DataError, match=r"1 image in train mode .* use at least 2"):
        build("pspnet-50", 3, **NETS["pspnet-50"])(images)
    hmsa = build("hmsa", 3, **NETS["hmsa"])
    with pytest.raises(DataError, match=r"n_scales in train mode"):
        hmsa(images, n_scales=(1.0,))
    with pytest.raises(DataError, match=r"1.0 among them"):
        hmsa.eval()(images, n_scales=(0.5,))
