import itertools

import pytest

from segstream.benchmarks.timing import interleaved, ratio


def test_rounds_alternate_their_order_and_the_warm_up_is_dropped() -> None:
    called: list[str] = []
    now = 0.0

    def run(name: str, seconds: list[float]):
        times = itertools.cycle(seconds)

        def once() -> None:
            nonlocal now
            called.append(name)
            now += next(times)

        return once

    runs = {"a": run("a", [9, 1, 2, 3]), "b": run("b", [90, 10, 40, 30])}
    reports: list[tuple[int, int]] = []
    took = interleaved(runs, 3, warm_up=1, clock=lambda: now, on_round=lambda *done: reports.append(done))
    assert called == ["a", "b", "b", "a", "a", "b", "b", "a"]
    assert took == {"a": [1, 2, 3], "b": [10, 40, 30]}
    assert reports == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_ratio_is_the_median_of_pairs_and_not_the_quotient_of_medians() -> None:
    slow, fast = [10.0, 40.0, 12.0], [1.0, 2.0, 4.0]  # pairs: 10, 20, 3; medians: 12 and 2
    assert ratio(slow, fast) == 10
    with pytest.raises(ValueError, match="zip"):
        ratio(slow, fast[:2])
