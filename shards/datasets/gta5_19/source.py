"""GTA5 (Playing for Data): palette PNGs of Cityscapes label ids, in the 19 classes; the splits are in a MATLAB file.

The release's root holds `images`, `labels` and `split.mat`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from PIL import Image

from segstream.shards.codecs.images import Picture, decode_ids, decode_picture
from segstream.shards.datasets.layout import find_listed
from segstream.shards.datasets.mat import need_scipy, read_integers
from segstream.shards.datasets.release import Release
from segstream.shards.datasets.sources import Dataset, Found, Ids, Pair
from segstream.shards.errors import DataError, UnreadableError
from segstream.shards.taxonomy import IGNORE_INDEX

_SIZE_HW = (1052, 1914)  # some pictures and some labels have another, not always the same for both
_LAST_ID = 33
_BLANK = (15188, 17705)  # pictures that show nothing


def adapt(stated: Dataset) -> Dataset:
    """With the splits of the MATLAB file, and all of one size."""
    return replace(stated, find=_find, read_label=_read_label, read_image=_read_image)


def _find(release: Release, split: str) -> Found:
    need_scipy()
    return find_listed(release, _names(release, f"{split}Ids"), "images/*.png", "labels/*.png")


def _names(release: Release, variable: str) -> Iterator[str]:
    try:
        ids = read_integers(release.read("split.mat"), variable)
    except OSError as error:
        raise DataError(f"{release}/split.mat: cannot be read ({error.strerror}); it comes with the release") from error
    except UnreadableError as error:
        raise DataError(f"{release}/split.mat: {error}; download it again") from error
    yield from (f"{i:05d}" for i in ids.ravel().tolist() if i not in _BLANK)


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
