"""How a device calculates: which number types a step runs in.

    fp32    float32 throughout, also on GPUs that would round factors to TF32 by themselves      apex O0
    tf32    float32 whose products round their factors to 10 bits, on GPUs since Ampere
    fp16    float16 where torch's autocast finds it safe, weights in float32, loss scaling       apex O1, O2
    bf16    bfloat16 likewise, which needs no loss scaling

What decides the result is the name; it is part of a run's identity.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch

from segstream.model.config import Precision
from segstream.shards.errors import DataError

LEAST_SCALE = 2.0**-14  # of the loss; below it nothing that float16 can hold is left of a gradient
_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Arithmetic:
    """A precision, set up on a device. TF32 is a switch of the whole process: torch has no other."""

    def __init__(self, precision: Precision, device: torch.device) -> None:
        """`precision` is what `pick_precision` gave for the device."""
        self._precision, self._device = precision, device
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        """Scales the loss and skips updates of overflown gradients; does nothing but in fp16."""
        if device.type == "cuda":
            torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
            torch.backends.cudnn.allow_tf32 = precision == "tf32"

    def autocast(self) -> AbstractContextManager[Any]:
        """Where the network's forward pass runs."""
        kind = _TYPES.get(self._precision, torch.bfloat16)
        return torch.autocast(self._device.type, kind, enabled=self._precision in _TYPES)

    def check_scale(self) -> None:
        """Refuse to skip updates for ever; waits for the device.

        Raises:
            DataError: the loss scale fell so low that gradients overflow whatever it is.
        """
        if self.scaler.is_enabled() and self.scaler.get_scale() < LEAST_SCALE:
            raise DataError(
                f"precision: fp16 gradients overflow at a loss scale of {self.scaler.get_scale():.1e}; "
                f"use bf16 or fp32, or lower lr"
            )
