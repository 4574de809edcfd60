"""COCO Panoptic 2017: PNGs of segment ids and a JSON with each one's category; crowds count as any other segment.

The release's root holds `images/{train,val}2017` and `annotations/panoptic_{train,val}2017{/,.json}`.
"""

import functools

from segstream.shards.datasets.panoptic import described, read_categories, segment_ids
from segstream.shards.datasets.release import Release
from segstream.shards.datasets.sources import Find, Found, Pair, Segments, id_masks, label_folder


def find(release: Release, split: str, stated: Find) -> Found:
    """The pairs with the segments of the JSON, which is also the list of images."""
    return described(stated(release, split), release, f"annotations/panoptic_{split}2017.json", f"images/{split}2017/")


def _parent(pair: Pair) -> str:
    """`train2017`, not `panoptic_train2017`, which upstream has unpacked to other folders before relabelling."""
    return label_folder(pair).removeprefix("panoptic_")


read_label = read_categories
segments = Segments(strict=True, masks=functools.partial(id_masks, read=segment_ids), parent=_parent)
