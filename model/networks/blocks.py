"""The two residual blocks that every backbone here is made of, their first weights, and calls that save memory.

Blocks: both follow He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016), with the stride on the 3x3
convolution of the bottleneck: ReLU after each batch norm but the last, whose result is added to the shortcut before one
more ReLU. Convolutions carry no bias. Batch norms keep torch's eps 1e-5.

First weights: drawn from a generator of their own, so the same key gives the same weights whatever was drawn before.
Batch norms need nothing: torch makes them the identity.

Activation checkpointing: keep a block's input, not its insides, and compute them again when gradients are due.
Computing a block twice must not count its batch twice: batch norms would move their running statistics once more. So
while a block is computed again, its batch norms normalise with the batch's own statistics, as before, but record
nothing. Gradients, running statistics and random numbers (dropout) equal those of plain training.
Source: Chen et al., "Training Deep Nets with Sublinear Memory Cost", arXiv 1604.06174.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import relu
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from segstream.shards.errors import DataError

MEAN_RGB = (123.675, 116.28, 103.53)
"""ImageNet's, of 0..255; also the colour that padding is filled with."""
STD_RGB = (58.395, 57.12, 57.375)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut."""

    expansion = 1

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        self.conv1 = conv(num_in, num_out, 3)
        self.bn1 = nn.BatchNorm2d(num_out)
        self.conv2 = conv(num_out, num_out, 3)
        self.bn2 = nn.BatchNorm2d(num_out)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape."""
        out = relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        return relu(out.add_(x), inplace=True)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions, the last four times as wide, with a shortcut, projected where widths differ.

    Args:
        num_in: channels of the input.
        num_mid: channels of the 3x3 convolution.
        stride: of the 3x3 convolution and of the projection; sizes are divided by it, rounding up.
        dilation: of the 3x3 convolution, which is padded by as much.
    """

    expansion = 4

    def __init__(self, num_in: int, num_mid: int, *, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        num_out = num_mid * self.expansion
        self.conv1 = conv(num_in, num_mid, 1)
        self.bn1 = nn.BatchNorm2d(num_mid)
        self.conv2 = conv(num_mid, num_mid, 3, stride=stride, dilation=dilation)
        self.bn2 = nn.BatchNorm2d(num_mid)
        self.conv3 = conv(num_mid, num_out, 1)
        self.bn3 = nn.BatchNorm2d(num_out)
        project = num_in != num_out or stride != 1
        self.downsample = (
            nn.Sequential(conv(num_in, num_out, 1, stride=stride), nn.BatchNorm2d(num_out)) if project else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, num_in, h, w) -> (B, 4 * num_mid, h / stride, w / stride)."""
        out = relu(self.bn1(self.conv1(x)), inplace=True)
        out = relu(self.bn2(self.conv2(out)), inplace=True)
        out = self.bn3(self.conv3(out))
        shortcut = x if self.downsample is None else self.downsample(x)
        return relu(out.add_(shortcut), inplace=True)


def conv(num_in: int, num_out: int, kernel: int, *, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    """A convolution without bias, padded so that only its stride changes the size."""
    padding = kernel // 2 * dilation
    return nn.Conv2d(num_in, num_out, kernel, stride=stride, padding=padding, dilation=dilation, bias=False)


def conv_bn(num_in: int, num_out: int, kernel: int, *, stride: int = 1) -> tuple[nn.Module, ...]:
    """A convolution, its batch norm (momentum: see `set_momentum`) and a ReLU."""
    return conv(num_in, num_out, kernel, stride=stride), nn.BatchNorm2d(num_out), nn.ReLU(inplace=True)


def set_momentum(net: nn.Module, bn_momentum: float) -> None:
    """Give all batch norms of a network one share of the newest batch in their running statistics."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = bn_momentum


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


def call_block(block: nn.Module, *args: Any, checkpointing: bool) -> Any:
    """`block(*args)`, recomputed in the backward pass if asked for and if there will be one.

    Inside `torch.compile` this is a plain call: the compiler chooses by itself what to keep.
    """
    if not checkpointing or not block.training or not torch.is_grad_enabled() or torch.compiler.is_compiling():
        return block(*args)
    return checkpoint(block, *args, use_reentrant=False, context_fn=lambda: (nullcontext(), _unrecorded(block)))


@contextmanager
def _unrecorded(block: nn.Module) -> Iterator[None]:
    """With momentum 0 statistics stay; a copy counts the batches, as a recomputation may stop half-way."""
    norms = [m for m in block.modules() if isinstance(m, _BatchNorm) and m.training and m.track_running_stats]
    kept = [(module.momentum, module.num_batches_tracked) for module in norms]
    for module, (_, batches) in zip(norms, kept, strict=True):
        module.momentum, module.num_batches_tracked = 0.0, None if batches is None else batches.clone()
    try:
        yield
    finally:
        for module, (momentum, batches) in zip(norms, kept, strict=True):
            module.momentum, module.num_batches_tracked = momentum, batches


def check_parts(net: nn.Module, parts: Sequence[str], *, field: str) -> None:
    """Are these parts of the network, such as `backbone` or `ocr.cls_head`?

    Raises:
        DataError: one is not; `field` names where it stands.
    """
    names = [name for name, _ in net.named_parameters()]
    for part in parts:
        if not any(is_below(name, (part,)) for name in names):
            near = get_close_matches(part, [name for name, _ in net.named_modules()], n=1)
            tops = ", ".join(sorted({name.partition(".")[0] for name in names}))
            hint = f"did you mean {near[0]!r}?" if near else f"its parts are {tops} and theirs"
            raise DataError(f"{field}: {part!r} is no part of this network; {hint}")


def is_below(name: str, parts: Sequence[str]) -> bool:
    """Whether a tensor or module is one of these parts of a network, or in one."""
    return f"{name}.".startswith(tuple(f"{part}." for part in parts))


def freeze(net: nn.Module, parts: Sequence[str]) -> list[nn.Module]:
    """Take gradients from the parameters of some parts of a network.

    Returns:
        Their batch norms, which the caller keeps in eval mode, so that their statistics stay.

    Raises:
        DataError: a name is of no part, or nothing is left to train.
    """
    check_parts(net, parts, field="train.freeze")
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(not is_below(name, parts))
    if not any(parameter.requires_grad for parameter in net.parameters()):
        raise DataError(f"train.freeze: {', '.join(parts)}: nothing is left to train; name fewer parts")
    return [m for name, m in net.named_modules() if isinstance(m, _BatchNorm) and is_below(name, parts)]


def normalise(images: Tensor) -> Tensor:
    """(B, 3, H, W) RGB in 0..255, any type, to float32 with ImageNet's mean and deviation, on the same device."""
    return (images.float() - _channels(MEAN_RGB, images.device)) / _channels(STD_RGB, images.device)


def _channels(values: tuple[float, ...], device: torch.device) -> Tensor:
    """(3, 1, 1), filled where it lies: a copy from here would make a GPU wait."""
    return torch.stack([torch.full((1, 1), value, device=device) for value in values])
