"""What a command prints: progress on stderr, results on stdout."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

UNFOLDED = 10_000  # columns
EVERY_S = 5.0  # between progress lines where there is no terminal


Advance = Callable[[int, int], None]
"""Called as work goes on, with how many units are finished, and of how many."""


def note(text: str) -> None:
    """One line for a person, on stderr (stdout is for results). If nobody can be told, the work goes on."""
    with suppress(OSError):
        typer.echo(text, err=True)


def print_json(value: Any) -> None:
    """Print a result for machines."""
    typer.echo(json.dumps(value, indent=2, allow_nan=False))


def print_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table for people; the first column is text, the others are right-aligned.

    Where there is no terminal, lines are as long as they need to be, so that each row is one.
    """
    table = Table(box=None, header_style="bold", pad_edge=False)
    for i, name in enumerate(header):
        table.add_column(name, justify="left" if i == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(str, row))
    Console(width=None if sys.stdout.isatty() else UNFOLDED).print(table)


@contextmanager
def progress(what: str, unit: str = "images") -> Iterator[Advance]:
    """A bar in a terminal; elsewhere a line now and then, and one at the end."""
    if sys.stderr.isatty():
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        # Work may arrive minutes apart: an estimate from the last 30 s would often have nothing to go by.
        screen = Console(stderr=True)
        with Progress(*columns, console=screen, transient=False, speed_estimate_period=3600) as bar:
            task = bar.add_task(what, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
        return
    start = last = time.monotonic()
    state = (0, 0)

    def line(done: int, total: int) -> None:
        nonlocal last, state
        state = (done, total)
        if time.monotonic() - last >= EVERY_S and done < total:
            last = time.monotonic()
            note(f"{what}: {done} of {total} {unit}, {(total - done) * (last - start) / max(done, 1):.0f} s to go")

    yield line
    note(f"{what}: {state[0]} of {state[1]} {unit} in {time.monotonic() - start:.1f} s")
