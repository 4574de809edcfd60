"""WildDash 2 in Cityscapes' 19 classes: COCO-style panoptic annotations; train and val are lists of image ids.

The root of the release is `wd_public_v2p0`, with `random_split` beside `images`, `panoptic` and `panoptic.json`.
"""

from segstream.shards.datasets.panoptic import described, read_categories
from segstream.shards.datasets.release import Release
from segstream.shards.datasets.sources import Find, Found
from segstream.shards.errors import DataError

_LISTS = {"train": "training", "val": "validation"}


read_label = read_categories


def find(release: Release, split: str, stated: Find) -> Found:
    """The pairs of the release's own lists, with the segments of its JSON."""
    here = {pair.image: pair for pair in stated(release, split).pairs}
    path = f"random_split/{_LISTS[split]}.txt"
    try:
        listed = [f"images/{name}.jpg" for name in release.read(path).decode().split()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{release}/{path}: cannot be read ({error}); it lists the images of a split") from error
    if not listed:
        raise DataError(f"{release}/{path}: names no images")
    pairs = tuple(here[image] for image in listed if image in here)
    absent = tuple(image for image in listed if image not in here)
    return described(Found(pairs=pairs, absent=absent), release, "panoptic.json")
