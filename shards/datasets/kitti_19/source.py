"""KITTI semantics: index PNGs with Cityscapes label ids; train and val are a published random division."""

from __future__ import annotations

from segstream.shards.datasets.release import Raw
from segstream.shards.datasets.sources import Found, Source, choose, folder, pair_list, plain_source


def source() -> Source:
    """RAW holds `training/image_2` and `training/semantic`."""
    return plain_source("kitti-19", _find)


def _find(raw: Raw, split: str) -> Found:
    choose({"train": "train", "val": "val"}, split, dataset="kitti-19")
    folder(raw, "training/image_2")
    folder(raw, "training/semantic")
    return pair_list(
        raw,
        "kitti-19",
        split,
        image=lambda stem: f"training/image_2/{stem}.png",
        label=lambda stem: f"training/semantic/{stem}.png",
    )
