"""Gradients summed over processes."""

import torch
from torch import nn

from segstream.model.training import ddp as reduce
from segstream.model.training.ddp import Reducer
from tests.model.processes import together


def test_buckets_are_filled_in_reverse_order(monkeypatch):
    monkeypatch.setattr(reduce, "BUCKET_BYTES", 40)
    parameters = [nn.Parameter(torch.zeros(size)) for size in (3, 4, 20, 5, 5, 1)]
    groups = reduce._grouped(parameters[::-1])
    assert [[p.numel() for p in group] for group in groups] == [[1, 5], [5], [20], [4, 3]]


class Odd(nn.Module):
    """One weight in channels_last, one used twice, one that no loss needs."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(4, 4, 3, padding=1).to(memory_format=torch.channels_last)
        self.idle = nn.Parameter(torch.ones(3))
        self.last = nn.Linear(4, 1)

    def forward(self, x):
        return self.last(self.conv(self.conv(x)).mean(dim=(2, 3))).square().sum()


def data(rank, part):
    return torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(10 * rank + part))


def _sum(group, folder):
    reduce.BUCKET_BYTES = 200
    net = Odd()
    reducer = Reducer(net.parameters(), group)
    for _ in range(2):  # the buckets of the first step serve the second
        net.zero_grad()
        net(data(group.rank, 0)).backward()
        reducer.arm()
        net(data(group.rank, 1)).backward()
        reducer.finish()
    assert net.idle.grad is None
    assert net.conv.weight.grad.stride() == net.conv.weight.stride()
    torch.save({n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}, f"{folder}/{group.rank}")


def test_every_process_gets_the_sum(tmp_path):
    together(_sum, str(tmp_path), world_size=3)
    net = Odd()
    for rank in range(3):
        for part in range(2):
            net(data(rank, part)).backward()
    got = [torch.load(tmp_path / str(rank)) for rank in range(3)]
    expected = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
    torch.testing.assert_close(got[0], expected)
    torch.testing.assert_close(got[1:], [got[0]] * 2, rtol=0, atol=0)
