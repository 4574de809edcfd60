"""BDD100K's later 10K release: index PNGs with Cityscapes train ids, 255 = unlabelled."""

from __future__ import annotations

from segstream.shards.datasets.release import Raw
from segstream.shards.datasets.sources import Found, Source, choose, pair_folders, plain_source


def source() -> Source:
    """RAW holds `images/10k` and `labels/sem_seg/masks`."""
    return plain_source("bdd100k-19", _find)


def _find(raw: Raw, split: str) -> Found:
    part = choose({"train": "train", "val": "val"}, split, dataset="bdd100k-19")
    return pair_folders(
        raw,
        f"images/10k/{part}",
        f"labels/sem_seg/masks/{part}",
        image_end=".jpg",
        label_end=".png",
        label_stem=str,
    )
