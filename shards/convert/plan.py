"""Which samples go into which shard: decided from the source files alone, before any is read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def plan_shards(sizes: Iterable[tuple[T, int]], *, max_samples: int, max_bytes: int) -> Iterator[tuple[T, ...]]:
    """Group (sample, source bytes) pairs, in order, into shards within both limits; a larger sample stands alone."""
    shard: list[T] = []
    used = 0
    for sample, num_bytes in sizes:
        if shard and (len(shard) == max_samples or used + num_bytes > max_bytes):
            yield tuple(shard)
            shard, used = [], 0
        shard.append(sample)
        used += num_bytes
    if shard:
        yield tuple(shard)


def shard_name(number: int) -> str:
    """File name of the shard with this number."""
    return f"shard-{number:06d}.tar"
