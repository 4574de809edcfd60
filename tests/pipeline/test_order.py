import itertools
import random
from collections import Counter
from fractions import Fraction

import pytest

from segstream.pipeline.order import MAX_PERIOD, Order, Schedule
from segstream.shards.errors import DataError

GRID = [
    {"a": Fraction(1)},
    {"a": Fraction(1), "b": Fraction(1)},
    {"a": Fraction(1, 3), "b": Fraction(1, 2), "c": Fraction(1, 6)},
    {"a": Fraction(10), "b": Fraction(1), "c": Fraction(1), "d": Fraction(1)},
    {name: Fraction(1) for name in "abcdefg"},
    {"a": Fraction(97, 100), "b": Fraction(3, 100)},
]
SHARDS = {"a": (5, 7, 1), "b": (3,), "c": (4, 4, 4, 4, 2), "d": (1, 1), "e": (11, 0, 6), "f": (2, 9), "g": (8,)}


def order(mix, *, seed=3, batch=4, window=2):
    return Order({name: SHARDS[name] for name in mix}, mix, seed=seed, batch=batch, window=window)


def picks(of, steps):
    return [of.at(step, slot) for step in steps for slot in range(of.batch)]


@pytest.mark.parametrize("mix", GRID)
def test_proportions_are_exact_over_every_period_and_never_a_sample_off(mix):
    schedule, total = Schedule(mix), sum(mix.values())
    served = dict.fromkeys(mix, 0)
    for slot in range(3 * schedule.period):
        which, before = schedule.at(slot)
        name = list(mix)[which]
        assert before == served[name]
        served[name] += 1
        for dataset, weight in mix.items():
            assert abs(served[dataset] - weight / total * (slot + 1)) < 1
    assert served == {name: 3 * schedule.period * weight / total for name, weight in mix.items()}


def test_proportions_hold_for_random_mixes():
    rng = random.Random(0)
    for _ in range(200):
        mix = {str(i): Fraction(rng.randint(1, 30), rng.choice((1, 2, 3, 7))) for i in range(rng.randint(1, 9))}
        schedule, total = Schedule(mix), sum(mix.values())
        seen = Counter(schedule.at(slot)[0] for slot in range(schedule.period))
        assert [seen[i] for i in range(len(mix))] == [schedule.period * w / total for w in mix.values()]


def test_equal_weights_are_a_plain_round_robin():
    schedule = Schedule({name: Fraction(1, 5) for name in "abcde"})
    assert [schedule.at(slot)[0] for slot in range(12)] == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1]


def test_scaling_all_weights_changes_nothing():
    one, other = Schedule({"a": Fraction(1), "b": Fraction(2)}), Schedule({"a": Fraction(5, 7), "b": Fraction(10, 7)})
    assert [one.at(slot) for slot in range(20)] == [other.at(slot) for slot in range(20)]


def test_weights_that_hardly_ever_repeat_are_refused():
    with pytest.raises(DataError, match=rf"repeat only after 1000003 slots \(limit {MAX_PERIOD}\); round them"):
        Schedule({"a": Fraction(1_000_000), "b": Fraction(3)})


@pytest.mark.parametrize("mix", GRID)
@pytest.mark.parametrize(("batch", "window"), [(1, 1), (4, 2), (7, 100)])
def test_each_epoch_holds_every_sample_once(mix, batch, window):
    stream = order(mix, batch=batch, window=window)
    by_epoch = {}
    for pick in itertools.islice((stream.at(s, b) for s in itertools.count() for b in range(batch)), 900):
        by_epoch.setdefault((pick.dataset, pick.epoch), []).append(pick)
    whole = 0
    for (dataset, epoch), found in by_epoch.items():
        size = sum(SHARDS[dataset])
        assert [pick.place for pick in found] == list(range(len(found)))
        assert [pick.draw for pick in found] == [epoch * size + i for i in range(len(found))]
        assert len({pick.index for pick in found}) == len(found)
        if len(found) == size:
            whole += 1
            assert {pick.index for pick in found} == set(range(size))
    assert whole >= len(mix)


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


def test_any_step_can_be_asked_for_in_any_order():
    mix = GRID[2]
    straight = picks(order(mix), range(300))
    fresh = order(mix)
    shuffled = list(range(300))
    random.Random(4).shuffle(shuffled)
    found = {step: picks(fresh, [step]) for step in shuffled}
    assert [pick for step in range(300) for pick in found[step]] == straight
    assert picks(order(mix), range(250, 260)) == straight[250 * 4 : 260 * 4]


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 8])
def test_the_stream_does_not_know_how_many_ranks_share_it(world_size):
    mix, batch = GRID[3], 24
    straight = picks(order(mix, batch=batch), range(20))
    ranks = [order(mix, batch=batch) for _ in range(world_size)]
    merged = [
        ranks[slot % world_size].at(step, slot) for step in range(20) for slot in range(batch)
    ]  # rank r takes slots r, r + R, ...
    assert merged == straight


def test_the_batch_size_only_cuts_the_stream_elsewhere():
    mix = GRID[2]
    assert picks(order(mix, batch=6), range(20)) == picks(order(mix, batch=4), range(30))


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
def test_a_seed_out_of_range_is_refused(seed):
    with pytest.raises(DataError, match="seed"):
        order(GRID[0], seed=seed)


def test_a_dataset_without_samples_is_named():
    with pytest.raises(DataError, match=r"data\.mix: b, c hold no samples"):
        Order({"a": [1], "b": [0, 0], "c": []}, {n: Fraction(1) for n in "abc"}, seed=0, batch=1)


def test_a_large_mix_answers_without_growing():
    shards = {f"d{i}": [500] * 400 for i in range(7)}
    stream = Order(shards, {name: Fraction(1) for name in shards}, seed=0, batch=14)
    rng = random.Random(1)
    for _ in range(60):
        assert len(picks(stream, [rng.randrange(10**9)])) == 14
    for shuffle in stream._streams:
        assert shuffle._samples.cache_info().currsize <= 16
        assert shuffle._epoch.cache_info().currsize <= 4
