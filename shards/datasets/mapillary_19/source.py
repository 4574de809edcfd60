"""Mapillary Vistas v1.2 in Cityscapes' 19 classes: palette PNGs whose indices are class ids."""

from __future__ import annotations

import functools
from dataclasses import replace

from segstream.shards.datasets.mapillary_public65.source import find_checked
from segstream.shards.datasets.sources import Dataset


def adapt(stated: Dataset) -> Dataset:
    """With a look at `config.json`."""
    find = functools.partial(find_checked, stated.find, dataset="mapillary-19", field="name")
    return replace(stated, find=find)
