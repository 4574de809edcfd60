"""The loader from every kind of store against the local folder: first batch, bytes on the wire, steady rate.

Run: python -m segstream.benchmarks.stores [--samples 256] [--rounds 3]

nginx and OpenStack Swift run on this machine and take their share of its cores. Pictures of 1080 x 1440 are stored at
720, crops are 713 of them at 720. Then: reading members from a local file in three ways, and resolving 500 shards of a
DVC revision.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import mmap
import os
import statistics
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import yaml

from segstream.benchmarks.shard import make_release
from segstream.pipeline.config import AugmentConfig, DataConfig, LoaderConfig
from segstream.pipeline.loader import Loader
from segstream.shards.convert.convert import convert
from segstream.shards.convert.publish import Target
from segstream.shards.format.reader import open_shards
from segstream.shards.storage.base import LocalStore
from segstream.shards.storage.http import HttpOrigin
from segstream.shards.storage.open import open_store
from segstream.shards.storage.s3 import S3Origin
from tests.shards.servers import proxying
from tests.shards.services import S3Service, nginx, s3_service

SET = "ade20k-150/train"
RULE = AugmentConfig(short_side=720, crop=713)
BATCH = 8
FAR_S = 0.02


@dataclass(frozen=True)
class Place:
    """One way to read the same set."""

    name: str
    url: str
    threads: int = 0
    endpoint: str = ""
    cache: Path | None = None


class Wire:
    """Counts what is read while it is open."""

    def __init__(self) -> None:
        self.requests = self.bytes = 0

    @contextlib.contextmanager
    def counting(self) -> Iterator[None]:
        with contextlib.ExitStack() as patched:
            for kind, method in ((LocalStore, "read"), (HttpOrigin, "get"), (S3Origin, "get")):
                original = getattr(kind, method)
                patched.enter_context(mock.patch.object(kind, method, self._counted(original)))
            yield

    def _counted(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **more: Any) -> Any:
            found = original(*args, **more)
            self.requests += 1
            self.bytes += len(getattr(found, "data", found))
            return found

        return counted


def measure(place: Place, steps: int) -> dict[str, float]:
    """One cold start and a pass over the set; with a cache, a second pass from it."""
    environment = {"SEGSTREAM_CACHE": str(place.cache or "")}
    if place.endpoint:
        environment["AWS_ENDPOINT_URL"] = place.endpoint
    found: dict[str, float] = {}
    wire = Wire()
    with mock.patch.dict(os.environ, environment), wire.counting():
        begun = time.perf_counter()
        data = DataConfig(shards=place.url, mix={"ade20k-150": 1})
        with Loader(data, RULE, LoaderConfig(batch=BATCH, threads=place.threads), seed=0) as loader:
            batches = loader.batches(0, 2 * steps)
            next(batches)
            found["first"] = time.perf_counter() - begun
            begun = time.perf_counter()
            for _ in range(steps - 1):
                next(batches)
            found["rate"] = (steps - 1) * BATCH / (time.perf_counter() - begun)
            found["requests"], found["bytes"] = wire.requests / steps / BATCH, wire.bytes / steps / BATCH
            if place.cache:
                begun = time.perf_counter()
                for _ in batches:
                    pass
                found["again"] = steps * BATCH / (time.perf_counter() - begun)
    return found


def git_project(folder: Path, remote: str, service: S3Service, objects: dict[str, bytes]) -> None:
    """A repository that tracks a folder of `objects` in an S3 remote, as `dvc add` and `dvc push` leave it."""
    md5s = {name: hashlib.md5(data).hexdigest() for name, data in objects.items()}
    listing = json.dumps([{"md5": md5, "relpath": name} for name, md5 in sorted(md5s.items())]).encode()
    top = hashlib.md5(listing).hexdigest()
    bucket, _, prefix = remote.removeprefix("s3://").partition("/")
    client = service.client()
    stored = {f"{top[:2]}/{top[2:]}.dir": listing} | {f"{m[:2]}/{m[2:]}": objects[n] for n, m in md5s.items()}
    for name, data in stored.items():
        client.put_object(Bucket=bucket, Key=f"{prefix}/files/md5/{name}", Body=data)
    (folder / ".dvc").mkdir(parents=True)
    config = f"[core]\n    remote = r\n['remote \"r\"']\n    url = {remote}\n    endpointurl = {service.endpoint}\n"
    (folder / ".dvc" / "config").write_text(config)
    (folder / "shards.dvc").write_text(
        yaml.safe_dump({"outs": [{"md5": f"{top}.dir", "hash": "md5", "path": "shards"}]})
    )
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-qm", "data"]):
        subprocess.run(["git", "-C", folder, *command], check=True, capture_output=True)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def compare_stores(places: list[Place], steps: int, rounds: int, stored: float) -> None:
    found: dict[str, list[dict[str, float]]] = defaultdict(list)
    for n in range(rounds):
        for place in places:
            cache = place.cache and place.cache / str(n)
            found[place.name].append(measure(Place(**{**vars(place), "cache": cache}), steps))
    local = statistics.median(row["rate"] for row in found["local"])
    print(f"Stored: {stored / 1e3:.0f} kB a sample.\n")
    print("| store | first batch, s | crops/s | of local | requests a crop | kB a crop | of the shard's |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name, rows in found.items():
        first, rate, requests, read = (
            statistics.median(row[k] for row in rows) for k in ("first", "rate", "requests", "bytes")
        )
        print(
            f"| {name} | {first:.2f} | {rate:.0f} | {rate / local:.2f} x | {requests:.1f} | {read / 1e3:.0f} "
            f"| {read / stored:.2f} x |"
        )
        if "again" in rows[0]:
            again = statistics.median(row["again"] for row in rows)
            print(f"| {name}, second pass | | {again:.0f} | {again / local:.2f} x | | | |")


def compare_local_reads(folder: Path, rounds: int = 5) -> None:
    """Members of one shard, in microseconds each: opened for every read, a handle kept, a mapping kept."""
    shards = open_shards(folder)
    spans = [span for i in range(shards.shard_sizes[0]) for span in shards.entry(i).members.values()]
    name = shards.manifest.shards[0].name
    store = LocalStore(folder)
    with (folder / name).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapping:
        ways: dict[str, Callable[[int, int], bytes]] = {
            "open, read, close (ours)": lambda at, size: store.read(name, at, size),
            "pread of an open file": lambda at, size: os.pread(file.fileno(), size, at),
            "copy out of a mapping": lambda at, size: mapping[at : at + size],
        }
        times: dict[str, list[float]] = defaultdict(list)
        for _ in range(rounds):
            for way, read in ways.items():
                begun = time.perf_counter()
                for _ in range(20):
                    for span in spans:
                        read(span.offset, span.size)
                times[way].append((time.perf_counter() - begun) / 20 / len(spans) * 1e6)
    print(f"\nA member of {sum(s.size for s in spans) / len(spans) / 1e3:.0f} kB on average, page cache warm:\n")
    for way, seen in times.items():
        print(f"- {way}: {statistics.median(seen):.0f} us")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    with contextlib.ExitStack() as running:
        root = Path(running.enter_context(tempfile.TemporaryDirectory()))
        raw = make_release(root / "raw", arguments.samples, (1080, 1440))
        convert(
            dataset="ade20k-150",
            split="train",
            raw=raw,
            out=str(root / "sets"),
            short_side=720,
            shard_samples=32,
            workers=2,
        )
        web = running.enter_context(nginx(root / "sets", root / "nginx"))
        service = running.enter_context(s3_service(root / "s3"))
        running.enter_context(mock.patch.dict(os.environ, service.environment(root)))
        bucket = running.enter_context(service.bucket())
        Target(f"s3://{bucket}/sets/{SET}").publish(root / "sets" / SET)
        git_project(root / "project", f"s3://{bucket}/store", service, tree(root / "sets"))
        far = running.enter_context(proxying(web, delay_s=FAR_S)).url
        s3 = f"s3://{bucket}/sets"
        places = [
            Place("local", str(root / "sets")),
            Place("http (nginx)", web),
            Place("http, 20 ms away, 2 threads", far, threads=2),
            Place("http, 20 ms away, 16 threads", far, threads=16),
            Place("s3 (Swift)", s3),
            Place("s3 (Swift), cache", s3, cache=root / "cache"),
            Place("dvc (Swift)", f"dvc://shards?repo={root / 'project'}"),
        ]
        manifest = open_shards(root / "sets" / SET).manifest
        stored = sum(info.bytes for info in manifest.shards) / manifest.samples
        compare_stores(places, arguments.samples // BATCH, arguments.rounds, stored)
        compare_local_reads(root / "sets" / SET)
        git_project(
            root / "many", f"s3://{bucket}/many", service, {f"d/train/shard-{n:06d}.tar": b"%d" % n for n in range(500)}
        )
        begun = time.perf_counter()
        open_store(f"dvc://shards/d/train?repo={root / 'many'}").close()
        print(f"\n500 shards of a DVC revision resolved, listing in Swift: {time.perf_counter() - begun:.2f} s")


if __name__ == "__main__":
    main()
