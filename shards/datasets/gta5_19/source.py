"""GTA5 (Playing for Data): palette PNGs of Cityscapes label ids, in the 19 classes; the splits are in a MATLAB file."""

from __future__ import annotations

import numpy as np
from PIL import Image

from segstream.shards.codecs.images import Picture, UnreadableError, decode_ids, decode_picture
from segstream.shards.datasets.mat import need_scipy, read_integers
from segstream.shards.datasets.release import Raw
from segstream.shards.datasets.sources import Found, Ids, Pair, Source, choose, folder
from segstream.shards.errors import DataError
from segstream.shards.taxonomy import IGNORE_INDEX, native_taxonomy, release_remap

_SIZE_HW = (1052, 1914)  # some pictures and some labels have another, not always the same for both
_LAST_ID = 33
_BLANK = (15188, 17705)  # pictures that show nothing


def source() -> Source:
    """RAW holds `images`, `labels` and `split.mat`."""
    return Source(
        native=native_taxonomy("gta5-19"),
        release=release_remap("gta5-19"),
        find=_find,
        read_label=_read_label,
        read_image=_read_image,
    )


def _find(raw: Raw, split: str) -> Found:
    variable = choose({"train": "trainIds", "val": "valIds", "test": "testIds"}, split, dataset="gta5-19")
    need_scipy()
    images, labels = folder(raw, "images"), folder(raw, "labels")
    pairs, absent = [], []
    for stem in _stems(raw, variable):
        path = f"{images}/{stem}.png"
        if raw.has(path):
            pairs.append(Pair(key=stem, image=path, label=f"{labels}/{stem}.png"))
        else:
            absent.append(path)
    return Found(pairs=tuple(pairs), absent=tuple(absent))


def _stems(raw: Raw, variable: str) -> list[str]:
    try:
        ids = read_integers(raw.read("split.mat"), variable)
    except OSError as error:
        raise DataError(f"{raw}/split.mat: cannot be read ({error.strerror}); it comes with the release") from error
    except UnreadableError as error:
        raise DataError(f"{raw}/split.mat: {error}; download it again") from error
    return [f"{i:05d}" for i in ids.ravel().tolist() if i not in _BLANK]


def _read_image(data: bytes) -> Picture:
    picture = decode_picture(data)
    if picture.size_hw == _SIZE_HW:
        return picture
    resized = Image.fromarray(picture.pixels).resize(_SIZE_HW[::-1], Image.Resampling.BICUBIC)
    return Picture(size_hw=_SIZE_HW, content=np.asarray(resized), as_is=None)


def _read_label(data: bytes, pair: Pair) -> Ids:
    ids = decode_ids(data)
    if ids.shape != _SIZE_HW:
        ids = np.asarray(Image.fromarray(ids).resize(_SIZE_HW[::-1], Image.Resampling.NEAREST))
    return np.where(ids > _LAST_ID, IGNORE_INDEX, ids)
