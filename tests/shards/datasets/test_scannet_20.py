"""ScanNet 25k: scenes of the benchmark's lists, NYU40 ids, 20 classes in alphabetical order."""

import numpy as np
from PIL import Image

from segstream.shards.datasets.layout import split_list
from segstream.shards.taxonomy import load_taxonomy
from tests.shards.datasets.reading import VOID, found, natives, noise, write
from tests.shards.shared import SAMPLES, SHARED, needs_mseg

NAME = "scannet-20"


def release(root, frames, label):
    for frame in frames:
        scene, number = frame.split("/")
        write(root / f"scannet_frames_25k/{scene}/color/{number}.jpg", noise(label.shape))
        write(root / f"scannet_frames_25k/{scene}/label/{number}.png", label)
    return root


def test_frames_are_named_by_scene_and_number(tmp_path):
    label = np.zeros((8, 8))
    release(
        tmp_path, ["scene0191_00/000800", "scene0191_01/000800", "scene0568_00/001500", "scene0707_00/000500"], label
    )
    train, val = found(NAME, tmp_path, "train"), found(NAME, tmp_path, "val")
    at = "scannet_frames_25k/scene0191_01"
    assert [p.key for p in train.pairs] == ["scene0191_00/000800", "scene0191_01/000800"]
    assert (train.pairs[1].image, train.pairs[1].label) == (f"{at}/color/000800.jpg", f"{at}/label/000800.png")
    assert [p.key for p in val.pairs] == ["scene0568_00/001500"]
    assert train.absent[0] == "scannet_frames_25k/scene0191_02/color"
    assert (len(train.absent), len(val.absent)) == (1199, 311)


def test_a_label_without_its_frame_is_told(tmp_path):
    release(tmp_path, ["scene0191_00/000800", "scene0191_00/000900"], np.zeros((8, 8)))
    (tmp_path / "scannet_frames_25k/scene0191_00/color/000900.jpg").unlink()
    assert found(NAME, tmp_path, "train").orphans == ("scannet_frames_25k/scene0191_00/label/000900.png",)


def test_classes_by_known_ids(tmp_path):
    """NYU40's numbering, as the benchmark publishes it; all but 20 of 41 values are ignored."""
    known = {1: "wall", 2: "floor", 3: "cabinet", 4: "bed", 5: "chair", 6: "sofa", 7: "table", 8: "door", 9: "window"}
    known |= {10: "bookshelf", 11: "picture", 12: "counter", 14: "desk", 16: "curtain", 24: "refridgerator"}
    known |= {28: "shower curtain", 33: "toilet", 34: "sink", 36: "bathtub", 39: "otherfurniture"}
    release(tmp_path, ["scene0191_00/000000"], np.arange(41)[None])
    (native,) = natives(NAME, tmp_path, "train").values()
    classes = load_taxonomy(NAME).classes
    assert native[0].tolist() == [classes.index(known[i]) if i in known else VOID for i in range(41)]
    assert list(classes) == sorted(classes)
    assert (native == VOID).sum() == 21


def test_labels_of_16_bits_are_read_alike(tmp_path):
    release(tmp_path, ["scene0191_00/000000"], np.zeros((2, 2)))
    label = Image.fromarray(np.array([[1, 40], [0, 36]], np.uint16))
    label.save(tmp_path / "scannet_frames_25k/scene0191_00/label/000000.png")
    (native,) = natives(NAME, tmp_path, "train").values()
    assert native.tolist() == [[18, VOID], [VOID, 0]]


@needs_mseg
def test_scenes_are_the_official_ones_and_the_first_and_last_frames_those_of_mseg():
    folder = SAMPLES / "ScanNet_data_splits"
    for split, count in (("train", 1201), ("val", 312)):
        official = (folder / f"scannetv2_{split}.txt").read_text().split()
        assert list(split_list(NAME, split)) == official
        assert len(set(official)) == count
    assert "scannet-20,train,19466,19466,scene0191_00/" in (SHARED / "mseg/splits/list_files.csv").read_text()
    assert not {*split_list(NAME, "train")} & {*split_list(NAME, "val")}
