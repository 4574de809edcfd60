"""Pixels on their way into a network."""

from __future__ import annotations

import torch
from torch import Tensor

from model.config import Device
from shards.errors import DataError

MEAN_RGB = (123.675, 116.28, 103.53)
"""ImageNet's, of 0..255; also the colour that padding is filled with."""
STD_RGB = (58.395, 57.12, 57.375)


def normalise(images: Tensor) -> Tensor:
    """(B, 3, H, W) RGB in 0..255, any type, to float32 with ImageNet's mean and deviation, on the same device."""
    mean = torch.tensor(MEAN_RGB, device=images.device).view(3, 1, 1)
    std = torch.tensor(STD_RGB, device=images.device).view(3, 1, 1)
    return (images.float() - mean) / std


def pick_device(name: Device) -> torch.device:
    """The device that a configuration means.

    Raises:
        DataError: cuda is asked for and there is none.
    """
    cuda = torch.cuda.is_available()
    if name == "cuda" and not cuda:
        raise DataError("device: cuda is asked for, but torch sees no GPU; set device to auto or cpu")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and cuda) else "cpu")
