"""Which engine makes the crops, and why."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

import torch

from segstream.pipeline.config import EngineName


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The engine of a loader."""

    dali: bool
    device_id: int | None
    """CUDA device of DALI; None for the host."""
    why: str
    """For the log: engine and reason."""


def choose(engine: EngineName) -> Choice:
    """What `loader.engine` means on this machine; `auto` takes DALI where there are a CUDA device and DALI."""
    cuda = torch.cuda.is_available()
    device_id = torch.cuda.current_device() if cuda else None
    if engine == "opencv":
        return Choice(dali=False, device_id=None, why="engine opencv, as the recipe says")
    if engine == "dali":
        on = f"on CUDA device {device_id}" if cuda else "on the processor, for want of a CUDA device: slow"
        return Choice(dali=True, device_id=device_id, why=f"engine dali, as the recipe says, {on}")
    if not cuda:
        return Choice(dali=False, device_id=None, why="engine opencv: no CUDA device")
    if importlib.util.find_spec("nvidia") is None or importlib.util.find_spec("nvidia.dali") is None:
        return Choice(
            dali=False, device_id=None, why='engine opencv: DALI is not installed (pip install "segstream[dali]")'
        )
    return Choice(dali=True, device_id=device_id, why=f"engine dali: CUDA device {device_id}, and DALI is installed")
