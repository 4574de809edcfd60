"""Mapillary Vistas v1.2 in Cityscapes' 19 classes: palette PNGs whose indices are class ids."""

import functools

from segstream.shards.datasets.mapillary_public65.source import find_checked

find = functools.partial(find_checked, dataset="mapillary-19", field="name")
