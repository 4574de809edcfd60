"""An exponential moving average of the weights, published instead of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """After every update: average := decay * average + (1 - decay) * weights. It starts as the first weights.

    Running statistics of batch norms are averages already; those of the network go with the averaged weights.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        self._decay = decay
        self._weights = dict(net.named_parameters())
        self._averages = {name: weight.detach().clone() for name, weight in self._weights.items()}

    def update(self) -> None:
        """Count the present weights in."""
        weights = [weight.detach() for weight in self._weights.values()]
        torch._foreach_lerp_(list(self._averages.values()), weights, 1.0 - self._decay)

    def state(self) -> dict[str, Tensor]:
        """By name of the parameter."""
        return self._averages

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over a state."""
        for name, average in self._averages.items():
            average.copy_(state[name])

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The network with averaged weights; the others come back afterwards, bit for bit."""
        with torch.no_grad():
            kept = {name: weight.detach().clone() for name, weight in self._weights.items()}
            self._set(self._averages)
        try:
            yield
        finally:
            self._set(kept)

    @torch.no_grad()
    def _set(self, values: Mapping[str, Tensor]) -> None:
        for name, weight in self._weights.items():
            weight.copy_(values[name])
