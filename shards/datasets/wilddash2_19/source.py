"""WildDash 2 in Cityscapes' 19 classes: COCO-style panoptic annotations; train and val are lists of image ids.

The root of the release is `wd_public_v2p0`, with `random_split` beside `images`, `panoptic` and `panoptic.json`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from segstream.shards.datasets.layout import find_listed
from segstream.shards.datasets.panoptic import described, read_categories
from segstream.shards.datasets.release import Release
from segstream.shards.datasets.sources import Dataset, Found
from segstream.shards.errors import DataError

_LISTS = {"train": "training", "val": "validation"}


def adapt(stated: Dataset) -> Dataset:
    """With the release's own lists and the segments of its JSON."""
    return replace(stated, find=_find, read_label=read_categories)


def _find(release: Release, split: str) -> Found:
    names = _names(release, f"random_split/{_LISTS[split]}.txt")
    return described(find_listed(release, names, "images/*.jpg", "panoptic/*.png"), release, "panoptic.json")


def _names(release: Release, path: str) -> Iterator[str]:
    try:
        names = release.read(path).decode().split()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{release}/{path}: cannot be read ({error}); it lists the images of a split") from error
    if not names:
        raise DataError(f"{release}/{path}: names no images")
    yield from names
