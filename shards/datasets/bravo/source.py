"""BRAVO: pictures to predict, without labels; models answer in the 19 Cityscapes classes."""

from __future__ import annotations

from segstream.shards.datasets.release import Raw
from segstream.shards.datasets.sources import Found, Pair, Source, choose, folder, read_ids
from segstream.shards.format.keys import key_of
from segstream.shards.taxonomy import load_taxonomy

_SUBSETS = ("bravo_ACDC", "bravo_SMIYC", "bravo_outofcontext", "bravo_synflare", "bravo_synobjs", "bravo_synrain")


def source() -> Source:
    """RAW is `bravo_1.0`, with one folder per subset; every .png and .jpg below them is a picture."""
    return Source(native=load_taxonomy("cityscapes-19"), release=None, find=_find, read_label=read_ids)


def _find(raw: Raw, split: str) -> Found:
    choose({"test": "test"}, split, dataset="bravo")
    # subset by subset: an archive's files are also found without its top folder, so `below` the root has them twice
    subsets = [subset for subset in _SUBSETS if raw.has_folder(subset)] or [folder(raw, _SUBSETS[0])]
    paths = [f"{subset}/{name}" for subset in subsets for end in (".png", ".jpg") for name in raw.below(subset, end)]
    return Found(pairs=tuple(Pair(key=key_of(path), image=path, label=None) for path in sorted(paths)))
