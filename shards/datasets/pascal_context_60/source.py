"""PASCAL Context: pictures of VOC 2010 and one MATLAB file each, whose `LabelMap` holds 0 (none) to 459."""

from __future__ import annotations

from segstream.shards.datasets.mat import need_scipy, read_integers
from segstream.shards.datasets.release import Release
from segstream.shards.datasets.sources import Find, Found, Ids, Pair


def find(release: Release, split: str, stated: Find) -> Found:
    """The pairs, if their labels can be read."""
    need_scipy()
    return stated(release, split)


def read_label(data: bytes, pair: Pair) -> Ids:
    """The ids of a MATLAB file."""
    return read_integers(data, "LabelMap")
