"""Mapillary Vistas v1.2 in Cityscapes' 19 classes: palette PNGs whose indices are class ids."""

from __future__ import annotations

from segstream.shards.datasets.mapillary_public65.source import check_config, pair_photos
from segstream.shards.datasets.release import Raw
from segstream.shards.datasets.sources import Found, Source, plain_source


def source() -> Source:
    """RAW holds `training`, `validation` and `config.json`."""
    return plain_source("mapillary-19", _find)


def _find(raw: Raw, split: str) -> Found:
    found = pair_photos(raw, split, dataset="mapillary-19")
    check_config(raw, "name", dataset="mapillary-19")
    return found
