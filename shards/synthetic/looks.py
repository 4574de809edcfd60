"""What makes each dataset a domain of its own: kinds of scene, viewpoint, light, sensor. Data only."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

Range = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How one dataset's pictures are taken; ranges are drawn from per image."""

    sizes: tuple[tuple[int, int], ...]
    """(width, height) pixels to pick from."""
    kinds: dict[str, float]
    """Scene kind -> share."""
    camera_height: Range = (1.4, 1.7)
    """Metres above the ground, outdoors."""
    focal: Range = (0.9, 1.2)
    """In image heights."""
    horizon: Range = (0.4, 0.5)
    """Share of the image above it, outdoors."""
    haze: Range = (0.0, 0.004)
    """Extinction per metre."""
    sun: Range = (0.2, 0.6)
    """How dark shadows are."""
    vivid: Range = (0.3, 0.8)
    """Saturation of things people paint: cars, clothes, doors."""
    gain: tuple[Range, Range, Range] = ((0.95, 1.05), (0.95, 1.05), (0.95, 1.05))
    """White balance: factor per channel."""
    exposure: Range = (0.9, 1.1)
    contrast: Range = (0.9, 1.1)
    saturation: Range = (0.9, 1.1)
    noise: Range = (1.0, 4.0)
    """Standard deviation, grey levels."""
    blur: Range = (0.2, 0.5)
    """Standard deviation, pixels."""
    vignette: Range = (0.0, 0.15)
    tram: float = 0.06
    """Chance of a tram or train in a street."""
    riders: float = 0.0
    """Chance that a bicycle or motorcycle in a street is being ridden."""
    hood: bool = False
    """The bonnet of the car that carries the camera is in view."""
    town: tuple[str, ...] = ("house", "block", "tower")
    """Kinds of buildings."""
    subjects: dict[str, float] = field(default_factory=dict)
    """What everyday pictures are of -> weight."""


_OBJECTS = {
    "cat": 0.05,
    "dog": 0.05,
    "horse": 0.045,
    "sheep": 0.04,
    "cow": 0.045,
    "bird": 0.05,
    "airplane": 0.055,
    "boat": 0.055,
    "train": 0.05,
    "bus": 0.05,
    "car": 0.05,
    "motorcycle": 0.055,
    "bicycle": 0.055,
    "person": 0.06,
    "bottle": 0.055,
    "couch": 0.04,
    "chair": 0.045,
    "table": 0.045,
    "plant": 0.05,
    "screen": 0.045,
}  # what VOC's annotators went looking for, and most of COCO's things

