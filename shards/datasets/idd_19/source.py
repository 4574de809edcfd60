"""India Driving Dataset, parts I and II, in Cityscapes' 19 classes (`csTrainId` of IDD's tools).

The release's root holds `leftImg8bit` and `gtFine` of both parts, or the folders `IDD_Segmentation` and `idd20kII`.
"""

from __future__ import annotations

from dataclasses import replace

from segstream.shards.datasets.idd_39.source import read_polygons
from segstream.shards.datasets.layout import find_all
from segstream.shards.datasets.release import Release
from segstream.shards.datasets.sources import Dataset, Found

_ROOTS = ("", "IDD_Segmentation/", "idd20kII/")  # the parts put together, or as each is unpacked
_IMAGE_ENDS = (".png", ".jpg")  # of part I and of part II


def adapt(stated: Dataset) -> Dataset:
    """With the pictures of both parts, wherever they are."""
    return replace(stated, find=_find, read_label=read_polygons)


def _find(release: Release, split: str) -> Found:
    roots = [root for root in _ROOTS if release.has_folder(f"{root}leftImg8bit/{split}")] or [""]
    found = [
        find_all(
            release,
            f"{root}leftImg8bit/{split}/**/*_leftImg8bit{end}",
            f"{root}gtFine/{split}/**/*_gtFine_polygons.json",
        )
        for root in roots
        for end in _IMAGE_ENDS
    ]
    pairs = tuple(pair for one in found for pair in one.pairs)
    orphans = {label for one in found for label in one.orphans} - {pair.label for pair in pairs}
    return Found(pairs=pairs, orphans=tuple(sorted(orphans)))
