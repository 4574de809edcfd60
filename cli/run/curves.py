"""Where the figures of a run are drawn: dvclive, and TensorBoard if asked for.

A resumed run makes the steps after its last checkpoint again. Each writer therefore forgets, with the first thing it
is given, what an earlier start left at that step and later: every point stands once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

from segstream.cli.console import note
from segstream.colors import Rgb
from segstream.shards.errors import UsageError


class Curves(Protocol):
    """Takes figures and pictures by step, in ascending order."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to each named curve."""

    def picture(self, step: int, name: str, picture: Rgb) -> None:
        """Show a picture, (H, W, 3) uint8 RGB."""


class DvcLive:
    """Curves as `plots/metrics/NAME.tsv` in the run's `dvclive` folder, and the latest values as `metrics.json`."""

    def __init__(self, live: Any, folder: Path) -> None:
        self._live = live
        self._folder = folder
        self._begun = False

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to each named curve."""
        if not self._begun:
            drop_rows_from(self._folder, step)
            self._begun = True
        self._live.step = step
        for name, value in values.items():
            self._live.log_metric(name, value)
        self._live.make_summary()

    def picture(self, step: int, name: str, picture: Rgb) -> None:
        """Nothing: the pictures lie in the run folder."""


class TensorBoard:
    """Curves and pictures as an event file in the run's `tensorboard` folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: Any = None

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to each named curve."""
        for name, value in values.items():
            self._at(step).add_scalar(name, value, step)
        self._at(step).flush()

    def picture(self, step: int, name: str, picture: Rgb) -> None:
        """Show a picture, (H, W, 3) uint8 RGB."""
        self._at(step).add_image(name, picture, step, dataformats="HWC")

    def close(self) -> None:
        """Write what is still in memory."""
        if self._writer is not None:
            self._writer.close()

    def _at(self, step: int) -> Any:
        """The writer; one that begins at `step` makes readers forget that step and later ones of former files."""
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._folder), purge_step=step)
        return self._writer


@contextmanager
def open_curves(folder: Path, *, tensorboard: bool) -> Iterator[tuple[Curves, ...]]:
    """The writers of a run folder: dvclive where it is installed, and TensorBoard if asked for.

    Raises:
        UsageError: TensorBoard is asked for and not installed.
    """
    if tensorboard:
        _check_tensorboard()
    with ExitStack() as opened:
        curves: list[Curves] = []
        if tensorboard:
            board = TensorBoard(folder / "tensorboard")
            opened.callback(board.close)
            curves.append(board)
        try:
            from dvclive import Live  # type: ignore[attr-defined]
        except ImportError:
            note("no training curves: dvclive is not installed (pip install 'segstream[dvc]')")
        else:
            place = folder / "dvclive"
            live = Live(str(place), save_dvc_exp=False, dvcyaml=None, report=None, resume=place.exists())
            curves.append(DvcLive(opened.enter_context(live), place))
        yield tuple(curves)


def drop_rows_from(folder: Path, step: int) -> None:
    """Take the points of `step` and later out of dvclive's curves."""
    for file in folder.glob("plots/metrics/**/*.tsv"):
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for i, line in enumerate(lines) if i == 0 or int(line.split("\t")[0]) < step]
        if len(kept) < len(lines):
            file.write_text("".join(kept), encoding="utf-8")


def _check_tensorboard() -> None:
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError as error:
        raise UsageError("--tensorboard: not installed; pip install 'segstream[tensorboard]'") from error
