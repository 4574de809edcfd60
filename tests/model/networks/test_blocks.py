import pytest
import torch

from segstream.model.networks.blocks import call_block
from segstream.model.networks.build import build
from tests.model.plain import NETS, images, shaken


def trained(arch, checkpointing):
    """Everything that one step leaves behind; dropout included."""
    net = shaken(build(arch, 3, checkpointing=checkpointing, **NETS[arch])).train()
    for module in net.modules():
        if isinstance(module, torch.nn.Dropout2d):
            module.p = 0.5
    torch.manual_seed(5)
    output = net(images(size_hw=(33, 41), seed=1))
    (output.logits.square().mean() + sum(aux.weight * aux.logits.square().mean() for aux in output.aux)).backward()
    grads = {f"grad {name}": p.grad for name, p in net.named_parameters()}
    return grads | {f"state {name}": t for name, t in net.state_dict().items()}


@pytest.mark.parametrize("arch", NETS)
def test_gradients_and_running_statistics_are_those_of_plain_training(arch):
    plain, recomputed = trained(arch, False), trained(arch, True)
    torch.testing.assert_close(recomputed, plain, rtol=0, atol=0)


def test_less_is_kept_for_the_backward_pass():
    kept = {}
    for checkpointing in (False, True):
        net = build("hrnet-tiny", 3, checkpointing=checkpointing, **NETS["hrnet-tiny"])
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=sizes: (s.append(t.numel()), t)[1], lambda t: t):
            net(torch.randn(2, 3, 33, 33))
        kept[checkpointing] = sum(sizes)
    assert kept[True] < 0.5 * kept[False]


class Counting(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return x.exp()


def test_nothing_is_recomputed_without_a_backward_pass_or_outside_training():
    block, x = Counting(), torch.ones(2, requires_grad=True)
    call_block(block, x, checkpointing=True).sum().backward()
    assert block.calls == 2
    call_block(block, x, checkpointing=False).sum().backward()
    call_block(block.eval(), x, checkpointing=True).sum().backward()
    with torch.no_grad():
        call_block(block.train(), x, checkpointing=True)
    assert block.calls == 5
