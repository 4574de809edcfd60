"""CamVid as released at Cambridge: label colours are the codes of 32 classes, of which MSeg keeps 11, unmerged."""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from segstream.shards.codecs.images import UnreadableError, decode_rgb
from segstream.shards.datasets.release import Raw
from segstream.shards.datasets.sources import Found, Ids, Pair, Source, choose, folder, pair_list
from segstream.shards.taxonomy import load_taxonomy, release_classes, release_remap

_UNKNOWN = 255


def source() -> Source:
    """RAW holds `701_StillsRaw_full` and `Labels32-RGB`."""
    return Source(
        native=load_taxonomy("camvid-11"), release=release_remap("camvid-11"), find=_find, read_label=_read_label
    )


def _find(raw: Raw, split: str) -> Found:
    choose({"train": "train", "val": "val", "test": "test"}, split, dataset="camvid-11")
    folder(raw, "701_StillsRaw_full")
    folder(raw, "Labels32-RGB")
    return pair_list(
        raw,
        "camvid-11",
        split,
        image=lambda stem: f"701_StillsRaw_full/{stem}.png",
        label=lambda stem: f"Labels32-RGB/{stem}_L.png",
    )


def _read_label(data: bytes, pair: Pair) -> Ids:
    colours = decode_rgb(data).astype(np.uint32)
    codes = colours[..., 0] << 16 | colours[..., 1] << 8 | colours[..., 2]
    ids: Ids = _ids_by_code()[codes]
    if (ids == _UNKNOWN).any():
        code = int(codes[ids == _UNKNOWN][0])
        rgb = (code >> 16, code >> 8 & 255, code & 255)
        raise UnreadableError(f"{int((ids == _UNKNOWN).sum())} pixels of colours no class has, the first {rgb}")
    return ids


@functools.cache
def _ids_by_code() -> npt.NDArray[np.uint8]:
    table = np.full(1 << 24, _UNKNOWN, np.uint8)
    for i, (_, colour) in enumerate(release_classes("camvid-11")):
        assert colour is not None, "every CamVid class has a colour"
        table[colour[0] << 16 | colour[1] << 8 | colour[2]] = i
    return table
