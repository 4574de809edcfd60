"""India Driving Dataset, segmentation part I: a polygon JSON for each frame, one folder per sequence."""

from __future__ import annotations

from functools import partial

from segstream.shards.datasets.polygons import object_masks, parse_polygons, rasterise
from segstream.shards.datasets.release import Raw
from segstream.shards.datasets.sources import Found, Ids, Pair, Segments, Source, choose, label_files, pair_folders
from segstream.shards.taxonomy import load_taxonomy, release_classes, release_remap

_IDS = {name: i for i, (name, _) in enumerate(release_classes("idd-39"))}


def source() -> Source:
    """RAW is `IDD_Segmentation`.

    Relabelling overwrites all of the polygon that a record names, with whatever was drawn on top of it, as upstream
    does.
    """
    return Source(
        native=load_taxonomy("idd-39"),
        release=release_remap("idd-39"),
        find=_find,
        read_label=read_polygons,
        segments=Segments(strict=False, masks=partial(object_masks, by_id=True), files=label_files),
    )


def read_polygons(data: bytes, pair: Pair) -> Ids:
    """A frame's polygons as (H, W) IDD ids; the JSON states the frame's size, which is not the same for all."""
    return rasterise(parse_polygons(data), _IDS, background=_IDS["unlabeled"])


def pair_frames(raw: Raw, root: str, part: str, image_end: str) -> Found:
    """Images of a split and their polygons, below a root that ends with `/` or is empty."""
    return pair_folders(
        raw,
        f"{root}leftImg8bit/{part}",
        f"{root}gtFine/{part}",
        image_end=image_end,
        label_end="_gtFine_polygons.json",
        label_stem=lambda path: path.removesuffix("_leftImg8bit"),
    )


def _find(raw: Raw, split: str) -> Found:
    return pair_frames(raw, "", choose({"train": "train", "val": "val"}, split, dataset="idd-39"), ".png")
