"""Where cells run: processes of this machine, a Ray cluster, a SLURM array. Each knows how to run cells once, no more.

The machines of a cluster must see checkpoints, data and results under the same paths, and have segstream installed.
"""

from __future__ import annotations

import logging
import os
import queue
import shlex
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from segstream.cli.jobs.eval_job import Cell, Outcome, run_cell
from segstream.shards.errors import DataError

POLL_S = 1.0  # between looks at a SLURM array
LOST = 3  # times that Ray starts a task again whose machine went away


class Runner(Protocol):
    """Runs cells."""

    def run(self, cells: Sequence[Cell]) -> Iterator[Outcome]:
        """One outcome per cell, as they end, in any order. Closing the iterator stops what it can."""


@dataclass(frozen=True, slots=True)
class Local:
    """`jobs` processes at a time; each has its share of the cores, and where there are GPUs, one of them."""

    jobs: int

    def run(self, cells: Sequence[Cell]) -> Iterator[Outcome]:
        """See `Runner`."""
        stop = threading.Event()
        places: queue.SimpleQueue[Mapping[str, str]] = queue.SimpleQueue()
        for place in _places(self.jobs, gpus_here(), os.cpu_count() or 1):
            places.put(place)

        def one(cell: Cell) -> Outcome:
            place = places.get()
            try:
                return run_cell(cell, place, stop.is_set)
            finally:
                places.put(place)

        with ThreadPoolExecutor(self.jobs, "cell") as pool:
            try:
                for future in as_completed([pool.submit(one, cell) for cell in cells]):
                    yield future.result()
            finally:
                stop.set()
                pool.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True, slots=True)
class Ray:
    """Tasks of the Ray cluster that `RAY_ADDRESS` or `ray start` names, else of this machine."""

    options: Mapping[str, Any] = field(default_factory=dict)
    """Of each task, e.g. `num_cpus`, `num_gpus`."""

    def run(self, cells: Sequence[Cell]) -> Iterator[Outcome]:
        """See `Runner`."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError as error:
            raise DataError("this runner needs Ray; install it with: pip install 'segstream[ray]'") from error
        if not ray.is_initialized():
            ray.init(log_to_driver=False, logging_level=logging.ERROR)
        task = ray.remote(max_retries=LOST, **self.options)(run_cell)
        coming = {task.remote(cell): cell for cell in cells}
        try:
            while coming:
                (done,), _ = ray.wait(list(coming), num_returns=1)
                cell = coming.pop(done)
                try:
                    yield ray.get(done)
                except ray.exceptions.RayError as error:
                    yield Outcome(cell=cell, error=f"Ray: {_one_line(error)}")
        finally:
            for reference in coming:
                ray.cancel(reference, force=True)


@dataclass(frozen=True, slots=True)
class Slurm:
    """A SLURM array through submitit."""

    folder: Path
    """For submitit's own files; all machines see it."""
    jobs: int | None = None
    """Tasks of the array that run at a time; None: as SLURM sees fit."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of sbatch, with underscores: `partition`, `time` (minutes), `gpus_per_node`, `cpus_per_task`, `mem` ..."""
    executor: Any = None
    """One of submitit's executors instead of SLURM's."""

    def run(self, cells: Sequence[Cell]) -> Iterator[Outcome]:
        """See `Runner`."""
        waiting = dict(zip(self._executor().map_array(run_cell, cells), cells, strict=True))
        try:
            while waiting:
                for job in [job for job in waiting if job.done()]:
                    cell = waiting.pop(job)
                    error = job.exception()
                    yield job.result() if error is None else Outcome(cell=cell, error=f"SLURM: {_one_line(error)}")
                time.sleep(POLL_S if waiting else 0)
        finally:
            for job in waiting:
                job.cancel()

    def _executor(self) -> Any:
        if self.executor is not None:
            return self.executor
        try:
            import submitit
        except ImportError as error:
            raise DataError("this runner needs submitit; install it with: pip install 'segstream[slurm]'") from error
        try:
            executor = submitit.SlurmExecutor(self.folder)
            at_a_time = {} if self.jobs is None else {"array_parallelism": self.jobs}
            executor.update_parameters(job_name="segstream-grid", **at_a_time, **self.options)
        except (RuntimeError, ValueError) as error:
            raise DataError(f"SLURM: {_one_line(error)}; --print shows a script to submit elsewhere") from error
        return executor


def array_script(cells_file: Path, count: int, jobs: int, options: Mapping[str, Any]) -> str:
    """A script for `sbatch` that runs every cell of a file of `cli.cells.write_cells`, without submitit."""
    folder = cells_file.parent.resolve()
    head = {"job_name": "segstream-grid", "array": f"0-{count - 1}%{jobs}", "output": f"{folder}/%A_%a.out"}
    lines = [f"#SBATCH --{key.replace('_', '-')}={value}" for key, value in (head | dict(options)).items()]
    command = shlex.join([sys.executable, "-m", "segstream.cli.jobs.eval_job", str(cells_file.resolve())])
    return "\n".join(
        ["#!/bin/bash", *lines, f"cd {shlex.quote(os.getcwd())}", f'exec {command} "$SLURM_ARRAY_TASK_ID"', ""]  # noqa: PTH109 (one string)
    )


def gpus_here() -> list[str]:
    """The GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in named.split(",") if name]
    import torch

    return [str(i) for i in range(torch.cuda.device_count())]


def _places(jobs: int, gpus: Sequence[str], cores: int) -> list[dict[str, str]]:
    """Environments of processes that run side by side; what the user set stays."""
    share = {} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": str(max(1, cores // jobs))}
    return [share | ({"CUDA_VISIBLE_DEVICES": gpus[i % len(gpus)]} if gpus else {}) for i in range(jobs)]


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[-400:] or type(error).__name__
