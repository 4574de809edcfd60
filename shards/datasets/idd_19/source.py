"""India Driving Dataset, parts I and II, in Cityscapes' 19 classes (`csTrainId` of IDD's tools).

The release's root holds `leftImg8bit` and `gtFine` of both parts, or the folders `IDD_Segmentation` and `idd20kII`.
"""

from segstream.shards.datasets.idd_39.source import read_label as read_label
from segstream.shards.datasets.layout import find_all
from segstream.shards.datasets.release import Release
from segstream.shards.datasets.sources import Find, Found

_ROOTS = ("", "IDD_Segmentation/", "idd20kII/")  # the parts put together, or as each is unpacked
_IMAGE_ENDS = (".png", ".jpg")  # of part I and of part II


def find(release: Release, split: str, stated: Find) -> Found:
    """The pictures of both parts, wherever they are."""
    roots = [root for root in _ROOTS if release.has_folder(f"{root}leftImg8bit/{split}")] or [""]
    image, label = f"leftImg8bit/{split}/**/*_leftImg8bit", f"gtFine/{split}/**/*_gtFine_polygons.json"
    found = [find_all(release, f"{root}{image}{end}", f"{root}{label}") for root in roots for end in _IMAGE_ENDS]
    pairs = tuple(pair for one in found for pair in one.pairs)
    orphans = {label for one in found for label in one.orphans} - {pair.label for pair in pairs}
    return Found(pairs=pairs, orphans=tuple(sorted(orphans)))
