"""COCO Panoptic 2017: PNGs whose colours are segment ids (R + 256 G + 65536 B) and a JSON with each one's category."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from shards.errors import DataError
from shards.images import UnreadableError, decode_rgb
from shards.keys import key_of
from shards.raw import Raw
from shards.sources.common import Found, Ids, Pair, Source, choose, folder
from shards.taxonomy import IGNORE_INDEX, load_taxonomy, release_remap

_UNLABELLED = 0  # segment id


def source() -> Source:
    """RAW holds `images/{train,val}2017` and `annotations/panoptic_{train,val}2017{/,.json}`."""
    return Source(
        native=load_taxonomy("coco-panoptic-133"),
        release=release_remap("coco-panoptic-133"),
        find=_find,
        read_label=_read_label,
    )


def _find(raw: Raw, split: str) -> Found:
    part = choose({"train": "train2017", "val": "val2017"}, split, dataset="coco-panoptic-133")
    images, labels = f"images/{part}", f"annotations/panoptic_{part}"
    have = set(raw.below(folder(raw, images), ".jpg"))
    folder(raw, labels)
    listed = _annotations(raw, f"{labels}.json")
    pairs = [
        Pair(
            key=key_of(name),
            image=f"{images}/{name}",
            label=f"{labels}/{name.removesuffix('.jpg')}.png",
            extra=listed.get(name),
        )
        for name in sorted(have)
    ]
    return Found(pairs=tuple(pairs), absent=tuple(f"{images}/{name}" for name in sorted(set(listed) - have)))


def _annotations(raw: Raw, path: str) -> dict[str, tuple[tuple[int, int], ...]]:
    """Image name -> its (segment id, category id) pairs."""
    try:
        content: Any = json.loads(raw.read(path))
        return {
            f"{a['file_name'].removesuffix('.png')}.jpg": tuple((s["id"], s["category_id"]) for s in a["segments_info"])
            for a in content["annotations"]
        }
    except OSError as error:
        raise DataError(
            f"{raw}/{path}: cannot be read ({error.strerror}); unpack the panoptic annotations there"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{raw}/{path}: not COCO panoptic annotations ({error!r}); unpack the archive again") from error


def _read_label(data: bytes, pair: Pair) -> Ids:
    if pair.extra is None:
        raise UnreadableError("the panoptic JSON has no entry for it")
    rgb = decode_rgb(data).astype(np.uint32)
    codes = rgb[..., 0] | rgb[..., 1] << 8 | rgb[..., 2] << 16
    categories = {**dict(pair.extra), _UNLABELLED: IGNORE_INDEX}
    segments = np.array(sorted(categories), np.uint32)
    place = np.searchsorted(segments, codes).clip(max=len(segments) - 1)
    strange = segments[place] != codes
    if strange.any():
        unlisted = np.unique(codes[strange])[:5].tolist()
        raise UnreadableError(f"{int(strange.sum())} pixels of segments {unlisted}, which the panoptic JSON lacks")
    table = np.array([categories[int(s)] for s in segments], np.int32)
    return np.take(table, place)
