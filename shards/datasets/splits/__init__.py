"""Members of the splits that a release does not carry as folders (MSeg data, CC-BY 4.0; see NOTICE).

`<dataset>_<split>.txt`, or compressed as `.txt.xz`: one image stem per line (of ScanNet: one scene). KITTI's 200
labelled images were divided at random, SUN RGB-D's val is 475 of the official test images, VOC's train is the
SBD-augmented list, PASCAL Context has the lists of VOC 2010, ScanNet those of its benchmark: none of them can be told
from the files.
"""

from __future__ import annotations

import functools
import lzma
from importlib import resources

from segstream.shards.errors import UsageError, did_you_mean

_PACKED = ".xz"


@functools.cache
def stems(dataset: str, split: str) -> tuple[str, ...]:
    """Members of a split, in the order of the published list.

    Raises:
        UsageError: no list is carried for this dataset and split.
    """
    wanted = f"{dataset}_{split}"
    files = {
        f.name.removesuffix(_PACKED).removesuffix(".txt"): f
        for f in resources.files("segstream.shards.datasets.splits").iterdir()
    }
    if wanted not in files:
        known = [name for name in files if "_" in name and not name.startswith("_")]
        raise UsageError(f"no list of images is carried for {wanted!r}; {did_you_mean(wanted, known)}")
    data = files[wanted].read_bytes()
    return tuple((lzma.decompress(data) if files[wanted].name.endswith(_PACKED) else data).decode("ascii").split())
