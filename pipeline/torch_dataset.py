"""The stream of batches as a dataset for torch's DataLoader, for programs that are built around one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from torch.utils.data import IterableDataset, get_worker_info

from segstream.pipeline.batch import Batch
from segstream.pipeline.config import AugmentConfig, DataConfig, LoaderConfig
from segstream.pipeline.loader import Loader, cores


@dataclass(frozen=True, kw_only=True)
class Batches(IterableDataset[Batch]):
    """The batches of steps start to stop - 1, in order, whatever the number of workers.

    Give it to `DataLoader(..., batch_size=None)`: it makes whole batches. Shards are opened where and when it is
    iterated, once in each worker; worker w of W makes steps start + w, start + w + W, ..., which is the turn in which
    DataLoader asks them. Iterating raises what `Loader` does.
    """

    data: DataConfig
    augment: AugmentConfig
    loader: LoaderConfig
    """`threads` 0 means the cores divided among the workers."""
    seed: int
    stop: int
    start: int = 0
    rank: int = 0
    world_size: int = 1

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
