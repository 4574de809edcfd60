"""The two residual blocks that every backbone here is made of.

Both follow He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016), with the stride on the 3x3
convolution of the bottleneck: ReLU after each batch norm but the last, whose result is added to the shortcut before one
more ReLU. Convolutions carry no bias. Batch norms keep torch's eps 1e-5.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import relu


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut."""

    expansion = 1

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        self.conv1 = conv(num_in, num_out, 3)
        self.bn1 = norm(num_out)
        self.conv2 = conv(num_out, num_out, 3)
        self.bn2 = norm(num_out)

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
        self.bn1 = norm(num_mid)
        self.conv2 = conv(num_mid, num_mid, 3, stride=stride, dilation=dilation)
        self.bn2 = norm(num_mid)
        self.conv3 = conv(num_mid, num_out, 1)
        self.bn3 = norm(num_out)
        project = num_in != num_out or stride != 1
        self.downsample = nn.Sequential(conv(num_in, num_out, 1, stride=stride), norm(num_out)) if project else None

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


def norm(num: int) -> nn.BatchNorm2d:
    """A batch norm; its momentum is the network's to set, see `set_momentum`."""
    return nn.BatchNorm2d(num)


def set_momentum(net: nn.Module, bn_momentum: float) -> None:
    """Give all batch norms of a network one share of the newest batch in their running statistics."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = bn_momentum
