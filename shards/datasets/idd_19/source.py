"""India Driving Dataset, parts I and II, in Cityscapes' 19 classes (`csTrainId` of IDD's tools)."""

from __future__ import annotations

from segstream.shards.datasets.idd_39.source import pair_frames, read_polygons
from segstream.shards.datasets.release import Raw
from segstream.shards.datasets.sources import Found, Source, choose
from segstream.shards.taxonomy import native_taxonomy, release_remap

_ROOTS = ("", "IDD_Segmentation/", "idd20kII/")  # the parts put together, or as each is unpacked
_IMAGE_ENDS = (".png", ".jpg")  # of part I and of part II


def source() -> Source:
    """RAW holds `leftImg8bit` and `gtFine` of both parts, or the folders `IDD_Segmentation` and `idd20kII`."""
    return Source(
        native=native_taxonomy("idd-19"), release=release_remap("idd-19"), find=_find, read_label=read_polygons
    )


def _find(raw: Raw, split: str) -> Found:
    part = choose({"train": "train", "val": "val"}, split, dataset="idd-19")
    roots = [root for root in _ROOTS if raw.has_folder(f"{root}leftImg8bit/{part}")] or [""]
    found = [pair_frames(raw, root, part, end) for root in roots for end in _IMAGE_ENDS]
    pairs = tuple(pair for one in found for pair in one.pairs)
    orphans = {label for one in found for label in one.orphans} - {pair.label for pair in pairs}
    return Found(pairs=pairs, orphans=tuple(sorted(orphans)))
