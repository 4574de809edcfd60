"""Timing side by side: on a machine that others use too, only what ran at the same time can be compared."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

OnRound = Callable[[int, int], None]
"""Called with (rounds done, rounds in all)."""
Progress = Callable[[str, str], AbstractContextManager[OnRound]]
"""From what is done, and in which unit, to a block that shows how far it is."""
Table = tuple[Sequence[str], Sequence[Sequence[Any]]]
"""Header and rows."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a benchmark found."""

    values: dict[str, Any]
    """For machines: JSON-able."""
    text: tuple[str | Table, ...]
    """The same for people: lines and tables, in order."""


def interleaved(
    runs: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    warm_up: int = 1,
    on_round: OnRound = lambda done, total: None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds that each run took in each round; every other round goes through them backwards.

    Args:
        runs: name -> what to time; it returns when its work is done.
        rounds: how many are kept.
        warm_up: how many come before those and are not kept.
        on_round: called after each round.
    """
    took: dict[str, list[float]] = {name: [] for name in runs}
    for n in range(warm_up + rounds):
        for name in list(runs)[:: -1 if n % 2 else 1]:
            began = clock()
            runs[name]()
            took[name].append(clock() - began)
        on_round(n + 1, warm_up + rounds)
    return {name: times[warm_up:] for name, times in took.items()}


def ratio(slow_s: Sequence[float], fast_s: Sequence[float]) -> float:
    """How many times as fast: the median over rounds of the quotient within a round."""
    return statistics.median(slow / fast for slow, fast in zip(slow_s, fast_s, strict=True))


def machine(threads: int, device: str = "cpu") -> str:
    """What it was measured on, in a few words."""
    import torch

    chip = torch.cuda.get_device_name() if device == "cuda" else platform.machine()
    return f"{chip}, threads: {threads}, cores: {os.cpu_count()}, torch {torch.__version__}"
