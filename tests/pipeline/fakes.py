"""Shard sets in memory, with the interface of `shards.reader.ShardSet` that the pipeline uses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np

from segstream.pipeline.augment_opencv import crop_image, crop_label
from segstream.pipeline.decode import Scratch
from segstream.shards.errors import DataError
from segstream.shards.format.index import Entry
from segstream.shards.format.manifest import Manifest
from segstream.shards.taxonomy import Taxonomy, load_taxonomy, remap_label, universal_remap


def png(array: np.ndarray) -> bytes:
    return cv2.imencode(".png", array[..., ::-1] if array.ndim == 3 else array)[1].tobytes()


def own_taxonomy(name: str = "toy", classes: tuple[str, ...] = ("a", "b", "c")) -> Taxonomy:
    return Taxonomy(name=name, kind="own", classes=classes)


def textured(rng: np.random.Generator, size_hw: tuple[int, int], classes: int) -> tuple[np.ndarray, np.ndarray]:
    """An image and a label of soft blobs, so that neighbours look alike as in a photograph."""
    height, width = size_hw
    coarse = rng.integers(0, 256, (max(2, height // 6), max(2, width // 6), 3), np.uint8)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    parts = rng.integers(0, classes, (max(2, height // 12), max(2, width // 12)), np.uint8)
    return image, cv2.resize(parts, (width, height), interpolation=cv2.INTER_NEAREST)


def augment(image, label_HW, draw, *, image_at=(0, 0), label_row=0) -> tuple[np.ndarray, np.ndarray]:
    """One sample's crop and label, as the loader makes them by OpenCV."""
    crop, label = np.empty((*draw.crop_hw, 3), np.uint8), np.empty(draw.crop_hw, label_HW.dtype)
    crop_image(image, draw, crop, Scratch(), at=image_at)
    crop_label(label_HW, draw, label, first_row=label_row)
    return crop, label


@dataclass
class FakeShards:
    """Every sample another image; `break_at(i, member)` may raise in place of a read."""

    name: str
    native: Taxonomy
    shard_sizes: tuple[int, ...]
    size_hw: tuple[int, int] = (40, 56)
    break_at: Callable[[int, str], None] = lambda i, member: None
    closed: bool = False
    counts: dict[str, dict[int, tuple[int, int]]] = field(
        default_factory=lambda: {"native": {0: (1, 1), 1: (1, 1)}, "universal": {0: (1, 1), 1: (1, 1)}}
    )
    replaced: dict[tuple[int, str], bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.url = f"fake://sets/{self.name}/train"
        universal = None if self.native.to_universal is None else load_taxonomy("universal")
        classes = {"native": self.native, "universal": universal}
        members = ("image", "json", "native", *(("universal",) if universal else ()))
        about = {"dataset": self.name, "split": "train", "licence": "", "digest": f"digest of {self.name}"}
        nothing = {"params": {}, "tool": {}, "shards": (), "skipped": (), "absent": 0}
        self.manifest = Manifest(members=members, counts=self.counts, **about, **classes, **nothing)

    def entry(self, i: int) -> Entry:
        assert 0 <= i < sum(self.shard_sizes)
        return Entry(key=f"{self.name}/{i:04d}", size_hw=self.size_hw, members={}, classes=())

    def read(self, i: int, member: str) -> bytes:
        self.break_at(i, member)
        if (i, member) in self.replaced:
            return self.replaced[i, member]
        image, native = self.sample(i)
        if member == "image":
            return png(image)
        return png(native if member == "native" else remap_label(native, universal_remap(self.native), where="fake"))

    def read_rows(self, i: int, member: str, top: int, bottom: int) -> None:
        return None  # written by another tool

    def sample(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng((i, len(self.name)))
        return textured(rng, self.size_hw, min(self.native.num_classes, 255))

    def close(self) -> None:
        self.closed = True


def opener(*sets: FakeShards) -> Callable[[str], FakeShards]:
    """Stands in for `open_shards`; urls are fake://sets/DATASET/train."""
    by_url = {s.url: s for s in sets}

    def open_shards(url: str) -> FakeShards:
        if url not in by_url:
            raise DataError(f"{url}: incomplete")
        return by_url[url]

    return open_shards
