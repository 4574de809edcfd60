"""BRAVO: pictures to predict, without labels; models answer in the 19 Cityscapes classes.

The root of the release is `bravo_1.0`, with one folder per subset; every .png and .jpg below them is a picture.
"""

from segstream.shards.datasets.layout import folder
from segstream.shards.datasets.release import Release
from segstream.shards.datasets.sources import Find, Found, Pair
from segstream.shards.format.keys import key_of

_SUBSETS = ("bravo_ACDC", "bravo_SMIYC", "bravo_outofcontext", "bravo_synflare", "bravo_synobjs", "bravo_synrain")


def find(release: Release, split: str, stated: Find) -> Found:
    """The pictures of whichever subsets there are."""
    # subset by subset: an archive's files are also found without its top folder, so `below` the root has them twice
    subsets = [subset for subset in _SUBSETS if release.has_folder(subset)] or [folder(release, _SUBSETS[0])]
    paths = [f"{s}/{name}" for s in subsets for end in (".png", ".jpg") for name in release.below(s, end)]
    return Found(pairs=tuple(Pair(key=key_of(path), image=path, label=None) for path in sorted(paths)))
