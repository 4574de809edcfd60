"""India Driving Dataset, segmentation part I: a polygon JSON for each frame, one folder per sequence.

The root of the release is `IDD_Segmentation`.
"""

from segstream.shards.datasets.polygons import parse_polygons, rasterise
from segstream.shards.datasets.sources import Ids, Pair
from segstream.shards.taxonomy import release_classes

_IDS = {name: i for i, (name, _) in enumerate(release_classes("idd-39"))}


def read_label(data: bytes, pair: Pair) -> Ids:
    """A frame's polygons as (H, W) IDD ids; the JSON states the frame's size, which is not the same for all."""
    return rasterise(parse_polygons(data), _IDS, background=_IDS["unlabeled"])
