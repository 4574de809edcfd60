"""What each dataset calls what was drawn: concept -> id in the released label files.

A concept is a universal class, or `universal/variant` where some dataset tells kinds of it apart. Names come from
the class tables wherever these are unambiguous; below stands only what the tables cannot say.
"""

from __future__ import annotations

import functools

from segstream.shards.synthetic.canvas import VOID
from segstream.shards.taxonomy import load_taxonomy, native_taxonomy, release_classes, release_remap, universal_ids

UNLABELED = None  # the dataset's own "no class"

_VOCABULARIES = {  # datasets whose annotators used another one's words, and its ids
    "cityscapes-34": "cityscapes-19",
    "wilddash-19": "kitti-19",
    "gta5-19": "cityscapes-19",
    "mapillary-19": "mapillary-public65",
    "bdd100k-19": "bdd",
    "idd-19": "idd-39",
}
_STREET: dict[str, str | None] = {
    "streetlight": "pole",
    "bicyclist": "rider",
    "motorcyclist": "rider",
    "awning": "building",
}
_ROAD_OBJECTS: dict[str, str | None] = {
    **_STREET,
    "bench": "static",
    "trash_can": "static",
    "billboard": "static",
    "guard_rail": "guard rail",
    "railroad": "rail track",
    "animal_other": "dynamic",
    "ego": "ego vehicle",
}
_NYU40 = {"pillow": 18, "mirror": 19, "ceiling": 22, "book": 23, "television": 25, "person": 31, "lamp": 35, "bag": 37}
"""ScanNet's ids of what its benchmark does not count."""
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
    "cityscapes-19": _ROAD_OBJECTS,
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
    "kitti-19": _ROAD_OBJECTS,
    "bdd": _STREET,
    "idd-39": {
        **_STREET,
        "road": "road",
        "sidewalk_pavement": "sidewalk",
        "car": "car",
        "pole": "pole",
        "streetlight": "polegroup",
        "terrain": "non-drivable fallback",
        "mountain_hill": "fallback background",
        "animal_other": "animal",
        "ego": "ego vehicle",
    },
    "mapillary-public65": {
        "road": "Road",
        "road/marking": "Lane Marking - General",
        "sidewalk_pavement": "Sidewalk",
        "terrain": "Terrain",
        "building": "Building",
        "awning": "Building",
        "pole": "Utility Pole",
        "traffic_sign": "Traffic Sign (Front)",
        "traffic_sign/stop": "Traffic Sign Frame",
        "car": "Car",
        "sea": "Water",
        "animal_other": "Ground Animal",
        "ego": "Ego Vehicle",
    },
    "pascal-context-60": {"vegetation/flower": "flower", "floor/wood": "wood", "awning": "building"},
    "scannet-20": {name: name for name in _NYU40},
    "shift-19": {
        **_STREET,
        "road/marking": "road line",
        "truck": "vehicle",
        "bus": "vehicle",
        "train": "vehicle",
        "motorcycle": "vehicle",
        "bicyclist": "pedestrian",
        "motorcyclist": "vehicle",
        "bicycle": "dynamic",
        "railroad": "rail track",
    },
    "wilddash2-19": {
        "road/marking": "roadmarking",
        "streetlight": "streetlight",
        "bicyclist": "bicyclist",
        "motorcyclist": "motorcyclist",
        "car/van": "van",
        "traffic_sign/stop": "trafficsignany",
        "mountain_hill": "mountain",
        "billboard": "billboard",
        "awning": "building",
        "animal_other": "groundanimal",
        "ego": "egovehicle",
    },
}
_ELSE = {
    "ade20k-150": UNLABELED,
    "coco-panoptic-133": UNLABELED,
    "cityscapes-19": "unlabeled",
    "sunrgbd-37": UNLABELED,
    "camvid-11": "Void",
    "voc2012": "background",
    "kitti-19": "unlabeled",
    "bdd": UNLABELED,
    "idd-39": UNLABELED,
    "mapillary-public65": "Unlabeled",
    "pascal-context-60": "background",
    "scannet-20": UNLABELED,
    "shift-19": "unlabeled",
    "wilddash2-19": UNLABELED,
}
_UNLABELED_IDS = {"bdd": 255, "idd-39": 35}  # 0 in all others


def vocabulary(dataset: str) -> str:
    """The dataset whose words and ids the annotators of `dataset` used."""
    return _VOCABULARIES.get(dataset, dataset)


def class_of(dataset: str, concept: str) -> str | None:
    """The class name the dataset's annotators give a concept; None: they leave it unlabelled."""
    words, universal = vocabulary(dataset), concept.partition("/")[0]
    for name in (concept, universal):
        if name in _CHOICES[words]:
            return _CHOICES[words][name]
    return _natural(words).get(universal, _ELSE[words])


def release_id(dataset: str, concept: str) -> int:
    """The id of a concept in the dataset's label files."""
    words, name = vocabulary(dataset), class_of(dataset, concept)
    if name is None:
        return _UNLABELED_IDS.get(words, 0)
    return _release_ids(words)[name]


def release_name(dataset: str, code: int) -> str:
    """The release's own word for an id in its label files."""
    return next(name for name, i in _release_ids(vocabulary(dataset)).items() if i == code)


def concept_universal(concept: str) -> int | None:
    """Universal id of a concept, None for what has none.

    Raises:
        DataError: the concept names no universal class (a defect of the scene that drew it).
    """
    if concept in (VOID, "ego"):
        return None
    return universal_ids([concept.partition("/")[0]], at="world")[0]


@functools.cache
def _natural(dataset: str) -> dict[str, str]:
    """Universal class -> the dataset's class, by the tables."""
    native = native_taxonomy(dataset)
    universal = load_taxonomy("universal").classes
    if native.to_universal is not None:
        pairs = [(u, i) for i, u in enumerate(native.to_universal) if u < len(universal)]
    else:
        pairs = list(native.from_universal or ())
    return {universal[u]: native.classes[i] for u, i in pairs}


@functools.cache
def _release_ids(dataset: str) -> dict[str, int]:
    native = native_taxonomy(dataset)
    table = release_remap(dataset).table.tolist()
    ids = {name: table.index(i) for i, name in enumerate(native.classes) if i in table}
    ids |= {name: i for i, (name, _) in enumerate(release_classes(dataset))}
    return ids | _NYU40 if dataset == "scannet-20" else ids
