"""One cell of a grid: one model on one dataset in one way, judged by a process of its own.

Whoever runs a cell, on whatever machine, comes through `run_cell`. Beside the result lie `.id`, which evaluation the
result belongs to (written first, so that what a killed run's process still finishes counts), and `.log`, what it said.
"""

from __future__ import annotations

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
from segstream.shards.files import lock, write_text

LAST_LINES = 3  # of what a failed process said, kept in the report
POLL_S = 0.2  # between looks at a process or a lock
BAD_USE = 2  # exit code of a command that no second try will mend


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What to judge, how, and where the result goes."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a try at a cell ended."""

    cell: Cell
    error: str | None
    """None: the result is there. Otherwise the last lines of what was said."""
    hopeless: bool = False
    """Another try would end the same."""
    seconds: float = 0.0


def finished(cell: Cell) -> bool:
    """Whether the result of just this evaluation is there."""
    return cell.result.is_file() and _read(cell.beside(".id")) == cell.identity


def stale(cell: Cell) -> list[str]:
    """What a result was made with that is not what is asked for now; [] if there is none, or it fits."""
    found = _read(cell.beside(".id"))
    if not cell.result.is_file() or found == cell.identity:
        return []
    found = found or {}
    return sorted(key for key in found.keys() | cell.identity.keys() if found.get(key) != cell.identity.get(key))


def run_cell(cell: Cell, env: Mapping[str, str] | None = None, stopping: Callable[[], bool] = lambda: False) -> Outcome:
    """Judge a cell, unless that was done; waits for another process that is at it.

    Args:
        env: variables to set for the process, besides this one's.
        stopping: asked now and then whether to give up and stop the process.
    """
    start = time.monotonic()
    try:
        with _alone(cell, stopping) as held:
            if finished(cell):
                return Outcome(cell=cell, error=None)
            _prepare(cell)
            code = _judge(cell, os.environ | (env or {}), held, stopping)
    except (OSError, DataError) as error:
        return Outcome(cell=cell, error=str(error), seconds=time.monotonic() - start)
    said = None if code == 0 and finished(cell) else _explain(code, cell.beside(".log"))
    return Outcome(cell=cell, error=said, hopeless=code == BAD_USE, seconds=time.monotonic() - start)


def write_cells(path: Path, cells: Sequence[Cell]) -> None:
    """A file from which `python -m segstream.cli.jobs.eval_job FILE N` runs cell N.

    Raises:
        DataError: it cannot be written.
    """
    write_text(path, json.dumps([asdict(cell) | {"result": str(cell.result)} for cell in cells], indent=1) + "\n")


def read_cell(path: Path, number: int) -> Cell:
    """Cell `number` of such a file, counted from 0.

    Raises:
        DataError: the file is missing or damaged, or holds no such cell.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))[number]
        return Cell(**values | {"args": tuple(values["args"]), "result": Path(values["result"])})
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataError(f"{path}: no cell {number} in it ({error}); make the script again") from error


@contextlib.contextmanager
def _alone(cell: Cell, stopping: Callable[[], bool]) -> Iterator[int]:
    """Hold the cell: this process and the one it starts, which keeps it should this one be killed."""
    cell.result.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(cell.beside(".lock"), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        while not lock(handle):
            if stopping():
                raise DataError("another process is judging it")
            time.sleep(POLL_S)
        yield handle
    finally:
        os.close(handle)


def _prepare(cell: Cell) -> None:
    """What another evaluation left goes; what an unfinished one of the same identity left stays, to go on from."""
    if _read(cell.beside(".id")) == cell.identity:
        return
    cell.result.unlink(missing_ok=True)
    shutil.rmtree(cell.beside(".journal"), ignore_errors=True)
    write_text(cell.beside(".id"), json.dumps(cell.identity, indent=1) + "\n")


def _judge(cell: Cell, env: Mapping[str, str], held: int, stopping: Callable[[], bool]) -> int:
    command = [sys.executable, "-m", "segstream.cli.main", *cell.args, "--out", str(cell.result)]
    quiet = subprocess.DEVNULL
    with (
        cell.beside(".log").open("wb") as log,
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
    said = " | ".join(lines[-LAST_LINES:])
    how = f"killed by signal {-code} (memory?)" if code < 0 else f"exit code {code}"
    return f"{how}: {said or 'it said nothing'}"


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


if __name__ == "__main__":
    outcome = run_cell(read_cell(Path(sys.argv[1]), int(sys.argv[2])))
    sys.exit(outcome.error and f"error: {outcome.cell.name}: {outcome.error}")
