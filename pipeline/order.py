"""Which sample when: (datasets, shares, seed, global batch, step, slot) -> sample, a pure function.

Nothing here remembers where a run stands; the caches hold what would be computed again. Slots are numbered
through the whole run, slot = step x global batch + place in the batch. A fixed periodic schedule says which
dataset a slot belongs to; a dataset's n-th slot is sample n modulo its size of its own epoch n // size.
"""

import functools
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from segstream.shards.errors import DataError

MAX_PERIOD = 200_000  # slots: seven datasets weighted by their exact sizes still fit; about a second to lay out
CACHED_WINDOWS = 16  # per dataset; a stream needs one or two at a time
SHARDS_STREAM, SAMPLES_STREAM, PLACES_STREAM, CLASSES_STREAM = 1, 2, 4, 5  # tell the uses of one generator apart
BLOCK = 256  # places of an epoch among which those that go to classes are drawn
ROUNDS = 8  # of the network in `permuted`: with 4, some permutations of five or six are likelier than others


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """The sample of one slot, and how it came to be that one."""

    dataset: str
    index: int
    """Number of the sample in its dataset, in (split, shard, position) order; -1 until the centroid is looked up."""
    shard: int
    """Number of the shard that holds it."""
    draw: int
    """How many samples this dataset had given before, in all epochs."""
    epoch: int
    """draw // size."""
    place: int
    """draw % size: its place in that epoch."""
    class_id: int | None = None
    """The class it came for; None for a plain sample."""
    nth: int | None = None
    """Which of the shard's centroids of that class."""
    anchor_xy: tuple[float, float] | None = None
    """Where that lies in the stored image, pixels; None until it is looked up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassSlots:
    """How one dataset is sampled by class."""

    share: Fraction
    """Of an epoch's places, above 0 to 1."""
    counts: npt.NDArray[np.int64]
    """(shards, classes): centroids."""

    def places(self, size: int) -> int:
        """Of an epoch of `size` places, those of each class."""
        return int(size * self.share / self.counts.shape[1])


