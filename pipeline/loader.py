"""Batches made ahead by threads. Threads, prefetch and ranks change when a batch is ready, never what is in it."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from segstream.pipeline.augment_dali import DaliEngine
from segstream.pipeline.batch import Batch
from segstream.pipeline.buffers import Arrays, Scratch
from segstream.pipeline.config import AugmentConfig, DataConfig, LoaderConfig
from segstream.pipeline.engine import choose
from segstream.pipeline.samples import Samples, Stored
from segstream.shards.errors import DataError


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
            rank: which of `world_size` processes this is; it gets slots rank, rank + world_size, ...;
                where the batch does not divide, the first ranks get one more.

        Raises:
            DataError: there are more ranks than slots, or what `Samples` refuses.
        """
        if loader.batch < world_size:
            raise DataError(
                f"loader.batch: {loader.batch} samples leave some of {world_size} processes without any; "
                f"start at most {loader.batch} processes, or use a larger batch"
            )
        self._samples = Samples(data, augment, seed=seed, batch=loader.batch)
        self._slots = range(rank, loader.batch, world_size)
        self._crop_hw = augment.crop_hw
        self._images = Arrays((len(self._slots), *self._crop_hw, 3), np.uint8)
        self._labels = Arrays((len(self._slots), *self._crop_hw), self._samples.label_dtype)
        self._scratch = Scratch()
        self._prefetch = loader.prefetch
        cv2.setNumThreads(1)
        self._threads = ThreadPoolExecutor(loader.threads or cores(), thread_name_prefix="loader")
        self._closed = False
        chosen = choose(loader.engine)
        self.engine_note = chosen.why
        """Which engine makes the crops, and why."""
        self._dali: DaliEngine | None = None
        self._dali_thread = ThreadPoolExecutor(1, thread_name_prefix="dali") if chosen.dali else None
        if chosen.dali:
            try:
                self._dali = DaliEngine(
                    batch=len(self._slots),
                    crop_hw=self._crop_hw,
                    threads=loader.threads or cores(),
                    device_id=chosen.device_id,
                )
            except BaseException:
                self.close()
                raise
        self.datasets = self._samples.datasets
        """Names, in the order of the mix; `Batch.dataset_ids` are positions in it."""
        self.weights = self._samples.weights
        """By dataset, its share of the slots; they add up to 1."""
        self.taxonomy = self._samples.taxonomy
        """Of the labels."""
        self.class_shares = self._samples.class_shares
        """By class of the taxonomy, its share of the labelled pixels of the stored images, mixed by `weights`."""
        self.fingerprint: dict[str, Any] = self._samples.fingerprint | {"engine": "dali" if chosen.dali else "opencv"}
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
        if self._dali_thread is not None:
            self._dali_thread.shutdown(wait=True, cancel_futures=True)
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
        labels_BHW = self._labels.take()
        if self._dali_thread is not None:
            reads = [self._threads.submit(self._read, step, slot, labels_BHW[i]) for i, slot in enumerate(self._slots)]
            images = self._dali_thread.submit(self._run_dali, step, reads)
            return _Making(step, images, labels_BHW, reads)
        images_BHW3 = self._images.take()
        futures = [
            self._threads.submit(self._make, step, slot, images_BHW3[i], labels_BHW[i])
            for i, slot in enumerate(self._slots)
        ]
        return _Making(step, images_BHW3, labels_BHW, futures)

    def _make(
        self, step: int, slot: int, image_HW3: npt.NDArray[np.uint8], label_HW: npt.NDArray[Any]
    ) -> tuple[int, str]:
        stored = self._samples.read(step, slot)
        stored.image_into(image_HW3, self._scratch)
        stored.label_into(label_HW)
        return self.datasets.index(stored.pick.dataset), stored.key

    def _read(self, step: int, slot: int, label_HW: npt.NDArray[Any]) -> tuple[int, str, Stored]:
        stored = self._samples.read(step, slot)
        stored.label_into(label_HW)
        return self.datasets.index(stored.pick.dataset), stored.key, stored

    def _run_dali(self, step: int, reads: list[Future[tuple[int, str, Stored]]]) -> torch.Tensor:
        assert self._dali is not None
        samples = [read.result()[2] for read in reads]
        where = f"step {step} ({', '.join(sample.key for sample in samples)})"
        return self._dali.images([sample.image for sample in samples], [sample.draw for sample in samples], where=where)


@dataclass(frozen=True, slots=True)
class _Making:
    """A batch under way: its arrays, and the tasks that each fill one row of them."""

    step: int
    images: npt.NDArray[np.uint8] | Future[torch.Tensor]
    """Filled by the tasks, or what an engine makes of all they read."""
    labels: npt.NDArray[Any]
    tasks: Sequence[Future[Any]]
    """Each gives (number of its dataset, key, ...)."""

    @property
    def futures(self) -> list[Future[Any]]:
        return [*self.tasks, *([self.images] if isinstance(self.images, Future) else [])]

    def is_done(self) -> bool:
        return all(future.done() for future in self.futures)

    def result(self) -> Batch:
        """Wait for it; the failure of the earliest slot is raised."""
        made = [task.result() for task in self.tasks]
        if isinstance(self.images, Future):
            images_B3HW = self.images.result()
        else:
            images_B3HW = torch.from_numpy(self.images).permute(0, 3, 1, 2)
        return Batch(
            step=self.step,
            images=images_B3HW,
            labels=torch.from_numpy(self.labels),
            dataset_ids=torch.tensor([dataset for dataset, *_ in made], dtype=torch.int64),
            keys=tuple(key for _, key, *_ in made),
        )


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
