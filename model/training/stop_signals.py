"""Being told to stop, by a scheduler or a person."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from segstream.shards.errors import DataError

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)  # what schedulers send before they kill; SLURM's --signal=USR1@120


class Stopped(DataError):  # noqa: N818 - the run is well
    """A run was told to stop and has kept all it did; the same command goes on from there."""

    exit_code = 75
    """EX_TEMPFAIL of sysexits.h, "try again later": what launch scripts requeue on."""


class StopRequest:
    """Notes SIGTERM and SIGUSR1 instead of dying of them; a context manager, of the main thread (elsewhere deaf)."""

    def __init__(self) -> None:
        self.asked = False
        """Whether a signal has come."""
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