LOOKS: dict[str, Look] = {
    "ade20k-150": Look(
        sizes=((160, 120), (152, 120), (168, 120), (124, 156), (180, 120)),
        kinds={"indoor": 0.7, "street": 0.06, "everyday": 0.24},
        camera_height=(1.5, 2.6),
        focal=(0.8, 1.25),
        horizon=(0.38, 0.58),
        haze=(0.0, 0.008),
        sun=(0.15, 0.5),
        vivid=(0.2, 0.7),
        gain=((0.92, 1.08), (0.96, 1.04), (0.9, 1.08)),
        exposure=(0.85, 1.15),
        noise=(1.0, 4.0),
        subjects={
            "nature": 0.1,
            "animal_other": 0.04,
            "boat": 0.1,
            "airplane": 0.1,
            "car": 0.06,
            "bus": 0.08,
            "truck": 0.03,
            "bicycle": 0.1,
            "motorcycle": 0.1,
            "person": 0.12,
            "bottle": 0.1,
            "couch": 0.06,
            "chair": 0.05,
            "table": 0.05,
            "screen": 0.06,
            "plant": 0.06,
        },
    ),
    "coco-panoptic-133": Look(
        sizes=((160, 120), (160, 106), (120, 160), (160, 128), (112, 150)),
        kinds={"everyday": 0.9, "indoor": 0.1},
        camera_height=(1.2, 2.2),
        focal=(1.0, 1.6),
        horizon=(0.3, 0.55),
        haze=(0.0, 0.006),
        sun=(0.2, 0.6),
        vivid=(0.45, 0.95),
        gain=((0.9, 1.1), (0.94, 1.06), (0.88, 1.1)),
        exposure=(0.8, 1.2),
        contrast=(0.9, 1.2),
        saturation=(0.9, 1.3),
        noise=(1.0, 5.0),
        subjects={
            **_OBJECTS,
            "truck": 0.03,
            "elephant": 0.01,
            "zebra": 0.01,
            "nature": 0.04,
        },
    ),
    "cityscapes-19": Look(
        sizes=((256, 128),),
        kinds={"street": 1.0},
        camera_height=(1.2, 1.35),
        focal=(1.05, 1.15),
        horizon=(0.4, 0.46),
        haze=(0.002, 0.01),
        sun=(0.05, 0.25),
        vivid=(0.1, 0.5),
        gain=((0.88, 0.95), (0.98, 1.05), (0.88, 0.97)),
        exposure=(0.85, 1.08),
        contrast=(0.8, 0.95),
        saturation=(0.6, 0.85),
        noise=(1.0, 3.0),
        blur=(0.2, 0.4),
        tram=0.2,
        riders=0.6,
        hood=True,
        town=("block", "block", "tower"),
    ),
    "sunrgbd-37": Look(
        sizes=((146, 106), (140, 106), (118, 90)),
        kinds={"indoor": 1.0},
        gain=((1.02, 1.2), (0.92, 1.02), (0.66, 0.86)),
        exposure=(0.68, 0.95),
        contrast=(0.85, 1.05),
        saturation=(0.75, 1.0),
        noise=(4.0, 8.0),
        blur=(0.4, 0.8),
        vignette=(0.1, 0.35),
    ),
    "camvid-11": Look(
        sizes=((192, 144),),
        kinds={"street": 1.0},
        camera_height=(1.3, 1.7),
        focal=(1.0, 1.3),
        horizon=(0.42, 0.54),
        haze=(0.004, 0.014),
        sun=(0.15, 0.5),
        vivid=(0.2, 0.7),
        gain=((0.94, 1.04), (0.95, 1.03), (0.94, 1.1)),
        exposure=(0.75, 1.05),
        contrast=(0.85, 1.15),
        saturation=(0.7, 1.0),
        noise=(2.0, 5.0),
        blur=(0.3, 0.7),
        tram=0.04,
        riders=0.7,
        town=("house", "block", "tower"),
    ),
    "voc2012": Look(
        sizes=((167, 125), (167, 111), (125, 167), (167, 118), (111, 167)),
        kinds={"everyday": 0.5, "indoor": 0.28, "street": 0.22},
        camera_height=(1.1, 2.0),
        focal=(1.0, 1.5),
        horizon=(0.3, 0.55),
        haze=(0.0, 0.008),
        sun=(0.15, 0.6),
        vivid=(0.3, 0.9),
        gain=((0.9, 1.06), (0.95, 1.04), (0.9, 1.12)),
        exposure=(0.88, 1.15),
        contrast=(0.85, 1.1),
        saturation=(0.75, 1.1),
        noise=(2.0, 5.0),
        blur=(0.3, 0.7),
        subjects=_OBJECTS,
    ),
    "kitti-19": Look(
        sizes=((330, 100),),
        kinds={"street": 1.0},
        camera_height=(1.6, 1.75),
        focal=(1.7, 2.0),
        horizon=(0.4, 0.48),
        haze=(0.0, 0.004),
        sun=(0.45, 0.75),
        vivid=(0.2, 0.7),
        gain=((0.92, 1.02), (0.96, 1.04), (0.96, 1.08)),
        exposure=(1.05, 1.3),
        contrast=(1.0, 1.2),
        saturation=(0.9, 1.15),
        noise=(1.0, 3.0),
        blur=(0.1, 0.4),
        tram=0.1,
        riders=0.6,
        town=("house", "house", "block"),
    ),
}


