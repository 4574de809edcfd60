"""What a person sees while a run trains: a bar in a terminal, elsewhere a line for every row of the log."""

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from segstream.cli.console import note, plain
from segstream.model.types import LogRow


@contextmanager
def training_line(name: str) -> Iterator[Callable[[LogRow], None]]:
    """Shows the rows it is given; the bar appears with the first."""
    if not sys.stderr.isatty():
        yield lambda row: note(f"{name}: step {row.step} of {row.steps}, {figures(row)}")
        return
    title = TextColumn("{task.description}", markup=False)
    columns = (title, BarColumn(20), MofNCompleteColumn(), TextColumn("{task.fields[row]}"))
    bar = Progress(*columns, console=Console(stderr=True))
    task = bar.add_task(plain(name), total=None, row="")

    def show(row: LogRow) -> None:
        bar.start()  # again is fine
        bar.update(task, completed=row.step, total=row.steps, row=figures(row))

    try:
        yield show
    finally:
        bar.stop()


def figures(row: LogRow) -> str:
    """The figures of a row, for people."""
    parts = [
        f"loss {row.loss:.3f}",
        f"lr {row.lr:.4g}",
        f"{row.crops_per_s:.{0 if row.crops_per_s >= 10 else 2}f} crops/s",
        f"data wait {row.data_wait:.0%}",
        *([] if math.isnan(row.memory_mib) else [f"{row.memory_mib / 1024:.1f} GiB"]),
        *([f"{row.skipped} steps skipped"] if row.skipped else []),
        f"{duration(row.eta_s)} to go",
    ]
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """`42 s`, `5 min 07 s`, `3 h 20 min`, `2 d 04 h`: the two units that matter."""
    whole = round(seconds)
    for size, unit, small, small_unit in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // small:02d} {small_unit}"
    return f"{whole} s"
