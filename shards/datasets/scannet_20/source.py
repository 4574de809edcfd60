"""ScanNet, the 25k frames: a folder per scene; index PNGs of NYU40 ids, 0 = unlabelled."""

from __future__ import annotations

from segstream.shards.datasets.release import Raw
from segstream.shards.datasets.sources import Found, Pair, Source, choose, folder, plain_source
from segstream.shards.datasets.splits import stems
from segstream.shards.format.keys import key_of

_FRAMES = "scannet_frames_25k"


def source() -> Source:
    """RAW holds `scannet_frames_25k`. Frame names repeat from scene to scene, so keys are SCENE/FRAME."""
    return plain_source("scannet-20", _find)


def _find(raw: Raw, split: str) -> Found:
    choose({"train": "train", "val": "val"}, split, dataset="scannet-20")
    root = folder(raw, _FRAMES)
    pairs, absent, labels = [], [], set()
    for scene in stems("scannet-20", split):
        at = f"{root}/{scene}"
        frames = [name.removesuffix(".jpg") for name in raw.below(f"{at}/color", ".jpg")]
        pairs += [
            Pair(key=key_of(f"{scene}/{f}.jpg"), image=f"{at}/color/{f}.jpg", label=f"{at}/label/{f}.png")
            for f in frames
        ]
        labels |= {f"{at}/label/{name}" for name in raw.below(f"{at}/label", ".png")}
        absent += [] if frames else [f"{at}/color"]
    return Found(
        pairs=tuple(pairs), absent=tuple(absent), orphans=tuple(sorted(labels - {p.label or "" for p in pairs}))
    )
