"""What a training loop receives."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """One rank's share of one step: every world_size-th slot of the global batch, from slot `rank` on."""

    step: int
    """Global step."""
    images: torch.Tensor
    """(B, 3, H, W) uint8 RGB, channels last in memory, not normalised; on the GPU if DALI made them there."""
    labels: torch.Tensor
    """(B, H, W) uint8, or int16 where a taxonomy has ids above 255; 255 is ignored."""
    dataset_ids: torch.Tensor
    """(B,) int64: number of the dataset in the mix."""
    keys: tuple[str, ...]
    """By sample, its key in the dataset's shard set."""
