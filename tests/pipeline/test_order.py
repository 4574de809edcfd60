"""The order over given and random mixes, checked against counting, not against the code's own arithmetic."""

import itertools
import random
import statistics
import time
import tracemalloc
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segstream.pipeline.order import BLOCK, MAX_PERIOD, ClassSlots, Order, Schedule, permuted
from segstream.shards.errors import DataError

ONE, THREE = {"a": Fraction(1)}, {"a": Fraction(1, 3), "b": Fraction(1, 2), "c": Fraction(1, 6)}
FEW = settings(max_examples=40, deadline=None, derandomize=True)
WEIGHTS = st.fractions(min_value=Fraction(1, 12), max_value=12, max_denominator=12)
SHARD_SIZES = st.lists(st.integers(0, 9), min_size=1, max_size=8).filter(any)
SHARDS = {"a": (5, 7, 1), "b": (3,), "c": (4, 4, 4, 4, 2), "e": (11, 0, 6)}


def order(mix, *, seed=3, batch=4, window=2):
    return Order({name: SHARDS[name] for name in mix}, mix, seed=seed, batch=batch, window=window)


def picks(of, steps):
    return [of.at(step, slot) for step in steps for slot in range(of.batch)]


def test_equal_weights_are_a_plain_round_robin_and_weights_that_hardly_ever_repeat_are_refused():
    schedule = Schedule({name: Fraction(1, 5) for name in "abcde"})
    assert [schedule.at(slot)[0] for slot in range(12)] == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1]
    with pytest.raises(DataError, match=rf"repeat only after 1000003 slots \(limit {MAX_PERIOD}\); round them"):
        Schedule({"a": Fraction(1_000_000), "b": Fraction(3)})


def test_samples_are_named_with_the_shard_that_holds_them():
    stream = order({"a": Fraction(1), "e": Fraction(1)})
    for pick in picks(stream, range(40)):
        ends = list(itertools.accumulate(SHARDS[pick.dataset]))
        assert pick.shard == next(i for i, end in enumerate(ends) if pick.index < end)


def test_only_a_window_of_shards_is_open_at_a_time():
    stream = Order({"a": [10] * 12}, {"a": Fraction(1)}, seed=1, batch=1, window=3)
    epoch = [stream.at(i, 0) for i in range(120)]
    windows = [{pick.shard for pick in epoch[i : i + 30]} for i in range(0, 120, 30)]
    assert [len(w) for w in windows] == [3, 3, 3, 3]
    assert set.union(*windows) == set(range(12))
    assert len({pick.shard for pick in epoch[:10]}) == 3  # mixed inside the window, not one shard after the other


def test_epochs_and_datasets_and_seeds_have_orders_of_their_own():
    def indices(name, epoch, seed=1):
        stream = Order({name: [8] * 6}, {name: Fraction(1)}, seed=seed, batch=1, window=2)
        return tuple(stream.at(48 * epoch + i, 0).index for i in range(48))

    runs = [indices("a", 0), indices("a", 1), indices("b", 0), indices("a", 0, seed=2), indices("a", 100)]
    assert len(set(runs)) == len(runs)
    assert indices("a", 0) == runs[0]


def test_every_place_is_as_likely_for_every_sample():
    stream = Order({"a": [3, 3]}, {"a": Fraction(1)}, seed=9, batch=1, window=2)
    seen = Counter((i % 6, stream.at(i, 0).index) for i in range(6 * 3000))
    assert len(seen) == 36
    assert max(abs(n - 500) for n in seen.values()) < 5 * (500 * 5 / 6) ** 0.5  # five standard deviations


def test_the_batch_size_only_cuts_the_stream_elsewhere():
    assert picks(order(THREE, batch=6), range(20)) == picks(order(THREE, batch=4), range(30))


def test_adding_a_dataset_leaves_the_order_of_the_others_alone():
    one, two = order({"a": Fraction(1)}), order({"b": Fraction(1), "a": Fraction(1)})
    of_two = [pick for pick in picks(two, range(40)) if pick.dataset == "a"]
    assert of_two == picks(one, range(20))


def test_the_order_of_a_seed_is_a_promise():
    # Written down from the first version: a change here makes every checkpoint's fingerprint version a lie.
    stream = order({"a": Fraction(2), "b": Fraction(1)}, seed=2024, batch=4)
    promised = "a11 b2 a6 a7 b0 a8 a9 b1 a10 a5 b2 a12 a2 b1 a4 a0"
    assert " ".join(f"{pick.dataset}{pick.index}" for pick in picks(stream, range(4))) == promised


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_what_cannot_be_ordered_is_refused(seed):
    with pytest.raises(DataError, match="seed"):
        order(ONE, seed=seed)
    with pytest.raises(DataError, match=r"data\.mix: b, c hold no samples"):
        Order({"a": [1], "b": [0, 0], "c": []}, {n: Fraction(1) for n in "abc"}, seed=0, batch=1)


