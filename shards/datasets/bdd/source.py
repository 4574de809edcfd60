"""BDD100K segmentation as MSeg uses it: index PNGs with Cityscapes train ids, 255 = unlabelled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from segstream.shards.codecs.images import decode_ids
from segstream.shards.datasets.release import Raw
from segstream.shards.datasets.sources import (
    Found,
    Mask,
    Segments,
    Source,
    choose,
    id_masks,
    label_files,
    pair_folders,
    plain_source,
)


def source() -> Source:
    """RAW is `bdd100k`."""
    return plain_source("bdd", _find, segments=Segments(strict=True, masks=_masks, files=label_files))


def _find(raw: Raw, split: str) -> Found:
    part = choose({"train": "train", "val": "val"}, split, dataset="bdd")
    return pair_folders(
        raw,
        f"seg/images/{part}",
        f"seg/labels/{part}",
        image_end=".jpg",
        label_end="_train_id.png",
        label_stem=str,
    )


def _masks(data: bytes, segments: Sequence[int], size_hw: tuple[int, int]) -> Iterator[Mask]:
    """A record names a whole class, by its train id, not one of its pieces."""
    return id_masks(decode_ids(data), segments)
