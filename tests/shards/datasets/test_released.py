"""Each release's own layout and coding, read by code that shares nothing with ours."""

import numpy as np
import pytest
from PIL import Image

from segstream.shards.datasets.layout import split_list
from segstream.shards.datasets.registry import registry
from segstream.shards.errors import DataError, UnreadableError
from segstream.shards.taxonomy import load_taxonomy
from tests.shards import trees
from tests.shards.datasets.reading import VOID, dataset, found, natives


def listed(name, split, count):
    return list(split_list(name, split)[:count])


CITIES = [f"{c}/{c}_000000_000019_leftImg8bit" for c in ("aachen", "ulm")]
SUN = load_taxonomy("sunrgbd-37").classes
VOC = load_taxonomy("voc2012").classes
CODES = {  # tree, split, its keys, released id or colour code -> class; the rest is void
    "ade20k-150": (
        trees.ade20k, "train", [f"ADE_train_{n:08d}" for n in range(1, 6)],
        {1: "wall", 2: "building", 3: "sky", 78: "bar", 150: "flag"},  # of ADE20K's challenge order
    ),
    "cityscapes-19": (  # as in Cityscapes' own labels.py
        trees.cityscapes, "train", CITIES, {7: "road", 8: "sidewalk", 11: "building", 24: "person", 33: "bicycle"},
    ),
    "sunrgbd-37": (  # not every image of the folder `test`
        trees.sunrgbd, "val", listed("sunrgbd-37", "val", 2), {1: SUN[0], 5: SUN[4], 37: SUN[36]},
    ),
    "coco-panoptic-133": (
        trees.coco, "train", ["000000000009"], {8922372: "person", 70000: "rug-merged", 5: "banner"},
    ),
    "voc2012": (trees.voc, "val", listed("voc2012", "val", 3), {i: VOC[i] for i in (0, 1, 15, 20)}),  # in a palette
    "kitti-19": (trees.kitti, "val", listed("kitti-19", "val", 3), {7: "road", 26: "car", 33: "bicycle"}),
    "camvid-11": (  # without Animal
        trees.camvid, "test", listed("camvid-11", "test", 2), {128: "Building", 0x808080: "Sky", 0xC08000: "Bicyclist"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CODES)
def test_labels_are_those_of_the_release(tmp_path, name):
    tree, split, keys, known = CODES[name]
    raw, classes = tree(tmp_path), load_taxonomy(name).classes
    pairs, seen = {p.key: p for p in found(name, raw, split).pairs}, set()
    for key, label in natives(name, raw, split).items():
        codes = np.asarray(Image.open(raw / pairs[key].label)).astype(int)
        codes = codes @ [1, 256, 65536] if codes.ndim == 3 else codes
        assert np.array_equal(label, np.vectorize(lambda c: classes.index(known[c]) if c in known else VOID)(codes))
        seen |= set(np.unique(codes))
    assert sorted(pairs) == sorted(keys)
    assert known.keys() < seen


def test_images_of_the_list_that_are_absent_are_counted(tmp_path):
    raw = trees.sunrgbd(tmp_path)
    assert len(found("sunrgbd-37", raw, "val").absent) == 473
    assert [p.label for p in found("sunrgbd-37", raw, "train").pairs] == [
        f"label38/train/0000000{n}.png" for n in (1, 2)
    ]


def test_coco_image_without_an_entry_is_an_error_and_the_reverse_is_absent(tmp_path):
    raw = trees.coco(tmp_path)
    (raw / "images/train2017/000000000009.jpg").rename(raw / "images/train2017/000000000010.jpg")
    result = found("coco-panoptic-133", raw, "train")
    assert result.absent == ("images/train2017/000000000009.jpg",)
    with pytest.raises(UnreadableError, match="no entry"):
        dataset("coco-panoptic-133").read_label(b"", result.pairs[0])


def test_a_colour_of_no_class_is_an_error_not_class_0(tmp_path):
    raw = trees.camvid(tmp_path, count=1)
    pair = found("camvid-11", raw, "val").pairs[0]
    trees.save(raw / pair.label, np.full((24, 32, 3), (1, 2, 3), np.uint8))
    with pytest.raises(UnreadableError, match=r"768 pixels of colours no class has, the first \(1, 2, 3\)"):
        natives("camvid-11", raw, "val")


@pytest.mark.parametrize("name", registry())
@pytest.mark.parametrize("exists", [True, False])
def test_a_missing_folder_is_named(tmp_path, name, exists):
    raw = tmp_path if exists else tmp_path / "nowhere"
    with pytest.raises(DataError, match=rf"^{raw}.*: no such folder; --raw must name"):
        found(name, raw, next(iter(registry()[name].splits)))


def test_labels_without_an_image_are_reported(tmp_path):
    raw = trees.ade20k(tmp_path)
    (raw / "images/training/ADE_train_00000002.jpg").unlink()
    result = found("ade20k-150", raw, "train")
    assert len(result.pairs) == 4
    assert result.orphans == ("annotations/training/ADE_train_00000002.png",)
