"""What holds for every network: its published names, any size of image, a seed, options refused by name."""

import hashlib

import pytest
import torch

from segstream.model.networks.build import build
from segstream.model.types import Coarse, TrainOutput
from segstream.shards.errors import DataError, UsageError
from tests.model.networks.test_hmsa import two_scales
from tests.model.networks.test_ocr import ocr
from tests.model.networks.test_pspnet import TINY as PSPNET
from tests.model.networks.test_pspnet import pspnet
from tests.model.plain import HMSA, NETS, OCR, bilinear, images, published, rows, shaken


@pytest.mark.parametrize(
    ("arch", "classes", "parameters", "momentum", "dropout", "table", "digest"),
    [
        ("hrnet-w48", 194, 65_985_554, 0.01, [], "mseg_hrnet_w48_194.tsv", "ea4136511b0d561f"),
        ("pspnet-50", 194, 49_214_788, 0.1, [0.1, 0.1], "mseg_pspnet50_194.tsv", "cea72bc36b2d9f61"),
        ("pspnet-101", 194, 68_206_916, 0.1, [0.1, 0.1], "mseg_pspnet101_194.tsv", "02e47e97cd76dd91"),
        ("hrnet-ocr", 19, 70_372_678, 0.1, [0.05], "hmsa_ocrnet_19.tsv", "1682e11006cfa711"),
        ("hmsa", 19, 72_143_430, 0.1, [0.05], "hmsa_mscale_ocr_19.tsv", "eecb645a85ae92f4"),
    ],
)
def test_the_structure_is_the_published_one(arch, classes, parameters, momentum, dropout, table, digest):
    """Names, shapes and types in their order; by the digest of the published table where that is not at hand."""
    with torch.device("meta"):
        net = build(arch, classes)
    assert sum(p.numel() for p in net.parameters()) == parameters
    norms = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert {(m.momentum, m.eps) for m in norms} == {(momentum, 1e-5)}
    assert [m.p for m in net.modules() if isinstance(m, torch.nn.Dropout2d)] == dropout
    assert hashlib.sha256(str(rows(net)).encode()).hexdigest()[:16] == digest
    assert rows(net) == published(table)


EACH = HMSA | {"scale_weight": 0.05, "lo_scale": 0.4, "n_scales": (1.0, 2.0)}  # which training does not look at
BY_HAND = {  # options, the network spelt out, its further predictions, whether corners are aligned
    "pspnet-50": (PSPNET, pspnet, {"aux": 0.4}, True),
    "hrnet-ocr": (OCR, ocr, {"aux": 0.4}, False),
    "hmsa": (HMSA, two_scales, {"aux": 0.4}, False),
    "hmsa, each scale": (EACH, two_scales, {"aux": 0.4, "lo": 0.05, "hi": 0.05}, False),
}


@pytest.mark.parametrize("case", BY_HAND)
@pytest.mark.parametrize("size_hw", [(41, 33), (40, 50)])
def test_predictions_and_gradients_are_those_of_the_network_spelt_out(case, size_hw):
    options, by_hand, further, aligned = BY_HAND[case]
    net, x = shaken(build(case.partition(",")[0], 5, **options)).eval(), images(3, size_hw)
    with torch.no_grad():
        expected = bilinear(by_hand(net, x)["main"], size_hw, aligned=aligned)
        got = net(x, n_scales=(0.4, 1.0)) if options is EACH else net(x)
        torch.testing.assert_close(got.double(), expected, rtol=1e-4, atol=1e-5)
        assert not aligned or net.coarse(x).aux == ()

    expected, output = by_hand(net.train(), x), net(x)
    assert isinstance(output, TrainOutput)
    assert (output.size_hw, output.align_corners) == (size_hw, aligned)
    assert [(aux.name, aux.weight, aux.align_corners) for aux in output.aux] == [(*n, aligned) for n in further.items()]
    found = {"main": output.logits, "features": output.features} | {aux.name: aux.logits for aux in output.aux}
    for name in found.keys() & expected.keys():
        torch.testing.assert_close(found[name].double(), expected[name], rtol=1e-4, atol=1e-4)

    net, x = net.double(), x.double().requires_grad_()
    expected, output = by_hand(net, x), net(x)
    total = output.logits.square().mean() + sum(aux.weight * aux.logits.square().mean() for aux in output.aux)
    plain = sum(weight * expected[name].square().mean() for name, weight in ({"main": 1.0} | further).items())
    torch.testing.assert_close(*(torch.autograd.grad(t, x)[0] for t in (total, plain)), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("arch", NETS)
@pytest.mark.parametrize("size_hw", [(1, 1), (8, 9), (33, 50)])
def test_logits_come_at_input_size_whatever_it_is(arch, size_hw):
    net = build(arch, 4, **NETS[arch]).eval()
    with torch.no_grad():
        assert net(torch.zeros(2, 3, *size_hw)).shape == (2, 4, *size_hw)


@pytest.mark.parametrize("arch", NETS)
def test_features_are_what_the_head_sees_in_training(arch):
    net, seen = build(arch, 4, **NETS[arch]), []
    head = {"hrnet-tiny": "last_layer", "pspnet-50": "ppm"}.get(arch, "ocr")
    net.get_submodule(head).register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    assert net(images()).features is seen[-1]  # scale 1 comes last
    assert arch != "hrnet-tiny" or net.eval().coarse(images()).features is None


@pytest.mark.parametrize("arch", NETS)
def test_channels_last_changes_nothing(arch):
    net, x = shaken(build(arch, 4, **NETS[arch])).eval(), images(size_hw=(33, 42))
    with torch.no_grad():
        expected = net(x)
        got = net.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
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
        ("hmsa", {"lo_scale": 1.0}, DataError, r"lo_scale: 1.0 is not a number between 0 and 1"),
    ],
)
def test_options_are_refused_by_name(arch, options, error, text):
    with pytest.raises(error, match=text):
        build(arch, 3, **options)


def test_calls_are_refused_by_name():
    hmsa = build("hmsa", 3, **HMSA)
    for call, text in (
        (lambda: build("hrnet-tiny", 0), "num_classes: 0"),
        (lambda: build("pspnet-50", 3, **NETS["pspnet-50"])(images(1)), r"1 image in train mode .* use at least 2"),
        (lambda: hmsa(images(1), n_scales=(1.0,)), r"n_scales in train mode"),
        (lambda: hmsa.eval()(images(1), n_scales=(0.5,)), r"1.0 among them"),
    ):
        with pytest.raises(DataError, match=text):
            call()
