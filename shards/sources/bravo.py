"""BRAVO: pictures to predict, without labels; models answer in the 19 Cityscapes classes."""

from __future__ import annotations

from shards.keys import key_of
from shards.raw import Raw
from shards.sources.common import Found, Pair, Source, choose, read_ids
from shards.taxonomy import load_taxonomy


def source() -> Source:
    """RAW is `bravo_1.0`, with one folder per subset; every .png and .jpg below it is a picture."""
    return Source(native=load_taxonomy("cityscapes-19"), release=None, find=_find, read_label=read_ids)


def _find(raw: Raw, split: str) -> Found:
    choose({"test": "test"}, split, dataset="bravo")
    paths = sorted((*raw.below("", ".png"), *raw.below("", ".jpg")))
    return Found(pairs=tuple(Pair(key=key_of(path), image=path, label=None) for path in paths))
