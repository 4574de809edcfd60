"""One evaluation of a grid: one model on one dataset in one way, in a process of its own.

Whoever runs it, on whatever machine, comes through `run_job`. Beside the result lie `.id`, which evaluation the result
belongs to (written first, so that what a killed run's process still finishes counts), `.log`, what the process said,
and `.lock`, held by whoever is at it.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from segstream.shards.errors import DataError
from segstream.shards.files import break_links, lock, read_left, write_text
from segstream.shards.parallel import ending

LAST_LINES = 3  # of what a failed process said, kept in its outcome
POLL_S = 0.2  # between questions to a process or a lock
BAD_USE = 2  # exit code of a command that no second try will mend


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalJob:
    """What to evaluate, how, and where the result goes."""

    model: str
    dataset: str
    short_side: str
    """As given to `eval`; empty: the recipe's."""
    scales: str
    """As given to `eval`; empty: the recipe's."""
    args: tuple[str, ...]
    """Of `segstream`: `eval CHECKPOINT --data URL ...`, without `--out`."""
    identity: dict[str, Any]
    """What the result depends on: of checkpoint and data their hashes. JSON-able."""
    result: Path

    @property
    def name(self) -> str:
        """For people."""
        return " ".join(filter(None, (self.model, self.dataset, self.short_side, self.scales)))

    def beside(self, suffix: str) -> Path:
        """A file that goes with the result."""
        return self.result.with_name(self.result.name + suffix)

    def finished(self) -> bool:
        """Whether the result of just this evaluation is there."""
        return self.result.is_file() and self.noted() == self.identity

    def changed(self) -> list[str]:
        """What a result was made with that is not what is asked for now; [] if there is none, or it fits."""
        found = self.noted() if self.result.is_file() else self.identity
        return sorted(k for k in found.keys() | self.identity.keys() if found.get(k) != self.identity.get(k))

    def noted(self) -> dict[str, Any]:
        """The identity of what was begun there; {} if it cannot be told."""
        return read_left(self.beside(".id"))


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOutcome:
    """How an evaluation ended."""

    job: EvalJob
    error: str | None = None
    """None: the result is there. Otherwise the last lines of what was said."""
    hopeless: bool = False
    """Another try would end the same."""
    seconds: float = 0.0
    """Of the last try."""
    tries: int = 1
    """0: the result was there before."""

    @property
    def state(self) -> str:
        """For people and machines."""
        return "failed" if self.error is not None else "done" if self.tries else "kept"


def run_job(
    job: EvalJob, env: Mapping[str, str] | None = None, stopping: Callable[[], bool] = lambda: False
) -> JobOutcome:
    """Evaluate, unless that was done; waits for another process that is at it.

    Args:
        env: variables to set for the process, besides this one's.
        stopping: asked now and then whether to give up and stop the process.
    """
    start = time.monotonic()
    try:
        with _locked(job, stopping) as held:
            if job.finished():
                return JobOutcome(job=job)
            if job.noted() != job.identity:  # what an unfinished evaluation of the same identity left stays
                job.result.unlink(missing_ok=True)
                shutil.rmtree(job.beside(".journal"), ignore_errors=True)
                write_text(job.beside(".id"), json.dumps(job.identity, indent=1) + "\n")
            code = _evaluate(job, os.environ | (env or {}), held, stopping)
    except (OSError, DataError) as error:
        return JobOutcome(job=job, error=str(error), seconds=time.monotonic() - start)
    said = None if code == 0 and job.finished() else _explain(code, job.beside(".log"))
    return JobOutcome(job=job, error=said, hopeless=code == BAD_USE, seconds=time.monotonic() - start)


def write_jobs(path: Path, jobs: Sequence[EvalJob]) -> None:
    """A file from which `python -m segstream.cli.jobs.eval_job FILE N` runs evaluation N.

    Raises:
        DataError: it cannot be written.
    """
    write_text(path, json.dumps([asdict(job) | {"result": str(job.result)} for job in jobs], indent=1) + "\n")


def read_job(path: Path, number: int) -> EvalJob:
    """Evaluation `number` of such a file, counted from 0.

    Raises:
        DataError: the file is missing or damaged, or holds no such evaluation.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))[number]
        return EvalJob(**values | {"args": tuple(values["args"]), "result": Path(values["result"])})
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataError(f"{path}: no evaluation {number} in it ({error}); make the script again") from error


@contextlib.contextmanager
def _locked(job: EvalJob, stopping: Callable[[], bool]) -> Iterator[int]:
    """Hold the job: this process and the one it starts, which keeps the lock should this one be killed."""
    job.result.parent.mkdir(parents=True, exist_ok=True)
    break_links([job.beside(".lock"), job.beside(".log")])
    handle = os.open(job.beside(".lock"), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        while not lock(handle):
            if stopping():
                raise DataError("another process is evaluating it")
            time.sleep(POLL_S)
        yield handle
    finally:
        os.close(handle)


def _evaluate(job: EvalJob, env: Mapping[str, str], held: int, stopping: Callable[[], bool]) -> int:
    command = [sys.executable, "-m", "segstream.cli.main", *job.args, "--out", str(job.result)]
    quiet = subprocess.DEVNULL
    with (
        job.beside(".log").open("wb") as log,
        subprocess.Popen(command, env=env, stdin=quiet, stdout=quiet, stderr=log, pass_fds=(held,)) as process,
    ):
        while True:
            try:
                return process.wait(POLL_S)
            except subprocess.TimeoutExpired:
                if stopping():
                    process.terminate()


def _explain(code: int, log: Path) -> str:
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return f"{ending(code)}: {' | '.join(lines[-LAST_LINES:]) or 'it said nothing'}"


if __name__ == "__main__":
    outcome = run_job(read_job(Path(sys.argv[1]), int(sys.argv[2])))
    sys.exit(outcome.error and f"error: {outcome.job.name}: {outcome.error}")
