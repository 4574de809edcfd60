"""ADE20K Scene Parsing (ADEChallengeData2016): index PNGs, 0 = unlabelled, 1-150 in challenge order.

Relabelling names instances, which only the full release (ADE20K_2016_07_26) holds, at a larger size.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import cv2

from segstream.shards.codecs.images import decode_rgb
from segstream.shards.datasets.release import Raw
from segstream.shards.datasets.sources import (
    Found,
    Ids,
    Mask,
    Pair,
    Segments,
    Source,
    choose,
    id_masks,
    pair_folders,
    plain_source,
)
from segstream.shards.errors import DataError

_FOLDERS = {"train": "training", "val": "validation"}
_FULL = "ADE20K_2016_07_26/images"
_END = "_seg.png"


def source() -> Source:
    """RAW is `ADEChallengeData2016`; relabelling needs `ADE20K_2016_07_26` in it or beside it."""
    return plain_source(
        "ade20k-150", _find, segments=Segments(strict=False, masks=_masks, files=_instance_files, least=10)
    )


def _find(raw: Raw, split: str) -> Found:
    part = choose(_FOLDERS, split, dataset="ade20k-150")
    found = pair_folders(
        raw,
        f"images/{part}",
        f"annotations/{part}",
        image_end=".jpg",
        label_end=".png",
        label_stem=str,
    )
    # the full release's images lie in folders below, should its zip be here too
    return dataclasses.replace(found, pairs=tuple(pair for pair in found.pairs if "/" not in pair.key))


def _instance_files(raw: Raw, pairs: Sequence[Pair]) -> tuple[Raw, Mapping[str, str]]:
    """The full release sorts its images into folders by scene, so they are found by name."""
    for place in (raw, Raw(raw.root.absolute().parent)):
        if place.has_folder(_FULL):
            by_name = {path.rpartition("/")[2]: path for path in place.below(_FULL, _END)}
            wanted = {pair.key: f"{pair.image.rpartition('/')[2].removesuffix('.jpg')}{_END}" for pair in pairs}
            return place, {key: f"{_FULL}/{by_name.get(name, name)}" for key, name in wanted.items()}
    raise DataError(f"{raw}: no {_FULL} in it or beside it; relabelling needs the full release too, unpack it there")


def _masks(data: bytes, segments: Sequence[int], size_hw: tuple[int, int]) -> Iterator[Mask]:
    """Blue is the instance's number.

    It is brought to the label's size by OpenCV's plain nearest rule (source row = floor of row x scale), as upstream
    does: the published labels are so, although the rule is off by half a pixel and frays the segments' borders.
    """
    blue = decode_rgb(data)[..., 2].copy()
    resized: Ids = cv2.resize(blue, size_hw[::-1], interpolation=cv2.INTER_NEAREST)  # type: ignore[assignment]
    return id_masks(resized, segments)
