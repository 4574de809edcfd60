"""Activation checkpointing: keep a block's input, not its insides, and compute them again when gradients are due.

Computing a block twice must not count its batch twice: batch norms would move their running statistics once more. So
while a block is computed again, its batch norms normalise with the batch's own statistics, as before, but record
nothing. Gradients, running statistics and random numbers (dropout) equal those of plain training.

Source: Chen et al., "Training Deep Nets with Sublinear Memory Cost", arXiv 1604.06174.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def call(block: nn.Module, *args: Any, checkpointing: bool) -> Any:
    """`block(*args)`, recomputed in the backward pass if asked for and if there will be one.

    Inside `torch.compile` this is a plain call: the compiler chooses by itself what to keep.
    """
    if not checkpointing or not block.training or not torch.is_grad_enabled() or torch.compiler.is_compiling():
        return block(*args)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _unrecorded(block)

    return checkpoint(block, *args, use_reentrant=False, context_fn=contexts)


@contextmanager
def _unrecorded(block: nn.Module) -> Iterator[None]:
    """With momentum 0 statistics stay; a copy counts the batches, as a recomputation may stop half-way."""
    norms = [m for m in block.modules() if isinstance(m, _BatchNorm) and m.training and m.track_running_stats]
    kept = [(module.momentum, module.num_batches_tracked) for module in norms]
    for module in norms:
        module.momentum, module.num_batches_tracked = 0.0, _copied(module.num_batches_tracked)
    try:
        yield
    finally:
        for module, (momentum, batches) in zip(norms, kept, strict=True):
            module.momentum, module.num_batches_tracked = momentum, batches


def _copied(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.clone()
