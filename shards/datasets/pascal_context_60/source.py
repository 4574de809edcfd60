"""PASCAL Context: pictures of VOC 2010 and one MATLAB file each, whose `LabelMap` holds 0 (none) to 459."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace

from segstream.shards.datasets.mat import need_scipy, read_integers
from segstream.shards.datasets.release import Release
from segstream.shards.datasets.sources import Dataset, Found, Ids, Pair


def adapt(stated: Dataset) -> Dataset:
    """With labels from MATLAB files."""
    return replace(stated, find=functools.partial(_find, stated.find), read_label=_read_label)


def _find(stated: Callable[[Release, str], Found], release: Release, split: str) -> Found:
    need_scipy()
    return stated(release, split)


def _read_label(data: bytes, pair: Pair) -> Ids:
    return read_integers(data, "LabelMap")
