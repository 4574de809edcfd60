"""COCO's panoptic format: PNGs whose colours are segment ids (R + 256 G + 65536 B) and a JSON with their categories."""

from collections import Counter
from dataclasses import replace
from operator import index
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from segstream.shards.codecs.labels import decode_rgb
from segstream.shards.datasets.release import Release
from segstream.shards.datasets.sources import Found, Pair
from segstream.shards.errors import DataError, UnreadableError
from segstream.shards.schema import parse_json
from segstream.shards.taxonomy import IGNORE_INDEX

_UNLABELLED = 0  # segment id
_NUM_CODES = 1 << 24  # colours

_Segments = tuple[tuple[int, int], ...]
"""(segment id, category id) of one image."""


def described(found: Found, release: Release, path: str, images: str | None = None) -> Found:
    """Pairs with what a JSON of the release says of them in `extra`.

    Args:
        path: of the JSON.
        images: where the JSON is the list of images, their folder, with `/`: those that only it knows are absent.

    Raises:
        DataError: the JSON is missing, something else, or describes an image twice.
    """
    listed = read_annotations(release, path)
    pairs = tuple(replace(pair, extra=listed.get(PurePosixPath(pair.image).stem)) for pair in found.pairs)
    if images is None:
        return replace(found, pairs=pairs)
    here = {pair.image for pair in pairs}
    absent = (f"{images}{name}.jpg" for name in sorted(listed))
    return Found(pairs=pairs, absent=tuple(image for image in absent if image not in here))


def read_annotations(release: Release, path: str) -> dict[str, _Segments]:
    """The segments of every image, by the PNG's name without extension.

    Raises:
        DataError: the JSON is missing, something else, or describes an image twice.
    """
    data, where = release.required(path, "unpack the panoptic annotations there"), f"{release}/{path}"
    try:
        listed: Any = parse_json(data)["annotations"]
        names = [a["file_name"].removesuffix(".png") for a in listed]
        segments = [tuple((index(s["id"]), index(s["category_id"])) for s in a["segments_info"]) for a in listed]
        twice = [name for name, count in Counter(names).items() if count > 1]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{where}: not COCO panoptic annotations ({error!r}); unpack the archive again") from error
    if twice:
        raise DataError(f"{where}: describes {twice[0]}.png twice; unpack the archive again")
    return dict(zip(names, segments, strict=True))


def segment_ids(data: bytes) -> npt.NDArray[np.uint32]:
    """Decode a panoptic PNG into (H, W) uint32 segment ids.

    Raises:
        UnreadableError: damaged, or without colours.
    """
    rgb = decode_rgb(data)
    codes = np.zeros((*rgb.shape[:2], 4), np.uint8)
    codes[..., :3] = rgb
    return codes.view("<u4")[..., 0]


def read_categories(data: bytes, pair: Pair) -> npt.NDArray[np.int32]:
    """Decode a panoptic PNG into (H, W) category ids; pixels of no segment, id 0, become 255.

    Args:
        pair: its `extra` is (segment id, category id) of each segment; None if the JSON does not know the image.

    Raises:
        UnreadableError: damaged, not described by the JSON, or with pixels of segments that it does not list.
    """
    segments: _Segments | None = pair.extra
    if segments is None:
        raise UnreadableError("the panoptic JSON has no entry for it")
    categories = {**dict(segments), _UNLABELLED: IGNORE_INDEX}
    if len(dict(segments)) < len(segments) or not all(0 <= s < _NUM_CODES and 0 <= c <= 255 for s, c in segments):
        raise UnreadableError("its entry in the panoptic JSON has segments twice, or with ids that cannot be")
    codes = segment_ids(data)
    places = np.zeros(_NUM_CODES, np.uint16)  # 0: not listed; untouched pages of it cost nothing
    places[list(categories)] = np.arange(1, len(categories) + 1)
    place = places[codes]
    if not place.all():
        strange = codes[place == 0]
        unlisted = np.unique(strange)[:5].tolist()
        raise UnreadableError(f"{strange.size} pixels of segments {unlisted}, which the panoptic JSON lacks")
    return np.array([-1, *categories.values()], np.int32)[place]
