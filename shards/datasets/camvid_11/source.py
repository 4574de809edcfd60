"""CamVid as released at Cambridge: label colours are the codes of 32 classes, of which MSeg keeps 11, unmerged."""

import functools

import numpy as np
import numpy.typing as npt

from segstream.shards.datasets.panoptic import segment_ids
from segstream.shards.datasets.sources import Ids, Pair
from segstream.shards.errors import UnreadableError
from segstream.shards.taxonomy import release_classes

_UNKNOWN = 255


def read_label(data: bytes, pair: Pair) -> Ids:
    """Labels by their colours."""
    codes = segment_ids(data)  # R + 256 G + 65536 B
    ids: Ids = _ids_by_code()[codes]
    if (ids == _UNKNOWN).any():
        code = int(codes[ids == _UNKNOWN][0])
        rgb = (code & 255, code >> 8 & 255, code >> 16)
        raise UnreadableError(f"{int((ids == _UNKNOWN).sum())} pixels of colours no class has, the first {rgb}")
    return ids


@functools.cache
def _ids_by_code() -> npt.NDArray[np.uint8]:
    table = np.full(1 << 24, _UNKNOWN, np.uint8)
    colours = np.array([colour for _, colour in release_classes("camvid-11")], np.intp)
    table[colours @ (1, 1 << 8, 1 << 16)] = np.arange(len(colours))
    return table
