"""Pixels on their way into a network, and the machine it runs on."""

import torch
from torch import Tensor

from segstream.model.config import Device, Precision
from segstream.shards.errors import DataError

MEAN_RGB = (123.675, 116.28, 103.53)
"""ImageNet's, of 0..255; also the colour that padding is filled with."""
STD_RGB = (58.395, 57.12, 57.375)


def normalise(images: Tensor) -> Tensor:
    """(B, 3, H, W) RGB in 0..255, any type, to float32 with ImageNet's mean and deviation, on the same device."""
    return (images.float() - _channels(MEAN_RGB, images.device)) / _channels(STD_RGB, images.device)


def _channels(values: tuple[float, ...], device: torch.device) -> Tensor:
    """(3, 1, 1), filled where it lies: a copy from here would make a GPU wait."""
    return torch.stack([torch.full((1, 1), value, device=device) for value in values])


def pick_device(name: Device) -> torch.device:
    """The device that a configuration means.

    Raises:
        DataError: cuda is asked for and there is none.
    """
    cuda = torch.cuda.is_available()
    if name == "cuda" and not cuda:
        raise DataError("device: cuda is asked for, but torch sees no GPU; set device to auto or cpu")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and cuda) else "cpu")


def pick_precision(name: Precision, device: torch.device) -> Precision:
    """The precision that a configuration means on a device; there is no tf32 on a CPU, where it is fp32.

    Raises:
        DataError: fp16 on a CPU.
    """
    if device.type != "cuda":
        if name == "fp16":
            raise DataError("precision: fp16 needs a GPU; on a CPU use fp32, bf16 or auto")
        if name == "tf32":
            return "fp32"
    if name != "auto":
        return name
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = bool(torch.cpu.get_capabilities().get("amx_bf16", False))
    return "bf16" if native else "fp32"
