"""The order over random mixes; every property is checked against counting, not against the code's own arithmetic."""

import statistics
import time
import tracemalloc
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segstream.pipeline.order import Order

FEW = settings(max_examples=40, deadline=None, derandomize=True)
WEIGHTS = st.fractions(min_value=Fraction(1, 12), max_value=12, max_denominator=12)
SHARDS = st.lists(st.integers(0, 9), min_size=1, max_size=8).filter(any)


@st.composite
def mixes(draw):
    """Arguments of an `Order`: one to five datasets in shards of uneven size, some of them empty."""
    names = "abcde"[: draw(st.integers(1, 5))]
    return {
        "shards": {name: draw(SHARDS) for name in names},
        "weights": {name: draw(WEIGHTS) for name in names},
        "seed": draw(st.integers(0, 2**64 - 1)),
        "batch": 24,
        "window": draw(st.integers(1, 10)),
    }


def steps_of(mix, steps):
    order = Order(**mix)
    return [[order.at(step, slot) for slot in range(mix["batch"])] for step in steps]


@FEW
@given(mixes())
def test_every_epoch_holds_each_sample_once(mix):
    by_epoch = {}
    for picks in steps_of(mix, range(12)):
        for pick in picks:
            by_epoch.setdefault((pick.dataset, pick.epoch), []).append(pick.index)
    latest = Counter()
    for dataset, epoch in by_epoch:
        latest[dataset] = max(latest[dataset], epoch)
    for (dataset, epoch), seen in by_epoch.items():
        everything = range(sum(mix["shards"][dataset]))
        assert len(set(seen)) == len(seen)
        assert set(seen) <= set(everything)
        assert epoch == latest[dataset] or sorted(seen) == list(everything)


@FEW
@given(mixes())
def test_proportions_are_never_a_sample_off(mix):
    total, seen = sum(mix["weights"].values()), Counter()
    slots = [pick.dataset for picks in steps_of(mix, range(8)) for pick in picks]
    for count, dataset in enumerate(slots, start=1):
        seen[dataset] += 1
        for name, weight in mix["weights"].items():
            assert abs(seen[name] - count * weight / total) < 1


@FEW
@given(mixes(), st.integers(0, 10**12))
def test_a_resumed_stream_is_the_one_that_went_on(mix, first):
    """Also without anything that was computed for the steps before."""
    whole = steps_of(mix, range(first, first + 4))
    for late in range(1, 4):
        assert steps_of(mix, range(first + late, first + 4)) == whole[late:]


@FEW
@given(mixes(), st.sampled_from([1, 2, 3, 8]))
def test_ranks_share_one_stream(mix, world_size):
    """Each rank has an order of its own and asks only for its slots; interleaved they are the stream of one."""
    (whole,) = steps_of(mix, [5])
    merged = [None] * 24
    for rank in range(world_size):
        order = Order(**mix)
        for slot in range(rank, 24, world_size):
            merged[slot] = order.at(5, slot)
    assert merged == whole


@pytest.fixture(scope="module")
def million():
    """Seven datasets, a million samples, shards of 500."""
    shards = {f"d{i}": [500] * (288 if i == 0 else 286 if i < 5 else 284) for i in range(7)}
    assert sum(map(sum, shards.values())) == 1_000_000
    return Order(shards, dict.fromkeys(shards, Fraction(1)), seed=0, batch=14)


def test_a_million_samples_answer_any_step_in_under_a_millisecond(million):
    """All 14 slots of steps anywhere in 10**9, with nothing cached for them; the usual one of a quiet machine."""
    taken = []
    for i in range(300):
        began = time.perf_counter()
        for slot in range(14):
            million.at(i * 3_333_331, slot)
        taken.append(time.perf_counter() - began)
    assert statistics.quantiles(taken, n=4)[0] < 1e-3


def test_memory_does_not_grow_with_steps(million):
    def visit(steps):
        for step in steps:
            for slot in range(14):
                million.at(step, slot)

    visit(range(0, 10**9, 10**7))  # fills every cache
    tracemalloc.start()
    try:
        visit(range(1, 10**9, 10**7))
        filled = tracemalloc.get_traced_memory()[0]
        visit(range(2, 10**9, 2 * 10**6))
        assert tracemalloc.get_traced_memory()[0] < filled + 100_000
    finally:
        tracemalloc.stop()
