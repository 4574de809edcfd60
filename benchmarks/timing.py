"""Timing side by side: on a machine that others use too, only what ran at the same time can be compared."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

Report = Callable[[int, int], None]


def interleaved(
    runs: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    warm_up: int = 1,
    report: Report = lambda done, total: None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds that each run took in each round; every other round goes through them backwards.

    Args:
        runs: name -> what to time; it returns when its work is done.
        rounds: how many are kept.
        warm_up: how many come before those and are not kept.
        report: called after each round.
    """
    took: dict[str, list[float]] = {name: [] for name in runs}
    for n in range(warm_up + rounds):
        for name in list(runs)[:: -1 if n % 2 else 1]:
            began = clock()
            runs[name]()
            took[name].append(clock() - began)
        report(n + 1, warm_up + rounds)
    return {name: times[warm_up:] for name, times in took.items()}


def ratio(slow_s: Sequence[float], fast_s: Sequence[float]) -> float:
    """How many times as fast: the median over rounds of the quotient within a round."""
    return statistics.median(slow / fast for slow, fast in zip(slow_s, fast_s, strict=True))
