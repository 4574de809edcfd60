"""Cityscapes, fine annotations: `labelIds` PNGs with ids 0-33, one folder per city."""

from __future__ import annotations

import functools

from shards.raw import Raw
from shards.sources.common import Found, Source, choose, pair_folders, plain_source


def source() -> Source:
    """RAW holds `leftImg8bit` and `gtFine`."""
    return plain_source("cityscapes-19", functools.partial(find, dataset="cityscapes-19"))


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
