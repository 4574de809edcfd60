"""Which sample when, at size: time to answer any step, and what an order holds in memory, before and after many steps.

    python -m segstream.benchmarks.order [--samples 1000000 10000000] [--steps 2000]

Seven datasets of equal weight, shards of 500 samples, batches of 14; plain, and half by class (194, each in every
sample). Steps lie anywhere in a thousand million.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
import tracemalloc
from fractions import Fraction

import numpy as np

from segstream.pipeline.order import ClassSlots, Order

DATASETS, SHARD, BATCH, CLASSES = 7, 500, 14, 194
FURTHEST = 10**9


def order_of(samples: int, *, by_class: bool) -> Order:
    shards = {f"d{i}": [SHARD] * (samples // DATASETS // SHARD) for i in range(DATASETS)}
    counts = {name: np.full((len(sizes), CLASSES), SHARD) for name, sizes in shards.items() if by_class}
    slots = {name: ClassSlots(share=Fraction(1, 2), counts=found) for name, found in counts.items()}
    return Order(shards, dict.fromkeys(shards, Fraction(1)), seed=0, batch=BATCH, class_uniform=slots)


def visit(order: Order, steps: range) -> list[float]:
    """Milliseconds that all slots of each step took."""
    taken = []
    for step in steps:
        began = time.thread_time()
        for slot in range(BATCH):
            order.at(step, slot)
        taken.append(1e3 * (time.thread_time() - began))
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--steps", type=int, default=2000)
    options = parser.parse_args()
    for samples, by_class in itertools.product(options.samples, (False, True)):
        tracemalloc.start()
        began = time.thread_time()
        order = order_of(samples, by_class=by_class)
        built_ms, built = 1e3 * (time.thread_time() - began), tracemalloc.get_traced_memory()[0]
        visit(order, range(0, FURTHEST, FURTHEST // 300))
        early = tracemalloc.get_traced_memory()[0]
        visit(order, range(1, FURTHEST, FURTHEST // options.steps))
        late = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        anywhere = visit(order, range(2, FURTHEST, FURTHEST // options.steps))
        in_turn = visit(order, range(FURTHEST, FURTHEST + options.steps))
        about = f"{samples:,} samples{', half by class' if by_class else ''}"
        print(f"{about}: set up in {built_ms:.1f} ms, {built / 2**20:.2f} MiB")
        for name, taken in (("anywhere", anywhere), ("one after another", in_turn)):
            p99 = statistics.quantiles(taken, n=100)[98]
            print(
                f"  a step of {BATCH} slots, {name}: median {statistics.median(taken):.3f} ms, 99% below {p99:.3f} ms"
            )
        print(f"  memory after 300 steps {early / 2**20:.2f} MiB, after {options.steps:,} more {late / 2**20:.2f} MiB")


if __name__ == "__main__":
    main()
