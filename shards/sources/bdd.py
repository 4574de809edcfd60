"""BDD100K segmentation as MSeg uses it: index PNGs with Cityscapes train ids, 255 = unlabelled."""

from __future__ import annotations

from shards.raw import Raw
from shards.sources.common import Found, Source, choose, pair_folders, plain_source


def source() -> Source:
    """RAW is `bdd100k`."""
    return plain_source("bdd", _find)


def _find(raw: Raw, split: str) -> Found:
    part = choose({"train": "train", "val": "val"}, split, dataset="bdd")
    return pair_folders(
        raw,
        f"seg/images/{part}",
        f"seg/labels/{part}",
        image_end=".jpg",
        label_end="_train_id.png",
        label_stem=str,
    )
