"""ADE20K Scene Parsing (ADEChallengeData2016): index PNGs, 0 = unlabelled, 1-150 in challenge order."""

from __future__ import annotations

from shards.raw import Raw
from shards.sources.common import Found, Source, choose, pair_folders, plain_source

_FOLDERS = {"train": "training", "val": "validation"}


def source() -> Source:
    """RAW is `ADEChallengeData2016`."""
    return plain_source("ade20k-150", _find)


def _find(raw: Raw, split: str) -> Found:
    part = choose(_FOLDERS, split, dataset="ade20k-150")
    return pair_folders(
        raw,
        f"images/{part}",
        f"annotations/{part}",
        image_end=".jpg",
        label_end=".png",
        label_stem=str,
    )
