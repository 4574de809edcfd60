"""What each dataset calls what was painted: concept -> id in the released label files.

A concept is a universal class, or `universal/variant` where some dataset tells kinds of it apart. Names come from
the class tables wherever these are unambiguous; below stands only what the tables cannot say.
"""

from __future__ import annotations

import functools

import numpy as np

from shards.errors import UsageError
from shards.schema import did_you_mean
from shards.taxonomy import load_taxonomy, release_classes, release_remap, universal_ids
from shards.world.canvas import VOID

UNLABELED = None  # the dataset's own "no class"

_ROAD_OBJECTS = {
    "streetlight": "pole",
    "motorcyclist": "rider",
    "bench": "static",
    "trash_can": "static",
    "billboard": "static",
    "awning": "building",
    "guard_rail": "guard rail",
    "railroad": "rail track",
    "animal_other": "dynamic",
    "ego": "ego vehicle",
}
_CHOICES: dict[str, dict[str, str | None]] = {
    "ade20k-150": {
        "building": "building",
        "building/house": "house",
        "building/tower": "skyscraper",
        "vegetation": "tree",
        "vegetation/flower": "flower",
        "vegetation/palm": "palm",
        "vegetation/bush": "plant",
        "terrain": "grass",
        "terrain/sand": "sand",
        "terrain/dirt": "earth",
        "mountain_hill": "mountain",
        "mountain_hill/hill": "hill",
        "potted_plant": "pot",
        "potted_plant/leaves": "plant",
        "traffic_sign": "signboard",
        "car": "car",
        "car/van": "van",
        "boat_ship": "boat",
        "river_lake": "river",
        "sidewalk_pavement": "sidewalk",
        "cabinet": "cabinet",
        "door": "door",
        "pillow": "cushion",
        "stairs": "stairs",
        "railing_banister": "railing",
        "table": "table",
        "table/low": "coffee table",
        "laptop": "computer",
        "keyboard": "computer",
        "bicyclist": "person",
        "motorcyclist": "person",
    },
    "coco-panoptic-133": {
        "building": "building-other-merged",
        "building/house": "house",
        "wall": "wall-other-merged",
        "wall/brick": "wall-brick",
        "wall/tile": "wall-tile",
        "wall/wood": "wall-wood",
        "wall/stone": "wall-stone",
        "floor": "floor-other-merged",
        "floor/wood": "floor-wood",
        "vegetation": "tree-merged",
        "vegetation/flower": "flower",
        "terrain": "grass-merged",
        "terrain/sand": "sand",
        "terrain/dirt": "dirt-merged",
        "table": "dining table",
        "table/low": "table-merged",
        "traffic_sign": UNLABELED,
        "traffic_sign/stop": "stop sign",
        "armchair": "chair",
        "lamp": "light",
        "chandelier": "light",
        "bookshelf": "shelf",
        "chest_of_drawers": "cabinet-merged",
        "nightstand": "cabinet-merged",
        "wardrobe": "cabinet-merged",
        "bicyclist": "person",
        "motorcyclist": "person",
    },
    "cityscapes-19": {**_ROAD_OBJECTS},
    "sunrgbd-37": {
        "lamp": "lamp",
        "chandelier": "lamp",
        "armchair": "sofa",
        "wardrobe": "cabinet",
        "blanket": "bed",
    },
    "camvid-11": {
        "road/marking": "LaneMkgsDriv",
        "terrain": "VegetationMisc",
        "vegetation/bush": "VegetationMisc",
        "car/van": "SUVPickupTruck",
        "truck": "Truck_Bus",
        "bus": "Truck_Bus",
        "train": "Train",
        "traffic_light": "TrafficLight",
        "wall": "Wall",
        "motorcycle": "MotorcycleScooter",
        "motorcyclist": "MotorcycleScooter",
        "streetlight": "Column_Pole",
        "awning": "Building",
    },
    "voc2012": {},
    "kitti-19": {**_ROAD_OBJECTS},
}
_ELSE = {
    "ade20k-150": UNLABELED,
    "coco-panoptic-133": UNLABELED,
    "cityscapes-19": "unlabeled",
    "sunrgbd-37": UNLABELED,
    "camvid-11": "Void",
    "voc2012": "background",
    "kitti-19": "unlabeled",
}
DATASETS = tuple(_ELSE)


def check_dataset(name: str) -> str:
    """`name`, if the world can draw it.

    Raises:
        UsageError: it cannot.
    """
    if name not in _ELSE:
        raise UsageError(f"the embedded world does not draw {name!r}; {did_you_mean(name, DATASETS)}")
    return name


def class_of(dataset: str, concept: str) -> str | None:
    """The class name the dataset's annotators give a concept; None: they leave it unlabelled."""
    universal = concept.partition("/")[0]
    for name in (concept, universal):
        if name in _CHOICES[dataset]:
            return _CHOICES[dataset][name]
    return _natural(dataset).get(universal, _ELSE[dataset])


def release_id(dataset: str, concept: str) -> int:
    """The id of a concept in the dataset's label files; unlabelled is 0 in all of them."""
    name = class_of(dataset, concept)
    return 0 if name is None else _release_ids(dataset)[name]


def concept_universal(concept: str) -> int | None:
    """Universal id of a concept, None for what has none.

    Raises:
        DataError: the concept names no universal class (a defect of the scene that painted it).
    """
    if concept in (VOID, "ego"):
        return None
    return universal_ids([concept.partition("/")[0]], at="world")[0]


@functools.cache
def _natural(dataset: str) -> dict[str, str]:
    """Universal class -> the dataset's class, by the tables."""
    native = load_taxonomy(dataset)
    universal = load_taxonomy("universal").classes
    if native.to_universal is not None:
        pairs = [(u, i) for i, u in enumerate(native.to_universal) if u < len(universal)]
    else:
        pairs = list(native.from_universal or ())
    return {universal[u]: native.classes[i] for u, i in pairs}


@functools.cache
def _release_ids(dataset: str) -> dict[str, int]:
    native = load_taxonomy(dataset)
    table = release_remap(dataset).table
    ids = {name: int(np.flatnonzero(table == i)[0]) for i, name in enumerate(native.classes)}
    return ids | {name: i for i, (name, _) in enumerate(release_classes(dataset))}