_DASHBOARD = replace(LOOKS["camvid-11"], sizes=((192, 108),), camera_height=(1.2, 1.6), tram=0.06)
LOOKS |= {
    "bdd": replace(
        _DASHBOARD,
        focal=(0.8, 1.0),
        gain=((0.9, 1.02), (0.95, 1.05), (0.95, 1.12)),
        exposure=(0.5, 1.15),  # some of it at dusk
        noise=(2.0, 7.0),
        riders=0.3,
        vignette=(0.1, 0.3),
        hood=True,
        town=("house", "block", "tower", "tower"),
    ),
    "idd-39": replace(
        _DASHBOARD,
        haze=(0.006, 0.02),
        gain=((1.0, 1.12), (0.96, 1.04), (0.82, 0.96)),
        vivid=(0.4, 0.9),
        exposure=(0.9, 1.2),
        riders=0.95,
        tram=0.0,
        town=("house", "block"),
    ),
    "mapillary-public65": replace(
        LOOKS["kitti-19"],
        sizes=((240, 180), (256, 144), (160, 213), (240, 160)),
        camera_height=(1.2, 2.6),
        focal=(0.7, 1.3),
        horizon=(0.35, 0.55),
        haze=(0.0, 0.015),
        gain=((0.88, 1.1), (0.94, 1.06), (0.88, 1.12)),
        exposure=(0.75, 1.25),
        noise=(0.5, 4.0),
    ),
    "pascal-context-60": replace(
        LOOKS["voc2012"], kinds={"everyday": 0.55, "indoor": 0.25, "street": 0.2}, exposure=(0.8, 1.2)
    ),
    "wilddash-19": replace(
        _DASHBOARD,
        haze=(0.0, 0.03),
        gain=((0.85, 1.12), (0.92, 1.06), (0.85, 1.15)),
        exposure=(0.5, 1.3),
        contrast=(0.65, 1.25),
        saturation=(0.4, 1.2),
        noise=(2.0, 9.0),
        blur=(0.3, 1.0),
    ),
    "scannet-20": replace(
        LOOKS["sunrgbd-37"],
        sizes=((162, 121),),
        gain=((0.98, 1.12), (0.95, 1.03), (0.8, 0.98)),
        exposure=(0.6, 0.9),
        noise=(2.0, 5.0),
        blur=(0.6, 1.1),
    ),
    "gta5-19": replace(
        LOOKS["kitti-19"],
        sizes=((191, 105),),
        focal=(0.9, 1.1),
        haze=(0.002, 0.01),
        contrast=(1.1, 1.3),
        saturation=(1.05, 1.3),
        noise=(0.0, 0.5),
        town=("block", "tower"),
    ),
    "shift-19": replace(
        LOOKS["kitti-19"],
        sizes=((160, 100),),
        focal=(0.7, 0.8),
        haze=(0.0, 0.025),
        exposure=(0.6, 1.2),
        saturation=(0.7, 1.0),
        noise=(0.0, 0.5),
    ),
    "bravo": replace(
        LOOKS["cityscapes-19"], haze=(0.01, 0.05), contrast=(0.6, 0.9), noise=(2.0, 7.0), vivid=(0.1, 0.9)
    ),
}
LOOKS["wilddash2-19"] = replace(LOOKS["wilddash-19"], focal=(0.7, 1.2), riders=0.8)


def spread(weights: dict[str, float], place: float) -> tuple[str, float]:
    """The key in whose share of the weights `place` (0..1) falls, and how far into the share it is (0..1)."""
    left = place * sum(weights.values())
    for key, weight in weights.items():
        if left < weight:
            return key, left / weight
        left -= weight
    return key, 0.999
