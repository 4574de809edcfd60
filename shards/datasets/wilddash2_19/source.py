"""WildDash 2 in Cityscapes' 19 classes: COCO-style panoptic annotations; train and val are lists of image ids."""

from __future__ import annotations

from segstream.shards.datasets.coco_panoptic_133.source import read_segments
from segstream.shards.datasets.panoptic import read_annotations
from segstream.shards.datasets.release import Raw
from segstream.shards.datasets.sources import Found, Pair, Source, choose, folder
from segstream.shards.errors import DataError
from segstream.shards.format.keys import key_of
from segstream.shards.taxonomy import native_taxonomy, release_remap


def source() -> Source:
    """RAW is `wd_public_v2p0`, with `random_split` beside `images`, `panoptic` and `panoptic.json`."""
    return Source(
        native=native_taxonomy("wilddash2-19"),
        release=release_remap("wilddash2-19"),
        find=_find,
        read_label=read_segments,
    )


def _find(raw: Raw, split: str) -> Found:
    part = choose({"train": "training", "val": "validation"}, split, dataset="wilddash2-19")
    have = set(raw.below(folder(raw, "images"), ".jpg"))
    folder(raw, "panoptic")
    stems = _stems(raw, f"random_split/{part}.txt")
    segments = read_annotations(raw, "panoptic.json")
    pairs = [
        Pair(
            key=key_of(f"{stem}.jpg"),
            image=f"images/{stem}.jpg",
            label=f"panoptic/{stem}.png",
            extra=segments.get(stem),
        )
        for stem in stems
        if f"{stem}.jpg" in have
    ]
    return Found(pairs=tuple(pairs), absent=tuple(f"images/{stem}.jpg" for stem in stems if f"{stem}.jpg" not in have))


def _stems(raw: Raw, path: str) -> tuple[str, ...]:
    try:
        stems = tuple(raw.read(path).decode().split())
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{raw}/{path}: cannot be read ({error}); it lists the images of a split") from error
    if not stems:
        raise DataError(f"{raw}/{path}: names no images")
    return stems