class Schedule:
    """Round-robin over datasets: exact in proportion over a period, and at no slot a whole sample off.

    Source: R. Tijdeman, The chairman assignment problem (Discrete Mathematics 32, 1980): after any n slots a
    dataset with share w has had between w n - 1 and w n + 1 of them, at every n.
    """

    def __init__(self, weights: Mapping[str, Fraction]) -> None:
        """Lay out one period.

        Args:
            weights: dataset -> share, any positive scale.

        Raises:
            DataError: the shares repeat only after more than MAX_PERIOD slots.
        """
        scale = math.lcm(*(w.denominator for w in weights.values()))
        counts = [int(w * scale) for w in weights.values()]
        common = math.gcd(*counts)
        self.counts: tuple[int, ...] = tuple(c // common for c in counts)
        """Slots of each dataset in a period."""
        self.period = sum(self.counts)
        if self.period > MAX_PERIOD:
            named = ", ".join(f"{name}: {weight}" for name, weight in weights.items())
            raise DataError(
                f"data.mix ({named}): these weights repeat only after {self.period} slots (limit {MAX_PERIOD}); "
                f"round them, for instance to two digits"
            )
        self._which, self._nth = _chairman(self.counts)

    def at(self, slot: int) -> tuple[int, int]:
        """(number of the dataset in the mix, how many slots it had before this one)."""
        turns, place = divmod(slot, self.period)
        which = int(self._which[place])
        return which, turns * self.counts[which] + int(self._nth[place])


class Order:
    """The samples of every step of a run. Safe to use from several threads."""

    def __init__(
        self,
        shards: Mapping[str, Sequence[int]],
        weights: Mapping[str, Fraction],
        *,
        seed: int,
        batch: int,
        window: int = 4,
        class_uniform: Mapping[str, ClassSlots] | None = None,
    ) -> None:
        """Set up the function; takes time in the number of shards and the schedule's period, not of samples.

        Args:
            shards: dataset -> samples in each of its shards.
            weights: dataset -> share of the slots, any positive scale.
            seed: 0 to 2**64 - 1.
            batch: samples of a step, all ranks together.
            window: shards whose samples are shuffled together.
            class_uniform: of the datasets that are sampled by class.

        Raises:
            DataError: a dataset without samples, a seed out of range, or weights with too long a period.
        """
        if not 0 <= seed < 2**64:
            raise DataError(f"seed: {seed} is outside 0 to 2**64 - 1; choose another")
        if empty := [name for name in weights if not sum(shards[name])]:
            raise DataError(f"data.mix: {', '.join(empty)} hold no samples; convert them again, or leave them out")
        self.datasets = tuple(weights)
        self.batch = batch
        self.schedule = Schedule(weights)
        self._streams: list[_Shuffle | _ClassUniform] = [
            _Shuffle(name, shards[name], seed=seed, window=window) for name in self.datasets
        ]
        for name, slots in (class_uniform or {}).items():
            which = self.datasets.index(name)
            self._streams[which] = _ClassUniform(name, shards[name], slots, seed=seed, window=window)

    def at(self, step: int, slot: int) -> Pick:
        """The sample in place `slot`, 0 to batch - 1, of global step `step`."""
        which, draw = self.schedule.at(step * self.batch + slot)
        stream = self._streams[which]
        epoch, place = divmod(draw, stream.size)
        found = stream.at(epoch, place)
        return Pick(dataset=self.datasets[which], draw=draw, epoch=epoch, place=place, **found)


class _Shuffle:
    """Every epoch of one dataset: shards permuted, then samples within windows of consecutive permuted shards."""

    def __init__(self, dataset: str, shards: Sequence[int], *, seed: int, window: int) -> None:
        self.size = sum(shards)
        self._sizes = np.asarray(shards, np.int64)
        self._first = np.concatenate([[0], np.cumsum(self._sizes)])
        # The name, not the place in the mix, chooses the stream: adding a dataset leaves the others' order alone.
        self._key = np.array([seed, _word(dataset)], np.uint64)
        self._window = window
        # Cached on the instance, so that the cache ends with it.
        self._epoch = functools.lru_cache(maxsize=4)(self._lay_out_epoch)
        self._samples = functools.lru_cache(maxsize=CACHED_WINDOWS)(self._shuffle_window)

    def at(self, epoch: int, place: int) -> dict[str, Any]:
        """`shard` and `index` of a `Pick`, at a place of an epoch."""
        _, starts = self._epoch(epoch)
        window = int(np.searchsorted(starts, place, side="right")) - 1
        index = int(self._samples(epoch, window)[place - starts[window]])
        return {"shard": int(np.searchsorted(self._first, index, side="right")) - 1, "index": index}

    def _lay_out_epoch(self, epoch: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """(shards in this epoch's order, place at which each window of them starts)."""
        shards = self._permutation(np.flatnonzero(self._sizes), SHARDS_STREAM, epoch, 0)
        ends = np.cumsum(self._sizes[shards])
        return shards, np.concatenate([[0], ends[self._window - 1 : -1 : self._window]])

    def _shuffle_window(self, epoch: int, window: int) -> npt.NDArray[np.int64]:
        shards = self._epoch(epoch)[0][window * self._window : (window + 1) * self._window]
        samples = np.concatenate([np.arange(self._first[s], self._first[s + 1]) for s in shards])
        return self._permutation(samples, SAMPLES_STREAM, epoch, window)

    def _permutation(self, items: npt.NDArray[np.int64], stream: int, epoch: int, window: int) -> npt.NDArray[np.int64]:
        # Raw words of Philox are fixed by its definition; Generator.permutation may change between numpy versions.
        # Position in the low bits: plain sorting is several times faster than argsort, and no two words are equal.
        counter = np.array([0, window, epoch, stream], np.uint64)
        words = np.random.Philox(key=self._key, counter=counter).random_raw(len(items))
        low_bits = np.uint64(2 ** len(items).bit_length() - 1)
        words = np.sort((words & ~low_bits) | np.arange(len(items), dtype=np.uint64))
        return items[(words & low_bits).astype(np.intp)]


class _ClassUniform(_Shuffle):
    """Every epoch of one dataset that is sampled by class.

    Of its n places, floor(n x share / C) go to each of the C classes that has a centroid; the others are plain. Which
    ones is drawn within blocks of BLOCK places. The classes take turns, in an order drawn for every turn. A class goes
    through its centroids in an order drawn for the epoch, from the start again where they are fewer than its places.
    Plain places go on through the epochs of `_Shuffle`, so that each sample comes once before any comes again: with
    p of them in n places, one of those epochs takes n / p of these.
    """

    def __init__(self, dataset: str, shards: Sequence[int], slots: ClassSlots, *, seed: int, window: int) -> None:
        super().__init__(dataset, shards, seed=seed, window=window)
        self._ends = np.ascontiguousarray(np.cumsum(slots.counts, axis=0).T)  # (classes, shards)
        self._classes = np.flatnonzero(self._ends[:, -1])
        self._sampled = slots.places(self.size) * len(self._classes)
        self._block = functools.lru_cache(maxsize=CACHED_WINDOWS)(self._lay_out_block)

    def at(self, epoch: int, place: int) -> dict[str, Any]:
        """As of `_Shuffle`, and for a place that goes to a class `class_id` and `nth`."""
        block, within = divmod(place, BLOCK)
        before, chosen = self._block(epoch, block)
        number = int(before[within])
        if not chosen[within]:
            return super().at(*divmod(epoch * (self.size - self._sampled) + place - number, self.size))
        turn, which = divmod(number, len(self._classes))
        class_id = int(self._permutation(self._classes, CLASSES_STREAM, epoch, turn)[which])
        ends = self._ends[class_id]
        centroid = permuted(turn % int(ends[-1]), int(ends[-1]), f"{self._key.tolist()} {epoch} {class_id}")
        shard = int(np.searchsorted(ends, centroid, side="right"))
        nth = centroid - (int(ends[shard - 1]) if shard else 0)
        return {"shard": shard, "index": -1, "class_id": class_id, "nth": nth}

    def _lay_out_block(self, epoch: int, block: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """By place of a block: places before it in the epoch that go to classes, and whether it does itself."""
        start, stop = block * BLOCK, min((block + 1) * BLOCK, self.size)
        first, last = (self._sampled * place // self.size for place in (start, stop))
        chosen = self._permutation(np.arange(stop - start), PLACES_STREAM, epoch, block) < last - first
        return first + np.cumsum(chosen) - chosen, chosen


def permuted(place: int, size: int, key: str) -> int:
    """Where a permutation of 0 to size - 1 sends a place; takes no time or memory in the size.

    A Feistel network over pairs of numbers just enough for `size`, followed until it is inside: J. Black, P. Rogaway,
    Ciphers with arbitrary finite domains (CT-RSA 2002).

    Args:
        place, size: 0 <= place < size.
        key: chooses the permutation.
    """
    width = math.isqrt(size - 1) + 1
    height = -(-size // width)
    while True:
        high, low = divmod(place, width)
        for turn in range(ROUNDS):
            high = (high + _word(f"{key} {turn} {low}")) % height
            low = (low + _word(f"{key} {turn} {high} ")) % width
        place = high * width + low
        if place < size:
            return place


def _word(text: str) -> int:
    """64 random bits, the same for the same text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def _chairman(counts: Sequence[int]) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.int32]]:
    """One period of Tijdeman's schedule: by slot, the dataset, and how often it was served before in the period."""
    period, slack = sum(counts), max(2 * len(counts) - 2, 1)
    which, nth = np.zeros(period, np.uint16), np.zeros(period, np.int32)
    served = [0] * len(counts)
    for slot in range(period):
        best, best_due, best_count = -1, 0, 1
        for dataset, count in enumerate(counts):
            # May be served: count/period x (slot + 1) - served >= 1/slack. Of those, the one due first:
            # the smallest (served + 1 - 1/slack) / count, compared without division. All integers.
            if slack * (count * (slot + 1) - period * served[dataset]) < period:
                continue
            due = slack * (served[dataset] + 1) - 1
            if best < 0 or due * best_count < best_due * count:
                best, best_due, best_count = dataset, due, count
        which[slot], nth[slot] = best, served[best]
        served[best] += 1
    return which, nth
