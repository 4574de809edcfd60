"""ScanNet, the 25k frames: a folder per scene; index PNGs of NYU40 ids, 0 = unlabelled.

The lists carried are of scenes. Frame names repeat from scene to scene, so keys are SCENE/FRAME.
"""

from dataclasses import replace

from segstream.shards.datasets.layout import find_all, split_list
from segstream.shards.datasets.release import Release
from segstream.shards.datasets.sources import Find, Found
from segstream.shards.format.keys import key_of

_FRAMES = "scannet_frames_25k"


def find(release: Release, split: str, stated: Find) -> Found:
    """The frames of a split's scenes."""
    found = find_all(release, f"{_FRAMES}/*/color/*.jpg", f"{_FRAMES}/*/label/*.png")
    scenes = dict.fromkeys(split_list("scannet-20", split) or ())
    pairs = [(_scene(pair.image), pair) for pair in found.pairs if _scene(pair.image) in scenes]
    here = {scene for scene, _ in pairs}
    return Found(
        pairs=tuple(replace(p, key=key_of(f"{scene}/{p.image.rpartition('/')[2]}")) for scene, p in pairs),
        absent=tuple(f"{_FRAMES}/{scene}/color" for scene in scenes if scene not in here),
        orphans=tuple(label for label in found.orphans if _scene(label) in scenes),
    )


def _scene(path: str) -> str:
    return path.split("/")[1]
