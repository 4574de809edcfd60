"""What a command prints: progress on stderr, results on stdout."""

import json
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from segstream.shards.errors import public

UNFOLDED = 10_000  # columns
EVERY_S = 5.0  # between progress lines where there is no terminal


Advance = Callable[[int, int], None]
"""Called as work goes on, with how many units are finished, and of how many."""


def plain(text: str) -> str:
    """The text with what a terminal would act upon (escape sequences, other directions) spelt out; lines stay lines."""
    return "".join(
        c if c.isprintable() or c in "\n\t" or unicodedata.category(c) == "Zs" else ascii(c)[1:-1] for c in text
    )


def say(text: str, *, err: bool = False) -> None:
    """Print text for a person as it is: no name in it is markup or moves the cursor."""
    typer.echo(plain(text), err=err)


def note(text: str) -> None:
    """One line for a person, on stderr (stdout is for results). If nobody can be told, the work goes on."""
    with suppress(OSError):
        say(text, err=True)


def note_place(checkpoint: object, meta: Mapping[str, Any]) -> None:
    """Where in a published file the weights lay, if not at its top."""
    if where := meta.get("where"):
        note(f"{checkpoint}: weights of {where}")


def print_json(value: Any) -> None:
    """Print a result for machines."""
    typer.echo(json.dumps(public(value), indent=2, allow_nan=False))


def print_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table for people; the first column is text, the others are right-aligned.

    Where there is no terminal, lines are as long as they need to be, so that each row is one.
    """
    table = Table(box=None, header_style="bold", pad_edge=False)
    for i, name in enumerate(header):
        table.add_column(Text(plain(name)), justify="left" if i == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(plain(str(value))) for value in row))
    Console(width=None if sys.stdout.isatty() else UNFOLDED).print(table)


@contextmanager
def progress(what: str, unit: str = "images") -> Iterator[Advance]:
    """A bar in a terminal; elsewhere a line now and then, and one at the end."""
    if sys.stderr.isatty():
        title = TextColumn("{task.description}", markup=False)
        columns = (title, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        # Work may arrive minutes apart: an estimate from the last 30 s would often have nothing to go by.
        with Progress(*columns, console=Console(stderr=True), speed_estimate_period=3600) as bar:
            task = bar.add_task(plain(what), total=None)
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
