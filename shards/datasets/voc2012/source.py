"""PASCAL VOC 2012 with the augmented labels: palette PNGs whose indices are class ids, 255 = border or void."""

from __future__ import annotations

from segstream.shards.datasets.release import Raw
from segstream.shards.datasets.sources import Found, Source, choose, folder, pair_list, plain_source


def source() -> Source:
    """RAW holds `JPEGImages` and `SegmentationClassAug`."""
    return plain_source("voc2012", _find)


def _find(raw: Raw, split: str) -> Found:
    choose({"train": "train", "val": "val"}, split, dataset="voc2012")
    folder(raw, "JPEGImages")
    folder(raw, "SegmentationClassAug")
    return pair_list(
        raw,
        "voc2012",
        split,
        image=lambda stem: f"JPEGImages/{stem}.jpg",
        label=lambda stem: f"SegmentationClassAug/{stem}.png",
    )
