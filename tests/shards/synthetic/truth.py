"""What a converted label of the world must hold, told from the scene by class names, whatever the files look like."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from unittest.mock import patch

import numpy as np
from scipy import ndimage

from segstream.shards.synthetic.canvas import Scene
from segstream.shards.synthetic.domains import DOMAINS
from segstream.shards.synthetic.draw import draw_scene
from segstream.shards.synthetic.label_ids import class_of
from segstream.shards.synthetic.layouts import LAYOUTS, path_fields, stems
from segstream.shards.taxonomy import native_taxonomy

VOID = 255
GTA5_HW = (1052, 1914)  # to which the release's odd ones are brought
RENAMED = {  # words of other releases -> Cityscapes' class
    "shift-19": {"pedestrian": "person", "vehicle": "car", "road line": "road"},
    "idd-19": {"non-drivable fallback": "terrain"},
    "wilddash2-19": {"roadmarking": "road", "van": "car", "bicyclist": "rider", "motorcyclist": "rider"},
    "mapillary-19": {
        "Lane Marking - General": "road",
        "Traffic Sign (Front)": "traffic sign",
        "Traffic Sign Frame": "traffic sign",
        "Utility Pole": "pole",
        "On Rails": "train",
        "Bicyclist": "rider",
        "Motorcyclist": "rider",
    },
}


@contextmanager
def tiny(width: int = 65, height: int = 47) -> Iterator[None]:
    """Within, the world's pictures are small; draw with one worker. Odd sizes leave nearest neighbours no ties."""
    with patch.dict(DOMAINS, {name: replace(domain, sizes=((width, height),)) for name, domain in DOMAINS.items()}):
        yield


def image_path(dataset: str, split: str, index: int) -> str:
    """Where picture number `index` of a split lies below the raw root."""
    layout = LAYOUTS[dataset]
    return layout.image.format(**path_fields(layout.folders[split], stems(dataset, split, index + 1)[index]))


def expected_pixels(dataset: str, split: str, index: int, seed: int) -> np.ndarray:
    """(H, W) native ids that conversion must give picture number `index`; 255 where no class is."""
    scene, _ = draw_scene(dataset, split, index, seed)
    ids = by_name(dataset, scene)
    if dataset == "voc2012":
        objects = np.where(ids > 0, np.asarray(scene.objects)[scene.segments], 0)
        ids[ndimage.maximum_filter(objects, 3) != ndimage.minimum_filter(objects, 3)] = VOID
    if dataset == "gta5-19":
        rows, columns = (((np.arange(n) + 0.5) * m / n).astype(int) for n, m in zip(GTA5_HW, ids.shape, strict=True))
        ids = ids[rows[:, None], columns]
    return ids


def by_name(dataset: str, scene: Scene) -> np.ndarray:
    """(H, W) native ids of a scene."""
    native = [name.lower() for name in native_taxonomy(dataset).classes]
    renamed = RENAMED.get(dataset, {})
    said = [class_of(dataset, concept) for concept in scene.concepts]
    plain = [renamed.get(name, name or "").lower() for name in said]
    ids = np.array([native.index(name) if name in native else VOID for name in plain])
    return ids[scene.segments]