@st.composite
def mixes(draw, by_class=False):
    """Arguments of an `Order`: one to five datasets in shards of uneven size, some empty; some sampled by class."""
    names = "abcde"[: draw(st.integers(1, 5))]
    shards = {name: draw(SHARD_SIZES) for name in names}
    numbers = st.integers(0, 3)
    counts = {n: np.array([[draw(numbers) for _ in range(4)] for _ in shards[n]]) for n in names} if by_class else {}
    return {
        "shards": shards,
        "class_uniform": {name: ClassSlots(share=Fraction(3, 4), counts=found) for name, found in counts.items()},
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
@given(st.booleans().flatmap(mixes), st.integers(0, 10**12))
def test_a_resumed_stream_is_the_one_that_went_on(mix, first):
    """Also without anything that was computed for the steps before."""
    whole = steps_of(mix, range(first, first + 4))
    for late in range(1, 4):
        assert steps_of(mix, range(first + late, first + 4)) == whole[late:]


@FEW
@given(st.booleans().flatmap(mixes), st.sampled_from([1, 2, 3, 8]))
def test_ranks_share_one_stream(mix, world_size):
    """Each rank has an order of its own and asks only for its slots; interleaved they are the stream of one."""
    (whole,) = steps_of(mix, [5])
    merged = [None] * 24
    for rank in range(world_size):
        order = Order(**mix)
        for slot in range(rank, 24, world_size):
            merged[slot] = order.at(5, slot)
    assert merged == whole


@pytest.mark.parametrize("size", [*range(1, 40), 257, 1000, 4095, 4097, 30_011])
def test_a_keyed_permutation_sends_every_place_elsewhere(size):
    assert sorted(permuted(place, size, "key") for place in range(size)) == list(range(size))


@pytest.mark.parametrize("size", [3, 4, 6, 11])
def test_every_permutation_of_two_places_is_as_likely(size):
    keys = range(8000)
    seen = Counter((permuted(0, size, f"{key}"), permuted(1, size, f"{key}")) for key in keys)
    expected = len(keys) / (size * (size - 1))
    chi_square = sum((seen[pair] - expected) ** 2 / expected for pair in itertools.permutations(range(size), 2))
    freedom = size * (size - 1) - 1
    assert chi_square < freedom + 4 * (2 * freedom) ** 0.5  # four standard deviations


CENTROIDS = np.array([[0, 4, 0, 1], [3, 9, 0, 0], [2, 11, 0, 2]])  # by shard and class; none of class 2
EPOCH, SHARE, EPOCHS = 61, Fraction(2, 3), 40


def sampled(size=EPOCH, share=SHARE, counts=CENTROIDS, seed=6):
    slots = {"a": ClassSlots(share=share, counts=counts)}
    return Order({"a": [size - 30, 0, 30]}, {"a": Fraction(1)}, seed=seed, batch=1, class_uniform=slots)


def epochs_of(order, size=EPOCH, epochs=EPOCHS):
    """By epoch, what its places hold: (class, shard, centroid of the shard) or a sample number."""
    picks = [order.at(i, 0) for i in range(size * epochs)]
    assert all(pick.index == -1 for pick in picks if pick.class_id is not None)
    assert [(pick.epoch, pick.place) for pick in picks] == [divmod(i, size) for i in range(len(picks))]
    held = [pick.index if pick.class_id is None else (pick.class_id, pick.shard, pick.nth) for pick in picks]
    return [held[i : i + size] for i in range(0, len(held), size)]


def literal_epochs():
    """With lists and a shuffle for each epoch, as NVIDIA's semantic-segmentation builds them."""
    rng = random.Random(3)
    by_class = [[(c, s, i) for s in range(3) for i in range(CENTROIDS[s, c])] for c in range(4)]
    for _ in range(EPOCHS):
        epoch = []
        for centroids in filter(None, by_class):
            rng.shuffle(centroids)
            epoch += [centroids[i % len(centroids)] for i in range(int(EPOCH * SHARE / 4))]
        epoch += rng.sample(range(EPOCH), EPOCH - len(epoch))
        rng.shuffle(epoch)
        yield epoch


def test_each_epoch_gives_every_class_the_places_that_the_literal_one_gives():
    ours, literal = epochs_of(sampled()), list(literal_epochs())
    for epoch, other in zip(ours, literal, strict=True):
        by_class, expected = (Counter(x[0] for x in e if isinstance(x, tuple)) for e in (epoch, other))
        assert by_class == expected == {0: 10, 1: 10, 3: 10}  # int(61 x 2/3 / 4) of each that has a centroid
        times, others = (sorted(Counter(x for x in e if isinstance(x, tuple)).values()) for e in (epoch, other))
        assert times == others  # classes 0 and 3 wrap around: 5 centroids twice, 3 of them three or four times
    assert len({tuple(epoch) for epoch in ours}) == EPOCHS
    totals, expected = (Counter(x for e in es for x in e if isinstance(x, tuple)) for es in (ours, literal))
    assert totals.keys() == expected.keys()
    for centroid in totals:  # which one is left out, or comes once more, is drawn for every epoch
        assert abs(totals[centroid] - 10 * EPOCHS / CENTROIDS[:, centroid[0]].sum()) < 4 * EPOCHS**0.5 / 2


def test_the_order_by_class_of_a_seed_is_a_promise():
    picks = [sampled(seed=2024).at(i, 0) for i in range(24)]
    promised = "- - 0:2:0 3:0:0 - 1:0:0 - - - - - - - 0:1:0 - 1:0:2 3:2:1 - - 3:2:0 0:1:1 - - 1:1:3"
    assert " ".join("-" if p.class_id is None else f"{p.class_id}:{p.shard}:{p.nth}" for p in picks) == promised


def test_plain_places_go_through_all_samples_before_any_comes_again():
    plain = [x for epoch in epochs_of(sampled()) for x in epoch if not isinstance(x, tuple)]
    assert len(plain) == 31 * EPOCHS
    for start in range(0, len(plain) - EPOCH, EPOCH):
        assert sorted(plain[start : start + EPOCH]) == list(range(EPOCH))
    stream = Order({"a": [31, 0, 30]}, {"a": Fraction(1)}, seed=6, batch=1)
    assert plain == [stream.at(i, 0).index for i in range(len(plain))]


def test_places_of_classes_lie_anywhere_in_an_epoch():
    size, epochs = 2 * BLOCK + 37, 30
    chosen = np.array([[isinstance(x, tuple) for x in epoch] for epoch in epochs_of(sampled(size), size, epochs)])
    assert set(chosen.sum(1)) == {3 * int(size * SHARE / 4)}
    by_place = chosen.sum(0)
    mean, spread = epochs * chosen.mean(), (epochs * chosen.mean() * (1 - chosen.mean())) ** 0.5
    assert (abs(by_place - mean) < 4.5 * spread).all()
    assert (
        abs(chosen[:, ::2].mean() - chosen[:, 1::2].mean()) < 4 / (epochs * size) ** 0.5
    )  # of either of two processes


@pytest.mark.parametrize(
    ("share", "counts", "by_class"),
    [
        (Fraction(1, 100), CENTROIDS, {}),  # less than one place a class
        (SHARE, np.zeros((3, 4), int), {}),
        (Fraction(1), np.full((3, 1), 2), {0: EPOCH}),  # nothing is plain
    ],
)
def test_an_epoch_may_be_all_plain_or_all_of_one_class(share, counts, by_class):
    (epoch,) = epochs_of(sampled(share=share, counts=counts), epochs=1)
    assert Counter(x[0] for x in epoch if isinstance(x, tuple)) == by_class
    assert len({x for x in epoch if not isinstance(x, tuple)}) == EPOCH - sum(by_class.values())


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "by class"])
def million(request):
    """Seven datasets, a million samples, shards of 500; each with a thousand centroids of each of 65 classes."""
    shards = {f"d{i}": [500] * (288 if i == 0 else 286 if i < 5 else 284) for i in range(7)}
    assert sum(map(sum, shards.values())) == 1_000_000
    counts = {name: np.full((len(sizes), 65), 1000) for name, sizes in shards.items() if request.param}
    slots = {name: ClassSlots(share=Fraction(1, 2), counts=found) for name, found in counts.items()}
    return Order(shards, dict.fromkeys(shards, Fraction(1)), seed=0, batch=14, class_uniform=slots)


def test_a_million_samples_answer_any_step_in_a_millisecond_or_two(million):
    """All 14 slots of steps anywhere in 10**9, with nothing cached for them; the usual one of a quiet machine."""
    taken = []
    for i in range(300):
        began = time.perf_counter()
        for slot in range(14):
            million.at(i * 3_333_331, slot)
        taken.append(time.perf_counter() - began)
    assert statistics.quantiles(taken, n=4)[0] < (
        2e-3 if million.at(0, 0).class_id or million.at(0, 7).class_id else 1e-3
    )


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
