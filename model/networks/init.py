"""First weights, drawn from a generator of their own: the same key gives the same weights whatever was drawn before.

Batch norms need nothing: torch makes them the identity.
"""

from __future__ import annotations

import math

import torch
from torch import nn


@torch.no_grad()
def draw_normal(part: nn.Module, generator: torch.Generator, *, std: float | None = None) -> None:
    """Draw convolution weights from N(0, std), or from N(0, 2 / fan_out) if no std is given; biases as torch does.

    Source of the latter: He et al., "Delving Deep into Rectifiers", ICCV 2015.
    """
    for module in _convs(part):
        fan_out = module.out_channels * module.kernel_size[0] * module.kernel_size[1]
        module.weight.normal_(0.0, (2.0 / fan_out) ** 0.5 if std is None else std, generator=generator)
        _draw_bias(module, generator)


@torch.no_grad()
def draw_uniform(part: nn.Module, generator: torch.Generator) -> None:
    """Draw convolution weights and biases uniformly within 1 / sqrt(fan_in), as torch does by itself."""
    for module in _convs(part):
        module.weight.uniform_(-_bound(module), _bound(module), generator=generator)
        _draw_bias(module, generator)


def _convs(part: nn.Module) -> list[nn.Conv2d]:
    return [module for module in part.modules() if isinstance(module, nn.Conv2d)]


def _draw_bias(module: nn.Conv2d, generator: torch.Generator) -> None:
    if module.bias is not None:
        module.bias.uniform_(-_bound(module), _bound(module), generator=generator)


def _bound(module: nn.Conv2d) -> float:
    return math.pow(module.in_channels * module.kernel_size[0] * module.kernel_size[1], -0.5)
