"""SUN RGB-D, repackaged release: index PNGs, 0 = unlabelled; val is a list of 475 of the official test images."""

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
    folder,
    id_masks,
    label_files,
    pair_folders,
    pair_list,
    plain_source,
)


def source() -> Source:
    """RAW holds `image` and `label38` (the archive's `label37`, renamed, as it holds 38 values)."""
    return plain_source("sunrgbd-37", _find, segments=Segments(strict=True, masks=_masks, files=label_files))


def _find(raw: Raw, split: str) -> Found:
    part = choose({"train": "train", "val": "test"}, split, dataset="sunrgbd-37")
    images, labels = f"image/{part}", f"label38/{part}"
    if split == "train":
        return pair_folders(raw, images, labels, image_end=".jpg", label_end=".png", label_stem=_label_stem)
    folder(raw, images)
    folder(raw, labels)
    return pair_list(
        raw,
        "sunrgbd-37",
        split,
        image=lambda stem: f"{images}/{stem}.jpg",
        label=lambda stem: f"{labels}/{_label_stem(stem)}.png",
    )


def _label_stem(stem: str) -> str:
    """`img-000001` -> `00000001`."""
    return stem.removeprefix("img-").zfill(8)


def _masks(data: bytes, segments: Sequence[int], size_hw: tuple[int, int]) -> Iterator[Mask]:
    """A record names a whole class, by its native id; the files hold that plus one."""
    return id_masks(decode_ids(data), [native + 1 for native in segments])
