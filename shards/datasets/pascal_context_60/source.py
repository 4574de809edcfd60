"""PASCAL Context: pictures of VOC 2010 and one MATLAB file each, whose `LabelMap` holds 0 (none) to 459."""

from __future__ import annotations

from segstream.shards.datasets.mat import need_scipy, read_integers
from segstream.shards.datasets.release import Raw
from segstream.shards.datasets.sources import Found, Ids, Pair, Source, choose, folder, pair_list
from segstream.shards.taxonomy import load_taxonomy, release_remap

_DATASET = "pascal-context-60"


def source() -> Source:
    """RAW holds `JPEGImages` and `trainval`."""
    return Source(native=load_taxonomy(_DATASET), release=release_remap(_DATASET), find=_find, read_label=_read_label)


def _find(raw: Raw, split: str) -> Found:
    choose({"train": "train", "val": "val"}, split, dataset=_DATASET)
    need_scipy()
    images, labels = folder(raw, "JPEGImages"), folder(raw, "trainval")
    return pair_list(
        raw, _DATASET, split, image=lambda stem: f"{images}/{stem}.jpg", label=lambda stem: f"{labels}/{stem}.mat"
    )


def _read_label(data: bytes, pair: Pair) -> Ids:
    return read_integers(data, "LabelMap")
