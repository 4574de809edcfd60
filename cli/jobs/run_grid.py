"""Many evaluations at a time: every cell of a grid brought to an end, each a process of its own that may fail alone."""

from __future__ import annotations

import contextlib
import json as jsonlib
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import typer

from segstream.cli.console import Report, note, print_json, print_table, progress
from segstream.cli.jobs.eval_grid import RECIPE, Grid, plan, read_grid
from segstream.cli.jobs.eval_job import Cell, finished, stale, write_cells
from segstream.cli.jobs.runners import Local, Ray, Runner, Slurm, array_script, gpus_here
from segstream.cli.report.results import percent
from segstream.shards.errors import DataError
from segstream.shards.files import write_text

HIDDEN = ".grid"  # folder of what the runners need
RunnerName = Literal["local", "ray", "slurm"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What became of a cell."""

    cell: Cell
    state: Literal["kept", "done", "failed"]
    """kept: it was finished before."""
    tries: int = 0
    seconds: float = 0.0
    error: str | None = None

    def rows(self) -> list[dict[str, Any]]:
        """Of its result file; none if it failed."""
        if self.state == "failed":
            return []
        rows: list[dict[str, Any]] = jsonlib.loads(self.cell.result.read_text(encoding="utf-8"))
        return rows

    def as_dict(self) -> dict[str, Any]:
        """A row of `segstream eval --grid --json`."""
        names = {name: getattr(self.cell, name) for name in ("model", "dataset", "short_side", "scales")}
        rest = {name: getattr(self, name) for name in ("state", "tries", "seconds", "error")}
        miou = {row["taxonomy"]: row["miou"] for row in self.rows()}
        return names | rest | {"result": str(self.cell.result), "miou": miou}


def judge_grid(
    path: Path, out: Path, *, runner: RunnerName, jobs: int | None, retries: int, script: bool, json: bool
) -> bool:
    """`segstream eval --grid`: plan, run, write, print.

    Args:
        script: print a SLURM array script instead of running.

    Returns:
        Whether every cell has its result.

    Raises:
        DataError: the grid cannot be planned, the runner is not installed, or results cannot be written.
    """
    grid = read_grid(path)
    cells = plan(grid, out)
    if script:
        pending = [cell for cell in cells if not finished(cell)]
        if not pending:
            raise DataError(f"{out}: every cell is finished; there is nothing to submit")
        write_cells(out / HIDDEN / "cells.json", pending)
        typer.echo(array_script(out / HIDDEN / "cells.json", len(pending), jobs or len(pending), grid.slurm), nl=False)
        return True
    with progress(f"grid {path.stem}", "cells") as report, _told_to_stop():
        records = run_grid(cells, _runner(runner, grid, out, jobs), retries=retries, report=report)
    write_models(out, records)
    if json:
        print_json([record.as_dict() for record in records])
    else:
        print_table(("model", "dataset", "short side", "scales", "classes", "mIoU", "state"), _lines(records))
    return all(record.state != "failed" for record in records)


def run_grid(cells: Sequence[Cell], runner: Runner, *, retries: int, report: Report) -> list[Record]:
    """Bring every cell that is not finished to an end; failed ones again, `retries` times, after all others.

    Returns:
        A record for each cell, in their order.
    """
    records = {cell.result: Record(cell=cell, state="kept") for cell in cells if finished(cell)}
    pending = [cell for cell in cells if cell.result not in records]
    for cell in pending:
        if changed := stale(cell):
            note(f"{cell.name}: was judged with another {' and '.join(changed)}; again")
    report(len(records), len(cells))
    for attempt in range(1, retries + 2):
        for record in _round(pending, runner, attempt, last=attempt > retries):
            records[record.cell.result] = record
            report(sum(r.state != "failed" for r in records.values()), len(cells))
        pending = [cell for cell in pending if cell.result not in records]
        if not pending:
            break
    return [records[cell.result] for cell in cells]


def write_models(out: Path, records: Sequence[Record]) -> None:
    """`out/MODEL.json` for `results` and `report`: all rows of a model's finished cells.

    Of rows that differ in the shorter side alone, the best is marked `max`.

    Raises:
        DataError: a file cannot be written.
    """
    for model in dict.fromkeys(record.cell.model for record in records):
        rows = [row for record in records if record.cell.model == model for row in record.rows()]
        best: dict[str, dict[str, Any]] = {}
        for row in rows:
            alike = jsonlib.dumps([row.get(key) for key in ("url", "taxonomy", "relabeled", "scales")])
            if alike not in best or row["miou"] > best[alike]["miou"]:
                best[alike] = row
        for row in rows:
            row["max"] = any(row is chosen for chosen in best.values())
        write_text(out / f"{model}.json", jsonlib.dumps(rows, indent=2, allow_nan=False) + "\n")


def _round(pending: Sequence[Cell], runner: Runner, attempt: int, *, last: bool) -> Iterator[Record]:
    """Records of the cells that came to an end: good, or bad for good."""
    for outcome in runner.run(pending) if pending else ():
        if outcome.error is None:
            yield Record(cell=outcome.cell, state="done", tries=attempt, seconds=outcome.seconds)
            continue
        final = last or outcome.hopeless
        note(f"{outcome.cell.name}: failed ({outcome.error}){'' if final else '; will be tried again'}")
        if final:
            seconds, error = outcome.seconds, outcome.error
            yield Record(cell=outcome.cell, state="failed", tries=attempt, seconds=seconds, error=error)


def _runner(name: RunnerName, grid: Grid, out: Path, jobs: int | None) -> Runner:
    if name == "ray":
        return Ray(grid.ray)
    if name == "slurm":
        return Slurm(out.resolve() / HIDDEN, jobs, grid.slurm)
    return Local(jobs or max(1, len(gpus_here())))


def _lines(records: Sequence[Record]) -> list[tuple[str, ...]]:
    lines: list[tuple[str, ...]] = []
    for record in records:
        cell = record.cell
        names = (cell.model, cell.dataset, cell.short_side or RECIPE, cell.scales or RECIPE)
        state = record.state if record.tries < 2 else f"{record.state}, try {record.tries}"
        rows = record.rows() or [{"taxonomy": "-", "miou": None}]
        lines += [(*names, row["taxonomy"], percent(row["miou"]), state) for row in rows]
    return lines


@contextlib.contextmanager
def _told_to_stop() -> Iterator[None]:
    """SIGTERM ends the command as Ctrl-C does, with the processes that it started."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
