"""COCO Panoptic 2017: PNGs of segment ids and a JSON with each one's category; crowds count as any other segment.

The release's root holds `images/{train,val}2017` and `annotations/panoptic_{train,val}2017{/,.json}`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from segstream.shards.datasets.panoptic import described, read_categories, segment_ids
from segstream.shards.datasets.release import Release
from segstream.shards.datasets.sources import Dataset, Found, Mask, Pair, Segments, equal_masks, label_folder


def adapt(stated: Dataset) -> Dataset:
    """With the segments of the JSON, which is also the list of images."""
    segments = Segments(strict=True, masks=_masks, parent=_parent)
    return replace(stated, find=functools.partial(_find, stated.find), read_label=read_categories, segments=segments)


def _find(stated: Callable[[Release, str], Found], release: Release, split: str) -> Found:
    return described(stated(release, split), release, f"annotations/panoptic_{split}2017.json", f"images/{split}2017/")


def _parent(pair: Pair) -> str:
    """`train2017`, not `panoptic_train2017`, which upstream has unpacked to other folders before relabelling."""
    return label_folder(pair).removeprefix("panoptic_")


def _masks(data: bytes, segments: Sequence[int], size_hw: tuple[int, int]) -> Iterator[Mask]:
    return equal_masks(segment_ids(data), segments)
