"""One step's batch becomes one gradient: the same on every process, whichever of them had which samples.

Two ways: `WeightedGradient`, of the loss over the mix, and `MGDAGradient`, of the combination of datasets that MGDA
chooses. Both leave the gradient in the parameters and return a `StepLoss`.

`MixedPrecision`: which number types a step runs in.

    fp32    float32 throughout, also on GPUs that would round factors to TF32 by themselves      apex O0
    tf32    float32 whose products round their factors to 10 bits, on GPUs since Ampere
    fp16    float16 where torch's autocast finds it safe, weights in float32, loss scaling       apex O1, O2
    bf16    bfloat16 likewise, which needs no loss scaling

What decides the result is the name; it is part of a run's identity.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from segstream.model.config import LossName, Precision
from segstream.model.device import normalise
from segstream.model.distributed import ProcessGroup
from segstream.model.losses.loss import LabelCounts, LossSums, dataset_means, loss_sums, mixed_loss
from segstream.model.training.ddp import Reducer
from segstream.model.training.mgda import min_norm
from segstream.model.types import Batch, TrainOutput
from segstream.shards.errors import DataError

COLUMNS = 2**22  # of gradients that are float64 at one time
LEAST_SCALE = 2.0**-14  # of the loss; below it nothing that float16 can hold is left of a gradient
_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class MixedPrecision:
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


@dataclass(frozen=True, slots=True)
class StepLoss:
    """What a step's loss was, over the global batch."""

    loss: Tensor
    """Scalar."""
    means: Tensor
    """(D,) see `model.losses.loss.dataset_means`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardPasses:
    """How predictions are made and sums, the same at every step."""

    forward: Callable[[Tensor], TrainOutput]
    """The network in train mode, perhaps compiled."""
    device: torch.device
    layout: torch.memory_format
    amp: MixedPrecision
    loss: LossName
    class_weights: Tensor | None
    """(K,) on the device."""
    parts: int
    """Passes in which a batch is gone through."""

    def passes(self, batch: Batch) -> Iterator[tuple[LossSums, Tensor]]:
        """LossSums parts of a batch, each with its dataset ids on the device."""
        tensors = (batch.images, batch.labels, batch.dataset_ids)
        for images, labels, ids in zip(*(tensor.tensor_split(self.parts) for tensor in tensors), strict=True):
            pixels = normalise(images.to(self.device, non_blocking=True)).contiguous(memory_format=self.layout)
            with self.amp.autocast():
                output = self.forward(pixels)
            on_device = labels.to(self.device, non_blocking=True)
            sums = loss_sums(output, on_device, loss=self.loss, class_weights=self.class_weights)
            yield sums, ids.to(self.device, non_blocking=True)


class WeightedGradient:
    """Of the sum over datasets of their share times their mean loss."""

    def __init__(
        self, passes: ForwardPasses, parameters: Sequence[nn.Parameter], shares: Tensor, group: ProcessGroup
    ) -> None:
        self._passes, self._shares, self._group = passes, shares, group
        self._reducer = Reducer(parameters, group)

    def __call__(self, batch: Batch, global_counts: LabelCounts) -> StepLoss:
        """Set the gradient; of the loss times its scale in fp16."""
        report = self._shares.new_zeros(1 + len(self._shares))
        scaler = self._passes.amp.scaler
        for part, (sums, ids) in enumerate(self._passes.passes(batch), start=1):
            loss = mixed_loss(sums, ids, self._shares, global_counts)
            report += torch.cat([loss.detach()[None], dataset_means(sums, ids, global_counts)])
            if part == self._passes.parts:
                self._reducer.arm()
            scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self._reducer.finish()
        self._group.sum_(report)
        return StepLoss(loss=report[0], means=report[1:])


class MGDAGradient:
    """Of the combination of datasets' losses whose gradient is shortest: MGDA with a task for each dataset.

    Each dataset's loss has a gradient of its own, by all parameters, summed over all passes and processes. Their
    shortest combination, shares 0..1 that sum to 1, lowers every loss, or finds that no direction does. The reported
    loss is combined by the same shares. A dataset without a labelled pixel in the batch takes no part: its gradient,
    zero, would be the shortest of all.

    Keeps one activation of each layer and D gradients: as many backward passes as datasets, one forward pass.

    Source: Sener and Koltun, "Multi-Task Learning as Multi-Objective Optimization", NeurIPS 2018.
    """

    def __init__(
        self, passes: ForwardPasses, parameters: Sequence[nn.Parameter], num_datasets: int, group: ProcessGroup
    ) -> None:
        self._passes, self._parameters, self._group = passes, list(parameters), group
        self._each = torch.eye(num_datasets, device=passes.device)

    def __call__(self, batch: Batch, global_counts: LabelCounts) -> StepLoss:
        """Set the gradient."""
        present = torch.nonzero(global_counts.pixels.cpu() > 0).flatten().tolist()
        sizes = [parameter.numel() for parameter in self._parameters]
        gradients = self._each.new_zeros(len(present), sum(sizes))  # (D', all parameters)
        losses, means = self._each.new_zeros(2, len(self._each))
        for sums, ids in self._passes.passes(batch):
            means += dataset_means(sums, ids, global_counts)
            for row, dataset in enumerate(present):
                loss = mixed_loss(sums, ids, self._each[dataset], global_counts)
                losses[dataset] += loss.detach()
                parts = torch.autograd.grad(
                    loss, self._parameters, retain_graph=row + 1 < len(present), materialize_grads=True
                )
                gradients[row] += torch.cat([part.reshape(-1) for part in parts])
        self._group.sum_(gradients)
        report = self._group.sum_(torch.stack([losses, means]))
        shares = self._shares(gradients)
        combined = torch.split(shares @ gradients, sizes)
        for parameter, part in zip(self._parameters, combined, strict=True):
            parameter.grad = torch.empty_like(parameter).copy_(part.view_as(parameter))
        return StepLoss(loss=(shares * report[0, present]).sum(), means=report[1])

    def _shares(self, gradients: Tensor) -> Tensor:
        """(D', P) -> (D',), solved by rank 0 for all, so that they are the same bits global_counts."""
        num = len(gradients)
        blocks = (gradients[:, start : start + COLUMNS].double() for start in range(0, gradients.shape[1], COLUMNS))
        gram = torch.stack([block @ block.T for block in blocks]).sum(dim=0).cpu()
        if num and bool(gram.isfinite().all()):
            shares = min_norm(gram)
        else:  # nothing to share, or a loss that is not finite, which the trainer deals with
            shares = torch.full((num,), 1.0 / max(num, 1), dtype=torch.float64)
        return self._group.broadcast_(shares).to(gradients) if num else shares.to(gradients)
