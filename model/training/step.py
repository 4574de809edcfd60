"""One step's batch becomes one gradient: the same on every process, whichever of them had which samples.

Two ways: `WeightedGradient`, of the loss over the mix, and `SharedGradient`, of the combination of datasets that MGDA
chooses. Both leave the gradient in the parameters and return a `Report`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from segstream.model.config import LossName
from segstream.model.device import normalise
from segstream.model.distributed import Ranks
from segstream.model.losses.loss import Counts, Judged, judge, means_of, mix
from segstream.model.training.amp import Arithmetic
from segstream.model.training.ddp import Reducer
from segstream.model.training.mgda import min_norm
from segstream.model.types import Batch, TrainOutput

COLUMNS = 2**22  # of gradients that are float64 at one time


@dataclass(frozen=True, slots=True)
class Report:
    """What a step's loss was, over the global batch."""

    loss: Tensor
    """Scalar."""
    means: Tensor
    """(D,) see `model.loss.means_of`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judging:
    """How predictions are made and judged, the same at every step."""

    forward: Callable[[Tensor], TrainOutput]
    """The network in train mode, perhaps compiled."""
    device: torch.device
    layout: torch.memory_format
    arithmetic: Arithmetic
    loss: LossName
    class_weights: Tensor | None
    """(K,) on the device."""
    parts: int
    """Passes in which a batch is gone through."""

    def passes(self, batch: Batch) -> Iterator[tuple[Judged, Tensor]]:
        """Judged parts of a batch, each with its dataset ids on the device."""
        tensors = (batch.images, batch.labels, batch.dataset_ids)
        for images, labels, ids in zip(*(tensor.tensor_split(self.parts) for tensor in tensors), strict=True):
            pixels = normalise(images.to(self.device, non_blocking=True)).contiguous(memory_format=self.layout)
            with self.arithmetic.autocast():
                output = self.forward(pixels)
            on_device = labels.to(self.device, non_blocking=True)
            judged = judge(output, on_device, loss=self.loss, class_weights=self.class_weights)
            yield judged, ids.to(self.device, non_blocking=True)


class WeightedGradient:
    """Of the sum over datasets of their share times their mean loss."""

    def __init__(self, judging: Judging, parameters: Sequence[nn.Parameter], shares: Tensor, ranks: Ranks) -> None:
        self._judging, self._shares, self._ranks = judging, shares, ranks
        self._reducer = Reducer(parameters, ranks)

    def __call__(self, batch: Batch, everywhere: Counts) -> Report:
        """Set the gradient; of the loss times its scale in fp16."""
        report = self._shares.new_zeros(1 + len(self._shares))
        scaler = self._judging.arithmetic.scaler
        for part, (judged, ids) in enumerate(self._judging.passes(batch), start=1):
            loss = mix(judged, ids, self._shares, everywhere)
            report += torch.cat([loss.detach()[None], means_of(judged, ids, everywhere)])
            if part == self._judging.parts:
                self._reducer.arm()
            scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self._reducer.finish()
        self._ranks.sum_(report)
        return Report(loss=report[0], means=report[1:])


class SharedGradient:
    """Of the combination of datasets' losses whose gradient is shortest: MGDA with a task for each dataset.

    Each dataset's loss has a gradient of its own, by all parameters, summed over all passes and processes. Their
    shortest combination, shares 0..1 that sum to 1, lowers every loss, or finds that no direction does. The reported
    loss is combined by the same shares. A dataset without a labelled pixel in the batch takes no part: its gradient,
    zero, would be the shortest of all.

    Keeps one activation of each layer and D gradients: as many backward passes as datasets, one forward pass.

    Source: Sener and Koltun, "Multi-Task Learning as Multi-Objective Optimization", NeurIPS 2018.
    """

    def __init__(self, judging: Judging, parameters: Sequence[nn.Parameter], num_datasets: int, ranks: Ranks) -> None:
        self._judging, self._parameters, self._ranks = judging, list(parameters), ranks
        self._each = torch.eye(num_datasets, device=judging.device)

    def __call__(self, batch: Batch, everywhere: Counts) -> Report:
        """Set the gradient."""
        present = torch.nonzero(everywhere.pixels.cpu() > 0).flatten().tolist()
        sizes = [parameter.numel() for parameter in self._parameters]
        gradients = self._each.new_zeros(len(present), sum(sizes))  # (D', all parameters)
        losses, means = self._each.new_zeros(2, len(self._each))
        for judged, ids in self._judging.passes(batch):
            means += means_of(judged, ids, everywhere)
            for row, dataset in enumerate(present):
                loss = mix(judged, ids, self._each[dataset], everywhere)
                losses[dataset] += loss.detach()
                parts = torch.autograd.grad(
                    loss, self._parameters, retain_graph=row + 1 < len(present), materialize_grads=True
                )
                gradients[row] += torch.cat([part.reshape(-1) for part in parts])
        self._ranks.sum_(gradients)
        report = self._ranks.sum_(torch.stack([losses, means]))
        shares = self._shares(gradients)
        combined = torch.split(shares @ gradients, sizes)
        for parameter, part in zip(self._parameters, combined, strict=True):
            parameter.grad = torch.empty_like(parameter).copy_(part.view_as(parameter))
        return Report(loss=(shares * report[0, present]).sum(), means=report[1])

    def _shares(self, gradients: Tensor) -> Tensor:
        """(D', P) -> (D',), solved by rank 0 for all, so that they are the same bits everywhere."""
        num = len(gradients)
        blocks = (gradients[:, start : start + COLUMNS].double() for start in range(0, gradients.shape[1], COLUMNS))
        gram = torch.stack([block @ block.T for block in blocks]).sum(dim=0).cpu()
        if num and bool(gram.isfinite().all()):
            shares = min_norm(gram)
        else:  # nothing to share, or a loss that is not finite, which the trainer deals with
            shares = torch.full((num,), 1.0 / max(num, 1), dtype=torch.float64)
        return self._ranks.broadcast_(shares).to(gradients) if num else shares.to(gradients)
