"""WildDash version 1: index PNGs with Cityscapes label ids; its 70 labelled images are MSeg's val.

The release's root holds `wd_val_01`, or the files of that archive themselves.
"""

from __future__ import annotations

from dataclasses import replace

from segstream.shards.datasets.layout import find_listed, split_list
from segstream.shards.datasets.release import Release
from segstream.shards.datasets.sources import Dataset, Found


def adapt(stated: Dataset) -> Dataset:
    """With or without the archive's folder."""
    return replace(stated, find=_find)


def _find(release: Release, split: str) -> Found:
    names = split_list("wilddash-19", split) or ()
    root = "" if any(release.has(f"{name}.png") for name in names) else "wd_val_01/"
    return find_listed(release, names, f"{root}*.png", f"{root}*_labelIds.png")
