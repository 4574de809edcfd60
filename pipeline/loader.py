"""Batches made ahead by threads. Threads, prefetch and ranks change when a batch is ready, never what is in it."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from pipeline.batch import Batch
from pipeline.config import AugmentConfig, DataConfig, LoaderConfig
from pipeline.samples import Samples
from shards.errors import DataError


class Loader:
    """A mix of shard sets as batches, from any step to any other. A context manager.

    Starting one sets OpenCV to a single thread of its own, process-wide: samples are made side by side, and
    threads inside each would only get in one another's way.
    """

    def __init__(
        self,
        data: DataConfig,
        augment: AugmentConfig,
        loader: LoaderConfig,
        *,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Open the shard sets and start the threads.

        Args:
            seed: of the run, 0 to 2**64 - 1; the same on every rank.
            rank: which of `world_size` processes this is; it gets slots rank, rank + world_size, ...

        Raises:
            DataError: the batch does not divide among the ranks, or what `Samples` refuses.
        """
        if loader.batch % world_size:
            raise DataError(
                f"loader.batch: {loader.batch} samples do not divide among {world_size} processes; "
                f"use a multiple of {world_size}"
            )
        self._samples = Samples(data, augment, seed=seed, batch=loader.batch)
        self._slots = range(rank, loader.batch, world_size)
        self._crop_hw = augment.crop_hw
        self._prefetch = loader.prefetch
        cv2.setNumThreads(1)
        self._threads = ThreadPoolExecutor(loader.threads or cores(), thread_name_prefix="loader")
        self._closed = False
        self.datasets = self._samples.datasets
        """Names, in the order of the mix; `Batch.dataset_ids` are positions in it."""
        self.weights = self._samples.weights
        """By dataset, its share of the slots; they add up to 1."""
        self.taxonomy = self._samples.taxonomy
        """Of the labels."""
        self.class_shares = self._samples.class_shares
        """By class of the taxonomy, its share of the labelled pixels of the stored images, mixed by `weights`."""
        self.fingerprint: dict[str, Any] = self._samples.fingerprint
        """All that decides which sample comes when and how it looks; a run may resume only under an equal one."""
        self.wait_s = 0.0
        """Seconds that iterators have waited for a batch, all together."""
        self.queue_depth = 0
        """Batches that were ready when the latest one was asked for."""

    def batches(self, start: int, stop: int, *, every: int = 1) -> Iterator[Batch]:
        """The batches of steps start, start + every, ... below stop.

        Leaving the loop early is fine: what was begun is dropped once the iterator is closed or forgotten.

        Raises:
            DataError: a sample cannot be read; comes in place of its batch.
        """
        ahead: deque[_Making] = deque()
        steps = range(start, stop, every)
        begun = 0
        try:
            for _ in steps:
                while begun < len(steps) and len(ahead) <= self._prefetch:
                    ahead.append(self._begin(steps[begun]))
                    begun += 1
                self.queue_depth = sum(making.is_done() for making in ahead)
                asked = time.perf_counter()
                batch = ahead[0].result()
                self.wait_s += time.perf_counter() - asked
                ahead.popleft()
                yield batch
        finally:
            futures = [future for making in ahead for future in making.futures]
            wait([future for future in futures if not future.cancel()])

    def close(self) -> None:
        """Stop the threads, dropping what is not begun, and let go of the files. Again is fine."""
        self._closed = True
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._samples.close()

    def __enter__(self) -> Loader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _begin(self, step: int) -> _Making:
        if self._closed:
            raise RuntimeError("the loader is closed; make a new one")
        images_BHW3 = np.empty((len(self._slots), *self._crop_hw, 3), np.uint8)
        labels_BHW = np.empty((len(self._slots), *self._crop_hw), self._samples.label_dtype)
        futures = [
            self._threads.submit(self._make, step, slot, images_BHW3[i], labels_BHW[i])
            for i, slot in enumerate(self._slots)
        ]
        return _Making(step, images_BHW3, labels_BHW, futures)

    def _make(
        self, step: int, slot: int, image_HW3: npt.NDArray[np.uint8], label_HW: npt.NDArray[Any]
    ) -> tuple[int, str]:
        sample = self._samples.at(step, slot)
        image_HW3[:], label_HW[:] = sample.image, sample.label
        return self.datasets.index(sample.pick.dataset), sample.key


@dataclass(frozen=True, slots=True)
class _Making:
    """A batch under way: its arrays, and the tasks that each fill one row of them."""

    step: int
    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[Any]
    futures: list[Future[tuple[int, str]]]

    def is_done(self) -> bool:
        return all(future.done() for future in self.futures)

    def result(self) -> Batch:
        """Wait for it; the failure of the earliest slot is raised."""
        made = [future.result() for future in self.futures]
        return Batch(
            step=self.step,
            images=torch.from_numpy(self.images).permute(0, 3, 1, 2),
            labels=torch.from_numpy(self.labels),
            dataset_ids=torch.tensor([dataset for dataset, _ in made], dtype=torch.int64),
            keys=tuple(key for _, key in made),
        )


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
