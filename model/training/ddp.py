"""Gradients of all processes added up while the backward pass goes on.

Why not torch's DistributedDataParallel: as it is by default it lays its buckets out anew after the first backward pass,
in the order in which gradients came, and a ring adds up each part of a bucket in an order of its own. So the first step
after a resume would round differently from the same step of a run that was never stopped, as soon as there are three
processes. With find_unused_parameters=True it does not, and a hook may sum instead of average: tried with torch 2.13,
three processes then resume bit for bit, and a step takes as long (0.9 of ours in the median of 8 pairs on two CPUs).
But every process prints a warning of several lines that Python cannot silence, a process that is gone shows as a
RuntimeError of the backward pass that nothing tells from others, and runs of three and more processes that were begun
with these buckets would go on in other roundings.

Here the buckets are a function of the network alone. The rest is alike: buckets in reverse order of the parameters,
sent off as soon as they are full, one after another on all processes.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from segstream.model.distributed import ProcessGroup

BUCKET_BYTES = 25 * 2**20


class _Bucket:
    """Parameters whose gradients travel together."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.parameters = parameters
        self.flat = torch.zeros(sum(p.numel() for p in parameters), device=parameters[0].device)
        ends = torch.tensor([0, *(p.numel() for p in parameters)]).cumsum(0).tolist()
        self.views = [
            self.flat.as_strided(p.shape, p.stride(), start) for p, start in zip(parameters, ends, strict=False)
        ]
        self.missing = 0
        self.wait: Callable[[], None] | None = None

    def fill(self) -> None:
        self.flat.zero_()
        pairs = [(v, p.grad) for v, p in zip(self.views, self.parameters, strict=True) if p.grad is not None]
        if pairs:
            torch._foreach_copy_([view for view, _ in pairs], [grad for _, grad in pairs])

    def hand_out(self) -> None:
        for view, parameter in zip(self.views, self.parameters, strict=True):
            if parameter.grad is not None:
                parameter.grad = view


class Reducer:
    """Sums gradients over processes: `arm` before the last backward pass of a step, `finish` after it.

    A parameter without a gradient keeps none; the graph is the same in every process, so it has none in any.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], group: ProcessGroup) -> None:
        self._group = group
        self._buckets = [_Bucket(together) for together in _grouped(list(parameters)[::-1])]
        self._of = {parameter: bucket for bucket in self._buckets for parameter in bucket.parameters}
        self._armed, self._sent = False, 0
        for parameter in self._of:
            parameter.register_post_accumulate_grad_hook(self._arrived)  # type: ignore[no-untyped-call]

    def arm(self) -> None:
        """From here on a gradient that arrives is complete."""
        self._armed, self._sent = True, 0
        for bucket in self._buckets:
            bucket.missing = len(bucket.parameters)

    def finish(self) -> None:
        """Wait until every parameter's gradient is the sum over all processes."""
        self._armed = False
        while self._sent < len(self._buckets):
            self._send()
        for bucket in self._buckets:
            assert bucket.wait is not None
            bucket.wait()
            bucket.hand_out()

    def _arrived(self, parameter: Tensor) -> None:
        if not self._armed:
            return
        self._of[parameter].missing -= 1  # type: ignore[index]
        while self._sent < len(self._buckets) and self._buckets[self._sent].missing == 0:
            self._send()

    def _send(self) -> None:
        bucket = self._buckets[self._sent]
        bucket.fill()
        bucket.wait = self._group.sum_later_(bucket.flat)
        self._sent += 1


def _grouped(parameters: list[nn.Parameter]) -> list[list[nn.Parameter]]:
    """In the given order, as many to a group as fit."""
    groups: list[list[nn.Parameter]] = []
    room = 0
    for parameter in parameters:
        size = parameter.numel() * parameter.element_size()
        if not groups or size > room:
            groups.append([])
            room = BUCKET_BYTES
        groups[-1].append(parameter)
        room -= size
    return groups
