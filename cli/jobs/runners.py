"""Where evaluations run: processes of this machine, a Ray cluster, a SLURM array.

A runner takes jobs and yields one outcome for each, as they end, in any order; closing it stops what it can. It runs a
job once, no more. The machines of a cluster must see checkpoints, data and results under the same paths, and have
segstream installed.
"""

import logging
import os
import queue
import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from segstream.cli.jobs.eval_job import EvalJob, JobOutcome, run_job
from segstream.shards.errors import DataError, optional

Runner = Callable[[Sequence[EvalJob]], Iterator[JobOutcome]]

POLL_S = 1.0  # between questions to a SLURM array
LOST = 3  # times that Ray starts a task again whose machine went away
JOB_NAME = "segstream-grid"


def run_locally(jobs: Sequence[EvalJob], at_a_time: int) -> Iterator[JobOutcome]:
    """`at_a_time` processes; each has its share of the cores and, where there are GPUs, one of them."""
    stop = threading.Event()
    places: queue.SimpleQueue[Mapping[str, str]] = queue.SimpleQueue()
    gpus, cores = gpus_here(), os.cpu_count() or 1
    share = {} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": str(max(1, cores // at_a_time))}
    for i in range(at_a_time):  # what the user set stays
        places.put(share | ({"CUDA_VISIBLE_DEVICES": gpus[i % len(gpus)]} if gpus else {}))

    def one(job: EvalJob) -> JobOutcome:
        place = places.get()
        try:
            return run_job(job, place, stop.is_set)
        finally:
            places.put(place)

    with ThreadPoolExecutor(at_a_time, "eval-job") as pool:
        try:
            for future in as_completed([pool.submit(one, job) for job in jobs]):
                yield future.result()
        finally:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)


def run_on_ray(jobs: Sequence[EvalJob], options: Mapping[str, Any]) -> Iterator[JobOutcome]:
    """Tasks of the Ray cluster that `RAY_ADDRESS` or `ray start` names, else of this machine.

    Args:
        options: of each task, e.g. `num_cpus`, `num_gpus`.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray = optional("ray", "this runner needs Ray; install it with: pip install 'segstream[ray]'")
    if not ray.is_initialized():
        ray.init(log_to_driver=False, logging_level=logging.ERROR)
    task = ray.remote(max_retries=LOST, **options)(run_job)
    coming = {task.remote(job): job for job in jobs}
    try:
        while coming:
            (done,), _ = ray.wait(list(coming), num_returns=1)
            job = coming.pop(done)
            try:
                yield ray.get(done)
            except ray.exceptions.RayError as error:
                yield JobOutcome(job=job, error=f"Ray: {_one_line(error)}")
    finally:
        for reference in coming:
            ray.cancel(reference, force=True)


def run_on_slurm(jobs: Sequence[EvalJob], executor: Any) -> Iterator[JobOutcome]:
    """A SLURM array through submitit; `executor` is one of its executors."""
    waiting = dict(zip(executor.map_array(run_job, jobs), jobs, strict=True))
    try:
        while waiting:
            for task in [task for task in waiting if task.done()]:
                job, error = waiting.pop(task), task.exception()
                yield task.result() if error is None else JobOutcome(job=job, error=f"SLURM: {_one_line(error)}")
            time.sleep(POLL_S if waiting else 0)
    finally:
        for task in waiting:
            task.cancel()


def slurm_executor(folder: Path, at_a_time: int | None, options: Mapping[str, Any]) -> Any:
    """submitit's executor for SLURM.

    Args:
        folder: for submitit's own files; all machines see it.
        at_a_time: tasks of the array that run side by side; None: as SLURM sees fit.
        options: of sbatch, with underscores: `partition`, `time` (minutes), `gpus_per_node`, `cpus_per_task` ...

    Raises:
        DataError: submitit is not installed, or SLURM is not there.
    """
    submitit = optional("submitit", "this runner needs submitit; install it with: pip install 'segstream[slurm]'")
    try:
        executor = submitit.SlurmExecutor(folder)
        parallelism = {} if at_a_time is None else {"array_parallelism": at_a_time}
        executor.update_parameters(job_name=JOB_NAME, **parallelism, **options)
    except (RuntimeError, ValueError) as error:
        raise DataError(f"SLURM: {_one_line(error)}; --print shows a script to submit elsewhere") from error
    return executor


def array_script(jobs_file: Path, count: int, at_a_time: int, options: Mapping[str, Any]) -> str:
    """A script for `sbatch` that runs every job of a file of `eval_job.write_jobs`, without submitit."""
    folder = jobs_file.parent.resolve()
    head = {"job_name": JOB_NAME, "array": f"0-{count - 1}%{at_a_time}", "output": f"{folder}/%A_%a.out"}
    lines = [f"#SBATCH --{key.replace('_', '-')}={value}" for key, value in (head | dict(options)).items()]
    command = shlex.join([sys.executable, "-m", "segstream.cli.jobs.eval_job", str(jobs_file.resolve())])
    lines += [f"cd {shlex.quote(str(Path.cwd()))}", f'PYTHONSAFEPATH=1 exec {command} "$SLURM_ARRAY_TASK_ID"', ""]
    return "\n".join(["#!/bin/bash", *lines])


def gpus_here() -> list[str]:
    """The GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in named.split(",") if name]
    import torch

    return [str(i) for i in range(torch.cuda.device_count())]


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[-400:] or type(error).__name__
