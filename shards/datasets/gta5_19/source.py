"""GTA5 (Playing for Data): palette PNGs of Cityscapes label ids, in the 19 classes; the splits are in a MATLAB file.

The release's root holds `images`, `labels` and `split.mat`.
"""

from collections.abc import Iterator

import numpy as np
from PIL import Image

from segstream.shards.codecs.images import Picture, decode_picture
from segstream.shards.codecs.labels import decode_ids
from segstream.shards.datasets.layout import find_listed
from segstream.shards.datasets.mat import need_scipy, read_integers
from segstream.shards.datasets.release import Release
from segstream.shards.datasets.sources import Find, Found, Ids, Pair
from segstream.shards.errors import DataError, UnreadableError
from segstream.shards.taxonomy import IGNORE_INDEX

_SIZE_HW = (1052, 1914)  # some pictures and some labels have another, not always the same for both
_LAST_ID = 33
_BLANK = (15188, 17705)  # pictures that show nothing


def find(release: Release, split: str, stated: Find) -> Found:
    """The splits of the MATLAB file."""
    need_scipy()
    return find_listed(release, _names(release, f"{split}Ids"), "images/*.png", "labels/*.png")


def _names(release: Release, variable: str) -> Iterator[str]:
    data = release.required("split.mat", "it comes with the release")
    try:
        ids = read_integers(data, variable)
    except UnreadableError as error:
        raise DataError(f"{release}/split.mat: {error}; download it again") from error
    yield from (f"{i:05d}" for i in ids.ravel().tolist() if i not in _BLANK)


def read_image(data: bytes) -> Picture:
    """Pictures of one size."""
    picture = decode_picture(data)
    if picture.size_hw == _SIZE_HW:
        return picture
    resized = Image.fromarray(picture.pixels).resize(_SIZE_HW[::-1], Image.Resampling.BICUBIC)
    return Picture(size_hw=_SIZE_HW, content=np.asarray(resized), as_is=None)


def read_label(data: bytes, pair: Pair) -> Ids:
    """Ids of the same size."""
    ids = decode_ids(data)
    if ids.shape != _SIZE_HW:
        ids = np.asarray(Image.fromarray(ids).resize(_SIZE_HW[::-1], Image.Resampling.NEAREST))
    return np.where(ids > _LAST_ID, IGNORE_INDEX, ids)
