"""COCO Panoptic 2017: PNGs of segment ids and a JSON with each one's category; crowds count as any other segment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from segstream.shards.datasets.panoptic import category_ids, read_annotations, segment_ids
from segstream.shards.datasets.release import Raw
from segstream.shards.datasets.sources import (
    Found,
    Ids,
    Mask,
    Pair,
    Segments,
    Source,
    choose,
    folder,
    id_masks,
    label_files,
    label_folder,
)
from segstream.shards.format.keys import key_of
from segstream.shards.taxonomy import load_taxonomy, release_remap


def source() -> Source:
    """RAW holds `images/{train,val}2017` and `annotations/panoptic_{train,val}2017{/,.json}`."""
    return Source(
        native=load_taxonomy("coco-panoptic-133"),
        release=release_remap("coco-panoptic-133"),
        find=_find,
        read_label=read_segments,
        segments=Segments(strict=True, masks=_masks, files=label_files, parent=_parent),
    )


def read_segments(data: bytes, pair: Pair) -> Ids:
    """A panoptic PNG as (H, W) category ids; `pair.extra` holds its segments."""
    return category_ids(data, pair.extra)


def _find(raw: Raw, split: str) -> Found:
    part = choose({"train": "train2017", "val": "val2017"}, split, dataset="coco-panoptic-133")
    images, labels = f"images/{part}", f"annotations/panoptic_{part}"
    have = {name.removesuffix(".jpg") for name in raw.below(folder(raw, images), ".jpg")}
    folder(raw, labels)
    listed = read_annotations(raw, f"{labels}.json")
    pairs = [
        Pair(
            key=key_of(f"{stem}.jpg"),
            image=f"{images}/{stem}.jpg",
            label=f"{labels}/{stem}.png",
            extra=listed.get(stem),
        )
        for stem in sorted(have)
    ]
    return Found(pairs=tuple(pairs), absent=tuple(f"{images}/{stem}.jpg" for stem in sorted(listed.keys() - have)))


def _parent(pair: Pair) -> str:
    """`train2017`, not `panoptic_train2017`, which upstream has unpacked to other folders before relabelling."""
    return label_folder(pair).removeprefix("panoptic_")


def _masks(data: bytes, segments: Sequence[int], size_hw: tuple[int, int]) -> Iterator[Mask]:
    return id_masks(segment_ids(data), segments)
