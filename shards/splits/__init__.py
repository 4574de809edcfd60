"""Image stems of the splits that a release does not carry as folders (MSeg data, CC-BY 4.0; see NOTICE).

`<dataset>_<split>.txt`, one stem per line. KITTI's 200 labelled images were divided at random, SUN RGB-D's val is
475 of the official test images, VOC's train is the SBD-augmented list: none of them can be told from the files.
"""

from __future__ import annotations

import functools
from importlib import resources

from shards.errors import UsageError
from shards.schema import did_you_mean


@functools.cache
def stems(dataset: str, split: str) -> tuple[str, ...]:
    """Image stems of a split, in the order of the published list.

    Raises:
        UsageError: no list is carried for this dataset and split.
    """
    file = resources.files("shards.splits").joinpath(f"{dataset}_{split}.txt")
    if not file.is_file():
        listed = (f.name.removesuffix(".txt") for f in resources.files("shards.splits").iterdir())
        known = [name for name in listed if "_" in name and not name.startswith("_")]
        wanted = f"{dataset}_{split}"
        raise UsageError(f"no list of images is carried for {wanted!r}; {did_you_mean(wanted, known)}")
    return tuple(file.read_text(encoding="ascii").split())
