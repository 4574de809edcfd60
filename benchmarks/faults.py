"""What a stream loses when the network fails: ours and plain WebDataset, through the same faulty proxy before nginx.

Run: python -m segstream.benchmarks.faults [--samples 10000] [--share 0.12]

A share of all answers is a 503, a 429, a reset, a stall, a body cut short (with its length told, or without), or has
one bit flipped. Every sample that a reader yields is compared with the local file, bytes for bytes. WebDataset asks for
whole shards, we ask for members, so we meet far more faults; the table counts them.
"""

from __future__ import annotations

import argparse
import collections
import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import webdataset

from segstream.shards.convert.convert import convert
from segstream.shards.format.reader import ShardSet, open_shards
from tests.shards.servers import FAULTS, proxying
from tests.shards.services import nginx
from tests.shards.trees import ade20k

MEMBERS = {"jpg": "image", "native.png": "native", "universal.png": "universal"}
STALL_S = 1.0
Sample = tuple[str, tuple[bytes, ...]]


@dataclass
class Count:
    """What became of the samples that should have come once each, in order."""

    right: int = 0
    damaged: int = 0
    lost: int = 0
    twice: int = 0
    in_order: bool = True
    told: collections.Counter[str] = field(default_factory=collections.Counter)
    """Errors raised or warned of."""


def ours(url: str) -> Iterator[Sample]:
    with open_shards(url) as shards, ThreadPoolExecutor(8) as pool:
        yield from pool.map(lambda i: read(shards, i), range(len(shards)))


def read(shards: ShardSet, i: int) -> Sample:
    return shards.entry(i).key, tuple(shards.read(i, member) for member in MEMBERS.values())


def plain(form: str, names: list[str], count: Count, *, go_on: bool) -> Callable[[str], Iterator[Sample]]:
    """WebDataset as its documentation shows it; `go_on`: with its handler that warns and goes on."""

    def warn(error: Exception) -> bool:
        count.told[type(error).__name__] += 1
        return True

    def stream(url: str) -> Iterator[Sample]:
        handler = warn if go_on else webdataset.reraise_exception
        urls = [form.format(f"{url}/{name}") for name in names]
        for sample in webdataset.WebDataset(urls, shardshuffle=False, handler=handler):
            yield sample["__key__"], tuple(sample.get(suffix, b"") for suffix in MEMBERS)

    return stream


def judge(samples: Iterator[Sample], expected: dict[str, tuple[bytes, ...]], count: Count) -> None:
    seen: collections.Counter[str] = collections.Counter()
    order = {key: n for n, key in enumerate(expected)}
    last = -1
    try:
        for key, data in samples:
            seen[key] += 1
            count.right += data == expected.get(key)
            count.damaged += data != expected.get(key)
            count.in_order &= order.get(key, -1) > last
            last = order.get(key, last)
    except Exception as error:  # whatever a reader raises is its way to tell
        count.told[f"stopped: {type(error).__name__}"] += 1
    count.lost = sum(key not in seen for key in expected)
    count.twice = sum(times - 1 for times in seen.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--share", type=float, default=0.12, help="of the answers that fail")
    parser.add_argument("--shard-samples", type=int, default=50)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        raw = ade20k(root / "raw", train=arguments.samples, val=1)
        local = open_shards(
            convert(
                dataset="ade20k-150",
                split="train",
                raw=raw,
                out=str(root / "sets"),
                shard_samples=arguments.shard_samples,
                workers=2,
            ).url
        )
        expected = dict(read(local, i) for i in range(len(local)))
        names = [info.name for info in local.manifest.shards]
        print(f"{len(expected)} samples in {len(names)} shards; {arguments.share:.0%} of all answers fail\n")
        print("| reader | right | damaged, unnoticed | lost | twice | in order | told | answers spoilt | seconds |")
        print("|---|---:|---:|---:|---:|---|---|---:|---:|")
        with nginx(Path(local.url), root / "nginx") as server:
            for name, form, go_on in (
                ("segstream", "", False),
                ("webdataset, http://", "{}", False),
                ("webdataset, http://, warn and go on", "{}", True),
                ("webdataset, pipe:curl", "pipe:curl -s -f -L {}", False),
                ("webdataset, pipe:curl, warn and go on", "pipe:curl -s -f -L {}", True),
            ):
                count = Count()
                reader = plain(form, names, count, go_on=go_on) if form else ours
                with proxying(server, share=arguments.share, faults=FAULTS, seed=1, stall_s=STALL_S) as proxy:
                    begun = time.perf_counter()
                    judge(reader(proxy.url), expected, count)
                    seconds = time.perf_counter() - begun
                told = ", ".join(f"{n} x {what}" for what, n in count.told.items()) or "-"
                print(
                    f"| {name} | {count.right} | {count.damaged} | {count.lost} | {count.twice} | "
                    f"{'yes' if count.in_order else 'no'} | {told} | {len(proxy.failed)} | {seconds:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
