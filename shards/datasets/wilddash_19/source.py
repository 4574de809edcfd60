"""WildDash version 1: index PNGs with Cityscapes label ids; its 70 labelled images are MSeg's val."""

from __future__ import annotations

from segstream.shards.datasets.release import Raw
from segstream.shards.datasets.sources import Found, Source, choose, folder, pair_list, plain_source
from segstream.shards.datasets.splits import stems


def source() -> Source:
    """RAW holds `wd_val_01`, or the files of that archive themselves."""
    return plain_source("wilddash-19", _find)


def _find(raw: Raw, split: str) -> Found:
    choose({"val": "val"}, split, dataset="wilddash-19")
    bare = any(raw.has(f"{stem}.png") for stem in stems("wilddash-19", "val"))
    root = "" if bare else f"{folder(raw, 'wd_val_01')}/"
    return pair_list(
        raw,
        "wilddash-19",
        split,
        image=lambda stem: f"{root}{stem}.png",
        label=lambda stem: f"{root}{stem}_labelIds.png",
    )
