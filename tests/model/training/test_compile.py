"""Every architecture is one graph: `fullgraph` fails at the first break. The eager backend needs no compiler."""

import pytest
import torch

from segstream.model.networks.build import build
from tests.model.plain import NETS, images, shaken


@pytest.fixture(autouse=True)
def forget():
    """Another test's sizes would make this one's symbolic, which takes twice as long to trace."""
    torch.compiler.reset()


@pytest.mark.parametrize("arch", ["hrnet-tiny", "pspnet-50", "hmsa"])  # the OCR network is within the last
def test_training_is_one_graph(arch):
    net = shaken(build(arch, 3, checkpointing=True, **NETS[arch])).train()
    x = images(size_hw=(33, 41), seed=1)
    expected = net(x)
    got = torch.compile(net, fullgraph=True, backend="eager")(x)
    assert got.size_hw == expected.size_hw
    torch.testing.assert_close(got.logits, expected.logits)
    for ours, theirs in zip(got.aux, expected.aux, strict=True):
        assert (ours.name, ours.weight, ours.align_corners) == (theirs.name, theirs.weight, theirs.align_corners)
        torch.testing.assert_close(ours.logits, theirs.logits)


@pytest.mark.parametrize("arch", ["pspnet-50", "hmsa"])
def test_use_is_one_graph(arch):
    net = shaken(build(arch, 3, **NETS[arch])).eval()
    x = images(1, (34, 41), seed=1)
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(net, fullgraph=True, backend="eager")(x), net(x))
