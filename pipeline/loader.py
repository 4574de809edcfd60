"""Batches made ahead by threads. Threads, prefetch and ranks change when a batch is ready, never what is in it."""

from __future__ import annotations

import importlib.util
import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import IterableDataset, get_worker_info

from segstream.pipeline.augment_dali import DaliEngine
from segstream.pipeline.config import AugmentConfig, DataConfig, EngineName, LoaderConfig
from segstream.pipeline.decode import Arrays, Scratch
from segstream.pipeline.samples import EncodedSample, Samples
from segstream.shards.errors import DataError


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


class Loader(AbstractContextManager["Loader"]):
    """A mix of shard sets as batches, from any step to any other. A context manager.

        with Loader(data, augment, LoaderConfig(batch=8), seed=0) as loader:
            for batch in loader.batches(0, 100_000):
                batch.images, batch.labels  # (B, 3, h, w) uint8 RGB, (B, h, w) uint8 or int16, 255 ignored; see `Batch`

    Step t's batch is the same whatever was asked for before, with any number of threads and processes. So a loop of
    your own goes on by `batches(t, stop)`; Lightning and Accelerate take `loader.batches(...)`, or `Batches` where they
    want a dataset for torch's DataLoader.

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
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        """Open the shard sets and start the threads.

        Args:
            data: which shard sets, their shares, and the taxonomy of the labels.
            augment: what is done to each sample; `crop` gives h and w, in pixels.
            loader: `batch` (all ranks together), threads, batches made ahead, engine.
            seed: of the run, 0 to 2**64 - 1; the same on every rank.
            rank: which of `world_size` processes this is; it gets slots rank, rank + world_size, ...;
                where the batch does not divide, the first ranks get one more. By default as torch.distributed or
                torchrun's environment says, else the only one.

        Raises:
            DataError: a shard set that is missing or incomplete, labels that do not fit together, an order that cannot
                be laid out, more ranks than slots, or an engine that does not start.
        """
        rank, world_size = place(rank, world_size)
        if not 0 <= rank < world_size:
            raise DataError(f"rank {rank} of {world_size} processes; ranks are counted from 0")
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
        threads = loader.threads or cores()
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="loader")
        self._whole = ThreadPoolExecutor(1, thread_name_prefix="batch")
        self._closed = False
        self._process = os.getpid()
        chosen = choose_engine(loader.engine)
        self.engine_note = chosen.why
        """Which engine makes the crops, and why."""
        self._dali: DaliEngine | None = None
        if chosen.dali:
            batch = len(self._slots)
            try:
                self._dali = DaliEngine(augment, batch=batch, threads=threads, device_id=chosen.device_id)
            except BaseException:
                self.close()
                raise
        self.datasets = self._samples.datasets
        """Names, in the order of the mix; `Batch.dataset_ids` are positions in it."""
        self.weights = self._samples.weights
        """By dataset, its share of the slots; they add up to 1."""
        self.counts = self._samples.counts
        """By dataset, how many samples it has."""
        self.taxonomy = self._samples.taxonomy
        """Of the labels."""
        self.class_shares = self._samples.class_shares
        """By class of the taxonomy, its share of the labelled pixels of the stored images, mixed by `weights`."""
        self.warnings = self._samples.warnings
        """What speaks against training on the labels, one line each."""
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
            RuntimeError: the loader is closed, or this process was forked from the one that made it.
        """
        ahead: deque[list[Future[Any]]] = deque()
        steps = range(start, stop, every)
        begun = 0
        try:
            for _ in steps:
                while begun < len(steps) and len(ahead) <= self._prefetch:
                    ahead.append(self._begin(steps[begun]))
                    begun += 1
                self.queue_depth = sum(tasks[-1].done() for tasks in ahead)
                asked = time.perf_counter()
                batch: Batch = ahead[0][-1].result()
                self.wait_s += time.perf_counter() - asked
                ahead.popleft()
                yield batch
        finally:
            wait([task for tasks in ahead for task in tasks if not task.cancel()])

    def close(self) -> None:
        """Stop the threads, dropping what is not begun, and let go of the files. Again is fine."""
        if os.getpid() != self._process:  # of a child that was forked: the threads are its parent's
            return
        self._closed = True
        for threads in (self._threads, self._whole):
            threads.shutdown(wait=True, cancel_futures=True)
        self._samples.close()

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _begin(self, step: int) -> list[Future[Any]]:
        """The tasks that make a batch: one fills the row of each sample, the last gives the whole."""
        if self._closed:
            raise RuntimeError("the loader is closed; make a new one")
        if os.getpid() != self._process:
            raise RuntimeError("the loader was made before this process was forked; make one here, or use Batches")
        labels_BHW = self._labels.take()
        images_BHW3 = None if self._dali is not None else self._images.take()
        rows = [
            self._threads.submit(self._make, step, slot, None if images_BHW3 is None else images_BHW3[i], labels_BHW[i])
            for i, slot in enumerate(self._slots)
        ]
        return [*rows, self._whole.submit(self._put_together, step, rows, images_BHW3, labels_BHW)]

    def _make(
        self, step: int, slot: int, image_HW3: npt.NDArray[np.uint8] | None, label_HW: npt.NDArray[Any]
    ) -> tuple[int, str, EncodedSample | None]:
        """Fill a label and, unless that is DALI's to do, an image: (number of the dataset, key, what DALI needs)."""
        sample = self._samples.read(step, slot)
        if image_HW3 is not None:
            sample.image_into(image_HW3, self._scratch)
        sample.label_into(label_HW)
        return self.datasets.index(sample.pick.dataset), sample.key, sample if image_HW3 is None else None

    def _put_together(
        self,
        step: int,
        rows: Sequence[Future[tuple[int, str, EncodedSample | None]]],
        images_BHW3: npt.NDArray[np.uint8] | None,
        labels_BHW: npt.NDArray[Any],
    ) -> Batch:
        """Wait for the rows, of which the earliest failure is raised, and let DALI make the images if that is asked."""
        datasets, keys, samples = zip(*(row.result() for row in rows), strict=True)
        if images_BHW3 is not None:
            images_B3HW = torch.from_numpy(images_BHW3).permute(0, 3, 1, 2)
        else:
            assert self._dali is not None
            where = f"step {step} ({', '.join(keys)})"
            images_B3HW = self._dali.images([s.image for s in samples], [s.draw for s in samples], where=where)
        labels, dataset_ids = torch.from_numpy(labels_BHW), torch.tensor(datasets, dtype=torch.int64)
        return Batch(step=step, images=images_B3HW, labels=labels, dataset_ids=dataset_ids, keys=keys)


