"""WildDash version 1: index PNGs with Cityscapes label ids; its 70 labelled images are MSeg's val.

The release's root holds `wd_val_01`, or the files of that archive themselves.
"""

from segstream.shards.datasets.layout import find_listed, split_list
from segstream.shards.datasets.release import Release
from segstream.shards.datasets.sources import Find, Found


def find(release: Release, split: str, stated: Find) -> Found:
    """The pairs, with or without the archive's folder."""
    names = split_list("wilddash-19", split) or ()
    root = "" if any(release.has(f"{name}.png") for name in names) else "wd_val_01/"
    return find_listed(release, names, f"{root}*.png", f"{root}*_labelIds.png")
