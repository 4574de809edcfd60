"""Mapillary Vistas v1.1: palette PNGs whose indices are class ids and whose colours are those of `config.json`."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from segstream.shards.codecs.images import UnreadableError, decode_ids, decode_palette
from segstream.shards.datasets.release import Raw
from segstream.shards.datasets.sources import Found, Ids, Mask, Pair, Segments, Source, choose, id_masks, pair_folders
from segstream.shards.errors import DataError
from segstream.shards.schema import parse_json
from segstream.shards.taxonomy import load_taxonomy, release_classes, release_remap


def source() -> Source:
    """RAW holds `training`, `validation` and `config.json`."""
    return Source(
        native=load_taxonomy("mapillary-public65"),
        release=release_remap("mapillary-public65"),
        find=_find,
        read_label=_read_label,
        segments=Segments(strict=True, masks=_masks, files=_instance_files),
    )


def pair_photos(raw: Raw, split: str, *, dataset: str) -> Found:
    """Images of a split and their labels, in the layout that all versions up to 1.2 share."""
    part = choose({"train": "training", "val": "validation"}, split, dataset=dataset)
    return pair_folders(raw, f"{part}/images", f"{part}/labels", image_end=".jpg", label_end=".png", label_stem=str)


def check_config(raw: Raw, field: str, *, dataset: str, version: str | None = None) -> None:
    """Compare what the release states of itself, if it does, with what we know: another version has other ids.

    Args:
        field: which of each label's names our table has.
        version: the only one to take.

    Raises:
        DataError: it is another version, or not readable.
    """
    where = f"{raw}/config.json"
    if not raw.has("config.json"):
        return
    try:
        content: Any = parse_json(raw.read("config.json"))
        stated = [label[field] for label in content["labels"]]
        found = str(content.get("version", version))
    except OSError as error:
        raise DataError(f"{where}: cannot be read ({error.strerror}); unpack the archive again") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{where}: not Mapillary's class list ({error!r}); unpack the archive again") from error
    names = [name for name, _ in release_classes(dataset)]
    differ = [n for n, (a, b) in enumerate(itertools.zip_longest(stated, names)) if a != b]
    if differ or (version and found != version):
        what = f"class {differ[0]} of {len(stated)} differs from ours" if differ else f"version {found}, not {version}"
        raise DataError(
            f"{where}: {what}; this is another release than {dataset}'s (see `segstream datasets {dataset}`)"
        )


def _find(raw: Raw, split: str) -> Found:
    found = pair_photos(raw, split, dataset="mapillary-public65")
    check_config(raw, "readable", dataset="mapillary-public65", version="1.1")
    return found


def _read_label(data: bytes, pair: Pair) -> Ids:
    """Upstream goes by the colours, others by the indices; a file in which they disagree is not the released one."""
    ids, palette = decode_palette(data)
    used = np.unique(ids)  # few
    ours = _palette()
    known = used[used < min(len(ours), len(palette))]
    strange = [*used[len(known) :], *known[(palette[known] != ours[known]).any(1)]]
    if strange:
        raise UnreadableError(
            f"palette entries {sorted(map(int, strange))[:5]} do not have the colours of v1.1's classes"
        )
    return ids


@functools.cache
def _palette() -> npt.NDArray[np.uint8]:
    """(66, 3) RGB by release id."""
    return np.array([colour for _, colour in release_classes("mapillary-public65")], np.uint8)


def _instance_files(raw: Raw, pairs: Sequence[Pair]) -> tuple[Raw, Mapping[str, str]]:
    return raw, {pair.key: (pair.label or "").replace("/labels/", "/instances/") for pair in pairs}


def _masks(data: bytes, segments: Sequence[int], size_hw: tuple[int, int]) -> Iterator[Mask]:
    """Of 16 bits: 256 x class + instance."""
    return id_masks(decode_ids(data), segments)
