"""Mapillary Vistas v1.2 in Cityscapes' 19 classes: palette PNGs whose indices are class ids."""

from __future__ import annotations

from shards.raw import Raw
from shards.sources.common import Found, Source, plain_source
from shards.sources.mapillary_public65 import check_config, pair_photos


def source() -> Source:
    """RAW holds `training`, `validation` and `config.json`."""
    return plain_source("mapillary-19", _find)


def _find(raw: Raw, split: str) -> Found:
    found = pair_photos(raw, split, dataset="mapillary-19")
    check_config(raw, "name", dataset="mapillary-19")
    return found
