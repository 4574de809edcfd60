"""Mapillary Vistas v1.1: palette PNGs whose indices are class ids and whose colours are those of `config.json`."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import numpy as np

from segstream.shards.codecs.labels import decode_palette
from segstream.shards.datasets.release import Release
from segstream.shards.datasets.sources import Find, Found, Ids, Pair
from segstream.shards.errors import DataError, UnreadableError
from segstream.shards.schema import parse_json
from segstream.shards.taxonomy import release_classes


def find_checked(
    release: Release, split: str, stated: Find, *, dataset: str, field: str, version: str | None = None
) -> Found:
    """Pairs of a release that is the one meant: another version has other ids.

    Args:
        field: which of each label's names our table has.
        version: the only one to take.

    Raises:
        DataError: it is another version, or not readable.
    """
    found = stated(release, split)
    if not release.has("config.json"):
        return found
    where = f"{release}/config.json"
    data = release.required("config.json", "unpack the archive again")
    try:
        content: Any = parse_json(data)
        labels = [label[field] for label in content["labels"]]
        theirs = str(content.get("version", version))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{where}: not Mapillary's class list ({error!r}); unpack the archive again") from error
    names = [name for name, _ in release_classes(dataset)]
    differ = [n for n, (a, b) in enumerate(itertools.zip_longest(labels, names)) if a != b]
    if differ or (version and theirs != version):
        what = f"class {differ[0]} of {len(labels)} differs from ours" if differ else f"version {theirs}, not {version}"
        other = f"this is another release than {dataset}'s (see `segstream datasets {dataset}`)"
        raise DataError(f"{where}: {what}; {other}")
    return found


find = functools.partial(find_checked, dataset="mapillary-public65", field="readable", version="1.1")


def read_label(data: bytes, pair: Pair) -> Ids:
    """Upstream goes by the colours, others by the indices; a file in which they disagree is not the released one."""
    ids, palette = decode_palette(data)
    used = np.unique(ids)  # few
    ours = np.array([colour for _, colour in release_classes("mapillary-public65")], np.uint8)
    known = used[used < min(len(ours), len(palette))]
    strange = sorted(map(int, [*used[len(known) :], *known[(palette[known] != ours[known]).any(1)]]))
    if strange:
        raise UnreadableError(f"palette entries {strange[:5]} do not have the colours of v1.1's classes")
    return ids
