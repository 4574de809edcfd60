"""Layers spelt out on a dictionary of weights by their published names: what the networks' tests compare against."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm, conv2d

from tests.shards.shared import SHARED

TINY = {"stem": 8, "stage1_width": 4, "widths": [4, 4, 6, 8], "blocks": 1, "modules": 1, "stage1_blocks": 1}
OCR = TINY | {"ocr_width": 12, "ocr_key_width": 5}
HMSA = OCR | {"attention_width": 6}
NETS = {
    "hrnet-tiny": TINY,
    "pspnet-50": {"width": 4, "blocks": 1},
    "hrnet-ocr": OCR,
    "hmsa": HMSA | {"scale_weight": 0.05},
}  # every kind of network, as small as it can be
KEYS = SHARED / "mseg" / "state_dict_keys"


def published(name: str) -> list[list[str]]:
    """Rows of name, shape, type; skips the test where the list is not at hand."""
    path = KEYS / name
    if not path.exists():
        pytest.skip(f"the published list of names is not at {path}")
    table = [line.split("\t") for line in path.read_text().splitlines()[1:]]
    return [[name, shape or "scalar", dtype] for name, shape, dtype in table]


def rows(net: nn.Module) -> list[list[str]]:
    return [
        [name, "x".join(map(str, t.shape)) or "scalar", str(t.dtype).removeprefix("torch.")]
        for name, t in net.state_dict().items()
    ]


def shaken(net: nn.Module, seed: int = 0) -> nn.Module:
    """The network with every weight and statistic drawn anew, so that none is 0, 1 or tiny; without dropout."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.normal_(0, (2 / module.weight[0].numel()) ** 0.5, generator=generator)
                if module.bias is not None:
                    module.bias.normal_(0, 0.2, generator=generator)
            elif isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.normal_(0, 0.2, generator=generator)
                module.running_mean.normal_(0, 0.2, generator=generator)
                module.running_var.uniform_(0.5, 2, generator=generator)
            elif isinstance(module, nn.Dropout2d):
                module.p = 0.0
    return net


def images(batch=2, size_hw=(41, 33), seed=0):
    return torch.randn(batch, 3, *size_hw, generator=torch.Generator().manual_seed(seed))


class Plain:
    """Functions of the float64 copies of a network's weights."""

    def __init__(self, net: nn.Module) -> None:
        self.w = {k: v.detach().double() if v.is_floating_point() else v for k, v in net.state_dict().items()}
        self.training = net.training

    def conv(self, x: Tensor, name: str, stride: int = 1, dilation: int = 1) -> Tensor:
        weight = self.w[f"{name}.weight"]
        padding = (weight.shape[-1] - 1) // 2 * dilation
        return conv2d(x, weight, self.w.get(f"{name}.bias"), stride, padding, dilation)

    def norm(self, x: Tensor, name: str) -> Tensor:
        mean, var = self.w[f"{name}.running_mean"].clone(), self.w[f"{name}.running_var"].clone()
        return batch_norm(x, mean, var, self.w[f"{name}.weight"], self.w[f"{name}.bias"], self.training, 0.1, 1e-5)

    def bottleneck(self, x: Tensor, name: str, stride: int = 1, dilation: int = 1) -> Tensor:
        y = self.norm(self.conv(x, f"{name}.conv1"), f"{name}.bn1").relu()
        y = self.norm(self.conv(y, f"{name}.conv2", stride, dilation), f"{name}.bn2").relu()
        y = self.norm(self.conv(y, f"{name}.conv3"), f"{name}.bn3")
        if f"{name}.downsample.0.weight" in self.w:
            x = self.norm(self.conv(x, f"{name}.downsample.0", stride), f"{name}.downsample.1")
        return (y + x).relu()


def bilinear(x: Tensor, size_hw: tuple[int, int], *, aligned: bool) -> Tensor:
    """Interpolation as two dense matrices, from its definition: aligned corners, or half-pixel centres clamped."""

    def matrix(low: int, high: int) -> Tensor:
        out = torch.zeros(high, low, dtype=x.dtype)
        for i in range(high):
            at = i * (low - 1) / max(high - 1, 1) if aligned else max((i + 0.5) * low / high - 0.5, 0)
            left = min(int(at), low - 1)
            right = min(left + 1, low - 1)
            out[i, left] += 1 - (at - left)
            out[i, right] += at - left
        return out

    down, across = matrix(x.shape[-2], size_hw[0]), matrix(x.shape[-1], size_hw[1])
    return torch.einsum("Hh,bchw,Ww->bcHW", down, x, across)
