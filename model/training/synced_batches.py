"""Batches, each agreed on by all processes before it is used.

The agreement is one sum of a few numbers on the CPU, where labels are made, so no GPU waits for it: how many pixels of
each dataset the global batch has, and whether any process was told to stop or cannot go on. What one of them cannot do
ends the run in all, instead of leaving the others waiting.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from segstream.model.distributed import ProcessGroup
from segstream.model.losses.loss import LabelCounts, count_labels
from segstream.model.types import Batch
from segstream.shards.errors import DataError
from segstream.shards.taxonomy import IGNORE_INDEX


@dataclass(frozen=True, slots=True)
class Agreement:
    """The same on every process."""

    global_counts: LabelCounts
    """Of the global batch, on the CPU."""
    crops: int
    """Samples in the global batch."""
    stop: bool
    """Whether any process was told to stop."""


@dataclass(slots=True, kw_only=True)
class SyncedBatches:
    """This process' share of the batches."""

    batches: Iterator[Batch]
    group: ProcessGroup
    num_datasets: int
    num_classes: int
    """Of the network."""
    parts: int
    """Passes in which a batch is gone through."""
    class_weights: Tensor | None
    """(K,) float32 on the CPU, see `model.losses.loss.loss_sums`."""
    wait_s: float = 0.0
    """Seconds spent waiting for batches so far."""

    def take(self, step: int, *, stop: bool, failure: Exception | None) -> tuple[Batch, Agreement]:
        """The batch of a step.

        Args:
            step: the next one.
            stop: whether this process was told to stop.
            failure: what else keeps this process from going on.

        Raises:
            Exception: what this process' batch raised, or `failure`.
            DataError: another process cannot go on.
        """
        try:
            if failure is not None:
                raise failure
            asked = time.perf_counter()
            batch = next(self.batches, None)
            self.wait_s += time.perf_counter() - asked
            if batch is None:
                raise RuntimeError(f"the source ended before step {step}")
            check_batch(batch, step, num_classes=self.num_classes, parts=self.parts)
            own = count_labels(batch.labels, batch.dataset_ids, self.num_datasets, self.class_weights)
        except Exception:
            self._agree(None, 0, stop=stop)
            raise
        agreed = self._agree(own, len(batch.keys), stop=stop)
        if agreed is None:
            raise DataError(f"step {step}: another process of this run cannot go on; its own message says why")
        return batch, agreed

    def _agree(self, own: LabelCounts | None, crops: int, *, stop: bool) -> Agreement | None:
        """None: some process has failed, which one says by having no counts."""
        zeros = torch.zeros(self.num_datasets, dtype=torch.float64)
        pixels, images = (zeros, zeros) if own is None else (own.pixels, own.images)
        flags = torch.tensor([crops, stop, own is None], dtype=torch.float64)
        settled = self.group.sum_(torch.cat([pixels, images, flags]))
        pixels, images = settled[: 2 * self.num_datasets].view(2, -1)
        crops_, stops, failures = settled[-3:]
        if failures > 0:
            return None
        return Agreement(LabelCounts(pixels, images), crops=int(crops_), stop=bool(stops > 0))


def check_batch(batch: Batch, step: int, *, num_classes: int, parts: int) -> None:
    """Is this batch what the step can use?

    Raises:
        RuntimeError: it is another step's.
        DataError: a label is beyond the network, or there are fewer samples than passes.
    """
    if batch.step != step:
        raise RuntimeError(f"asked for the batch of step {step}, got that of step {batch.step}")
    if len(batch.keys) < parts:
        raise DataError(
            f"accumulate: {parts} parts of the {len(batch.keys)} samples that a process gets; lower it to "
            f"{len(batch.keys)}, use fewer processes or a larger batch"
        )
    largest = int(torch.where(batch.labels == IGNORE_INDEX, 0, batch.labels).max())
    if largest >= num_classes:
        raise DataError(
            f"step {step}: a label holds id {largest}, the network has {num_classes} classes (samples "
            f"{', '.join(batch.keys)}); train in the taxonomy that the labels are in"
        )
