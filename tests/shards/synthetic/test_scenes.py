"""What is on the pictures: enough classes, all of them named truthfully."""

from collections import Counter
from random import Random

import numpy as np
import pytest

from segstream.shards.synthetic import DEMO
from segstream.shards.synthetic.canvas import VOID, Canvas
from segstream.shards.synthetic.domains import DOMAINS
from segstream.shards.synthetic.draw import draw_scene
from segstream.shards.synthetic.label_ids import class_of
from segstream.shards.synthetic.textures import Material
from segstream.shards.taxonomy import load_taxonomy
from tests.shards.synthetic.truth import tiny

TRAIN = ("ade20k-150", "coco-panoptic-133", "cityscapes-19", "sunrgbd-37")
ROAD = ("bdd", "idd-39", "mapillary-public65", "cityscapes-34")
UNIVERSAL = load_taxonomy("universal").classes


def classes(dataset: str, split: str, count: int) -> Counter[str]:
    """Pixels by the dataset's own class names."""
    pixels: Counter[str] = Counter()
    for i in range(count):
        scene, _ = draw_scene(dataset, split, i, seed=1)
        for concept, area in zip(
            scene.concepts, np.bincount(scene.segments.ravel(), minlength=len(scene.concepts)), strict=True
        ):
            if area:
                pixels[str(class_of(dataset, concept))] += int(area)
    return pixels


def test_seventy_universal_classes_are_taught_by_sixteen_images_each() -> None:
    taught: set[int] = set()
    for dataset in TRAIN:
        native = load_taxonomy(dataset)
        assert native.to_universal is not None
        seen = classes(dataset, "train", 16)
        taught |= {native.to_universal[i] for i, name in enumerate(native.classes) if seen[name] > 20}
    assert len(taught - {255}) >= 70


@pytest.mark.parametrize(
    ("dataset", "count"), [("voc2012", 60), ("camvid-11", 25), ("kitti-19", 25), ("wilddash-19", 30)]
)
def test_every_held_out_class_occurs_in_a_small_val_split(dataset: str, count: int) -> None:
    seen = classes(dataset, "val", count)
    assert not [name for name in load_taxonomy(dataset).classes if not seen[name]]


def test_what_a_training_label_says_is_what_was_painted() -> None:
    """A dataset's class for a concept means, in the universal taxonomy, that concept or nothing at all."""
    lacking = {  # classes that the release itself does not tell apart
        "cityscapes-19": "motorcyclist streetlight awning", "cityscapes-34": "motorcyclist streetlight awning",
        "coco-panoptic-133": "armchair lamp bookshelf chest_of_drawers nightstand wardrobe",
        "sunrgbd-37": "lamp armchair wardrobe blanket", "bdd": "bicyclist motorcyclist streetlight awning",
        "idd-39": "bicyclist streetlight awning", "mapillary-public65": "awning",
    }  # fmt: skip
    wrong = set()
    for dataset in (*TRAIN, *ROAD):
        native = load_taxonomy(dataset)
        assert native.to_universal is not None
        for i in range(12):
            with tiny():
                scene, _ = draw_scene(dataset, "train", i, seed=2)
            for concept in set(scene.concepts):
                painted = None if concept in (VOID, "ego") else UNIVERSAL.index(concept.partition("/")[0])
                name = class_of(dataset, concept)
                if painted is not None and name in native.classes:
                    taught = native.to_universal[native.classes.index(name)]
                    if taught not in (painted, 255):
                        wrong.add((dataset, UNIVERSAL[painted]))
    assert wrong <= {(dataset, name) for dataset, known in lacking.items() for name in known.split()}


def test_other_releases_of_a_dataset_show_the_same_pictures() -> None:
    with tiny():
        for one, other in (("cityscapes-34", "cityscapes-19"), ("idd-19", "idd-39"), ("bdd100k-19", "bdd")):
            assert np.array_equal(draw_scene(one, "val", 1, 3)[0].image, draw_scene(other, "val", 1, 3)[0].image)


def test_datasets_are_domains_of_their_own() -> None:
    means = {}
    for dataset in DEMO:
        photos = []
        for i in range(6):
            scene, rng = draw_scene(dataset, "train", i, seed=3)
            photos.append(DOMAINS[dataset].photograph(scene.image, rng).reshape(-1, 3).mean(0))
        means[dataset] = np.mean(photos, axis=0)
    warmth = {dataset: mean[0] - mean[2] for dataset, mean in means.items()}
    assert warmth["sunrgbd-37"] > warmth["coco-panoptic-133"] + 15
    assert means["kitti-19"].mean() > means["cityscapes-19"].mean()


def test_a_scene_has_layout_and_texture() -> None:
    scene, _ = draw_scene("cityscapes-19", "train", 0, seed=1)
    names = np.array([concept.partition("/")[0] for concept in scene.concepts])[scene.segments]
    rows = {name: np.nonzero(names == name)[0].mean() for name in ("sky", "building", "road")}
    assert rows["sky"] < rows["building"] < rows["road"]
    assert VOID not in names
    road = scene.image[names == "road"].astype(float)
    assert road.std(0).min() > 2


def test_later_shapes_cover_earlier_ones() -> None:
    canvas = Canvas(20, 10, Random(1))
    for concept, x0, x1, colour in (("car", 0, 12, (200, 0, 0)), ("bus", 8, 20, (0, 0, 200))):
        canvas.begin(concept)
        canvas.poly([(x0, 0), (x1, 0), (x1, 10), (x0, 10)], Material(colour, (0, 0, 0)))
    scene = canvas.finish()
    assert scene.image.shape == (10, 20, 3)
    assert [scene.concepts[k] for k in scene.segments[5, [2, 10, 18]]] == ["car", "bus", "bus"]
    assert scene.image[5, [2, 10]].tolist() == [[200, 0, 0], [0, 0, 200]]
