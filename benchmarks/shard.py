"""`segstream shard` against the straightforward way, its scaling over processes, and its memory as a set grows.

Run: python -m segstream.benchmarks.shard [--images 2000] [--rounds 3]
     python -m segstream.benchmarks.shard --grow 10000

The straightforward way makes the same label maps: read the label PNG, look up, write a PNG per image, all over one
pool of processes, then put images and labels into one tar. It checks nothing and knows nothing of resuming.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import resource
import shutil
import statistics
import sys
import tarfile
import tempfile
import threading
import time
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from segstream.shards.convert.convert import convert
from segstream.shards.format.reader import open_shards
from segstream.shards.format.writer import load_tar_writer
from segstream.shards.taxonomy import load_taxonomy, release_remap, universal_remap

SIZE_HW = (512, 683)  # ADE20K's usual one
EVERY = 1000  # images between looks at memory


def make_release(root: Path, count: int, size_hw: tuple[int, int]) -> Path:
    """An ADE20K tree of scenes of 40 polygons; files of 16 different scenes, over and over."""
    height, width = size_hw
    folders = [root / part / "training" for part in ("images", "annotations")]
    for folder in (*folders, *(root / part / "validation" for part in ("images", "annotations"))):
        folder.mkdir(parents=True)
    scenes = []
    for seed in range(16):
        rng = np.random.default_rng(seed)
        coarse = rng.integers(0, 256, (height // 8, width // 8, 3), np.uint8)
        image = cv2.resize(coarse, (width, height))
        label = np.zeros(size_hw, np.uint8)
        for _ in range(40):
            centre = rng.uniform(0, 1, 2) * (width, height)
            around = rng.normal(0, min(size_hw) / 6, (12, 2)) + centre
            cv2.fillPoly(label, [cv2.convexHull(around.astype(np.int32))], int(rng.integers(0, 151)))
        picture = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
        scenes.append((picture, cv2.imencode(".png", label)[1].tobytes()))
    for n in range(count):
        for folder, end, data in zip(folders, ("jpg", "png"), scenes[n % len(scenes)], strict=True):
            (folder / f"ADE_train_{n + 1:08d}.{end}").write_bytes(data)
    return root


def look_up(task: tuple[Path, Path, np.ndarray, np.ndarray]) -> None:
    source, target, native, universal = task
    label = native[np.asarray(Image.open(source))]
    Image.fromarray(label).save(target / f"{source.stem}.native.png")
    Image.fromarray(universal[label]).save(target / f"{source.stem}.universal.png")


def straightforward(raw: Path, out: Path, workers: int) -> None:
    taxonomy = load_taxonomy("ade20k-150")
    tables = release_remap("ade20k-150").table.astype(np.uint8), universal_remap(taxonomy).table.astype(np.uint8)
    labels = out / "labels"
    labels.mkdir(parents=True)
    tasks = [(path, labels, *tables) for path in sorted((raw / "annotations/training").iterdir())]
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        pool.map(look_up, tasks, chunksize=8)
    with tarfile.open(out / "all.tar", "w") as tar:
        for image in sorted((raw / "images/training").iterdir()):
            tar.add(image, image.name)
            for member in ("native", "universal"):
                tar.add(labels / f"{image.stem}.{member}.png", f"{image.stem}.{member}.png")


def ours(raw: Path, out: Path, workers: int) -> None:
    convert(dataset="ade20k-150", split="train", raw=raw, out=str(out), workers=workers, shard_samples=32)


def same_labels(raw: Path, place: Path) -> None:
    """Neither is worth timing if they do different work."""
    with open_shards(place / "ours" / "ade20k-150" / "train") as shards:
        for i in range(0, len(shards), 37):
            for member in ("native", "universal"):
                plain = np.asarray(Image.open(place / "plain" / "labels" / f"{shards.entry(i).key}.{member}.png"))
                stored = cv2.imdecode(np.frombuffer(shards.read(i, member), np.uint8), cv2.IMREAD_GRAYSCALE)
                assert stored is not None
                assert np.array_equal(plain, stored), (shards.entry(i).key, member)


def compare(count: int, rounds: int, size_hw: tuple[int, int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        raw = make_release(place / "raw", count, size_hw)
        took: dict[str, list[float]] = {}
        for turn in range(rounds):
            runs = {
                "ours, 2 processes": (ours, "ours", 2),
                "plain, 2 processes": (straightforward, "plain", 2),
                "ours, 1 process": (ours, "ours", 1),
                "plain, 1 process": (straightforward, "plain", 1),
            }
            for name in sorted(runs, reverse=bool(turn % 2)):  # alternate who goes first
                run, where, workers = runs[name]
                shutil.rmtree(place / where, ignore_errors=True)
                began = time.perf_counter()
                run(raw, place / where, workers)
                took.setdefault(name, []).append(time.perf_counter() - began)
            same_labels(raw, place)
    for name, seconds in sorted(took.items()):
        rates = [count / s for s in seconds]
        print(f"{name:19} {statistics.median(rates):6.0f} images/s  ({min(rates):.0f} to {max(rates):.0f})")
    for what, above, below in (
        ("ours / plain, 2 processes", "plain, 2 processes", "ours, 2 processes"),
        ("ours / plain, 1 process", "plain, 1 process", "ours, 1 process"),
        ("ours, 1 -> 2 processes", "ours, 1 process", "ours, 2 processes"),
    ):
        ratios = [a / b for a, b in zip(took[above], took[below], strict=True)]
        print(f"{what:26} {statistics.median(ratios):.2f} x")


def memory_mib(pid: int | str = "self") -> float:
    """Resident memory of a process now."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:  # it has ended
        return 0.0
    return pages * resource.getpagesize() / 2**20


class Watch(threading.Thread):
    """Peak memory of this process and of its workers since the last look."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.own = self.worker = 0.0
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.02):
            self.own = max(self.own, memory_mib())
            children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
            self.worker = max([self.worker, *map(memory_mib, children)])

    def look(self) -> tuple[float, float]:
        seen = self.own, self.worker
        self.own = self.worker = 0.0
        return seen


def grow(count: int, size_hw: tuple[int, int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        raw = make_release(Path(folder) / "raw", count, size_hw)
        watch, began, reached = Watch(), time.perf_counter(), 0
        watch.start()
        print(f"{'images':>7} {'s':>6} {'images/s':>9} {'peak MiB':>9} {'per worker':>10}")

        def progress(done: int, total: int) -> None:
            nonlocal reached, began
            if done - reached >= EVERY or done == total:
                now = time.perf_counter()
                own, worker = watch.look()
                print(f"{done:7} {now - began:6.1f} {(done - reached) / (now - began):9.0f} {own:9.0f} {worker:10.0f}")
                reached, began = done, now

        convert(dataset="ade20k-150", split="train", raw=raw, out=f"{folder}/out", workers=2, progress=progress)
        watch.over.set()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, nargs=2, default=SIZE_HW, metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--grow", type=int, metavar="IMAGES")
    args = parser.parse_args()
    load_tar_writer()  # as the command does
    print(f"Python {sys.version.split()[0]}, {platform.machine()}, {os.cpu_count()} cores")
    if args.grow:
        grow(args.grow, tuple(args.size))
    else:
        compare(args.images, args.rounds, tuple(args.size))


if __name__ == "__main__":
    main()
