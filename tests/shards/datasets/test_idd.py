"""IDD: polygons drawn anew here with Pillow and numpy, in MSeg's 39 classes and in Cityscapes' 19."""

import json

import numpy as np
import pytest

from segstream.shards.taxonomy import load_taxonomy, release_classes, release_remap
from tests.shards.datasets.reading import VOID, found, natives, noise, write

LABELS = (  # AutoNUE's names, by `id`
    "road", "parking", "drivable fallback", "sidewalk", "rail track", "non-drivable fallback", "person", "animal",
    "rider", "motorcycle", "bicycle", "autorickshaw", "car", "truck", "bus", "caravan", "trailer", "train",
    "vehicle fallback", "curb", "wall", "fence", "guard rail", "billboard", "traffic sign", "traffic light", "pole",
    "polegroup", "obs-str-bar-fallback", "building", "bridge", "tunnel", "vegetation", "sky", "fallback background",
    "unlabeled", "ego vehicle", "rectification border", "out of roi", "license plate",
)  # fmt: skip
DATASETS = ("idd-39", "idd-19")


def box(x0, y0, x1, y1):
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]


def annotate(raw, objects, *, split="train", place="0/024793", size_hw=(48, 64), root="", end="png"):
    height, width = size_hw
    write(raw / f"{root}leftImg8bit/{split}/{place}_leftImg8bit.{end}", noise(size_hw))
    path = raw / f"{root}gtFine/{split}/{place}_gtFine_polygons.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"imgHeight": height, "imgWidth": width, "objects": objects}))
    return path


def thing(label, polygon, number=0, deleted=0):
    more = {"date": "08-Feb-2019", "draw": True, "user": "cvit", "verified": 0}
    return {"id": number, "label": label, "polygon": polygon, "deleted": deleted, **more}


@pytest.mark.parametrize("name", DATASETS)
def test_every_label_has_the_id_of_the_release(tmp_path, name):
    """Each on a 4 x 4 square of its own, the rest unlabelled."""
    objects, ids = [], np.full((48, 64), LABELS.index("unlabeled"))
    for n, label in enumerate(LABELS):
        y, x = 6 * (n // 10), 6 * (n % 10)
        objects.append(thing(label, box(x, y, x + 3, y + 3), number=40 - n))
        ids[y : y + 4, x : x + 4] = n
    annotate(tmp_path, objects)
    (label,) = natives(name, tmp_path, "train").values()
    assert np.array_equal(label, release_remap(name).table[ids])
    assert [n for n, _ in release_classes(name)] == list(LABELS)


def test_the_same_frame_in_both_class_lists(tmp_path):
    annotate(tmp_path, [thing("non-drivable fallback", box(0, 0, 9, 9)), thing("curb", box(20, 20, 29, 29))])
    (mseg,) = natives("idd-39", tmp_path, "train").values()
    (train_ids,) = natives("idd-19", tmp_path, "train").values()
    assert load_taxonomy("idd-39").classes[mseg[5, 5]] == "non-drivable fallback"
    assert load_taxonomy("cityscapes-19").classes[train_ids[5, 5]] == "terrain"
    assert (train_ids[25, 25], mseg[25, 25], mseg[40, 40], train_ids[40, 40]) == (VOID, 19, VOID, VOID)


@pytest.mark.parametrize("name", DATASETS)
def test_splits_and_keys(tmp_path, name):
    annotate(tmp_path, [], place="0/005506")
    annotate(tmp_path, [], place="117/005506")
    annotate(tmp_path, [], split="val", place="5/1")
    annotate(tmp_path, [], split="test", place="9/1")
    (tmp_path / "gtFine/train/0/005506_gtFine_labelids.png").touch()  # what upstream's tools leave there
    assert [(p.key, p.image, p.label) for p in found(name, tmp_path, "train").pairs] == [
        (
            f"{sequence}/005506_leftImg8bit",
            f"leftImg8bit/train/{sequence}/005506_leftImg8bit.png",
            f"gtFine/train/{sequence}/005506_gtFine_polygons.json",
        )
        for sequence in (0, 117)
    ]
    assert [p.key for p in found(name, tmp_path, "val").pairs] == ["5/1_leftImg8bit"]


@pytest.mark.parametrize("name", DATASETS)
def test_labels_without_an_image(tmp_path, name):
    annotate(tmp_path, []).with_name("1_gtFine_polygons.json").touch()
    result = found(name, tmp_path, "train")
    assert len(result.pairs) == 1
    assert result.orphans == ("gtFine/train/0/1_gtFine_polygons.json",)


@pytest.mark.parametrize("unpacked", [True, False])
def test_both_parts_as_they_are_unpacked_or_put_together(tmp_path, unpacked):
    """Part II has JPEGs and, here and there, objects without vertices."""
    car, (one, two) = thing("car", box(0, 0, 63, 47)), ("IDD_Segmentation/", "idd20kII/") if unpacked else ("", "")
    annotate(tmp_path, [car], root=one, place="0/005506")
    annotate(tmp_path, [car, thing("pole", [], 4)], root=two, place="283/frame2890", end="jpg")
    result = found("idd-19", tmp_path, "train")
    assert sorted(p.image for p in result.pairs) == sorted(
        [f"{one}leftImg8bit/train/0/005506_leftImg8bit.png", f"{two}leftImg8bit/train/283/frame2890_leftImg8bit.jpg"]
    )
    assert result.orphans == ()
    labels = natives("idd-19", tmp_path, "train")
    assert sorted(labels) == ["0/005506_leftImg8bit", "283/frame2890_leftImg8bit"]
    assert all((label == 13).all() for label in labels.values())