@dataclass(frozen=True, kw_only=True)
class Batches(IterableDataset[Batch]):
    """The batches of steps start to stop - 1, in order, whatever the number of workers.

    Give it to `DataLoader(..., batch_size=None)`: it makes whole batches. Shards are opened where and when it is
    iterated, once in each worker; worker w of W makes steps start + w, start + w + W, ..., which is the turn in which
    DataLoader asks them. Each of several processes gets its share, as of `Loader`. Iterating raises what that does.
    """

    data: DataConfig
    augment: AugmentConfig
    loader: LoaderConfig
    """`threads` 0 means the cores divided among the workers."""
    seed: int
    stop: int
    start: int = 0
    rank: int | None = None
    world_size: int | None = None

    def __post_init__(self) -> None:
        rank, world_size = place(self.rank, self.world_size)
        if world_size > 1:  # workers that are spawned know of no process group
            self.__dict__.update(rank=rank, world_size=world_size)

    def __len__(self) -> int:
        return max(0, self.stop - self.start)

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        number, workers = (0, 1) if worker is None else (worker.id, worker.num_workers)
        config = replace(self.loader, threads=self.loader.threads or max(1, cores() // workers))
        with Loader(
            self.data, self.augment, config, seed=self.seed, rank=self.rank, world_size=self.world_size
        ) as loader:
            yield from loader.batches(self.start + number, self.stop, every=workers)


def place(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """(rank, world_size) of this process: as given, of its process group, or as torchrun's environment says."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        found = torch.distributed.get_rank(), torch.distributed.get_world_size()
    else:
        found = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    return found[0] if rank is None else rank, found[1] if world_size is None else world_size


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class EngineChoice(NamedTuple):
    """The engine of a loader."""

    dali: bool
    why: str
    """For the log: engine and reason."""
    device_id: int | None = None
    """CUDA device of DALI; None for the host."""


def choose_engine(engine: EngineName) -> EngineChoice:
    """What `loader.engine` means on this machine; `auto` takes DALI where there are a CUDA device and DALI."""
    device_id = torch.cuda.current_device() if torch.cuda.is_available() else None
    if engine == "opencv":
        return EngineChoice(False, "engine opencv, as the recipe says")
    if engine == "dali":
        slow = "on the processor, for want of a CUDA device: slow"
        on = slow if device_id is None else f"on CUDA device {device_id}"
        return EngineChoice(True, f"engine dali, as the recipe says, {on}", device_id)
    if device_id is None:
        return EngineChoice(False, "engine opencv: no CUDA device")
    if importlib.util.find_spec("nvidia") is None or importlib.util.find_spec("nvidia.dali") is None:
        return EngineChoice(False, 'engine opencv: DALI is not installed (pip install "segstream[dali]")')
    return EngineChoice(True, f"engine dali: CUDA device {device_id}, and DALI is installed", device_id)
