"""Cityscapes, fine annotations: `labelIds` PNGs with ids 0-33, one folder per city."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

from segstream.shards.datasets.polygons import object_masks
from segstream.shards.datasets.release import Raw
from segstream.shards.datasets.sources import Found, Pair, Segments, Source, choose, pair_folders, plain_source


def source() -> Source:
    """RAW holds `leftImg8bit` and `gtFine`."""
    return plain_source("cityscapes-19", functools.partial(find, dataset="cityscapes-19"), segments=SEGMENTS)


def find(raw: Raw, split: str, *, dataset: str) -> Found:
    """Pairs of a split; `dataset` is named in errors."""
    part = choose({"train": "train", "val": "val"}, split, dataset=dataset)
    return pair_folders(
        raw,
        f"leftImg8bit/{part}",
        f"gtFine/{part}",
        image_end=".png",
        label_end="_gtFine_labelIds.png",
        label_stem=lambda path: path.removesuffix("_leftImg8bit"),
    )


def _polygon_files(raw: Raw, pairs: Sequence[Pair]) -> tuple[Raw, Mapping[str, str]]:
    labels = {pair.key: pair.label or "" for pair in pairs}
    return raw, {key: label.replace("_gtFine_labelIds.png", "_gtFine_polygons.json") for key, label in labels.items()}


SEGMENTS = Segments(strict=False, masks=functools.partial(object_masks, by_id=False), files=_polygon_files)
"""A record names a polygon, all of which is overwritten, with whatever was drawn on top of it, as upstream does."""
