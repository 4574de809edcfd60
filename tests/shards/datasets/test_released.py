"""Each release's own layout and coding, read by code that shares nothing with ours."""

import json

import numpy as np
import pytest
from PIL import Image

from segstream.shards.datasets.layout import split_list
from segstream.shards.datasets.registry import dataset, registry
from segstream.shards.datasets.release import Release
from segstream.shards.errors import DataError, UnreadableError
from segstream.shards.taxonomy import load_taxonomy, remap_label
from tests.shards import trees

IGNORED = 255


def found(name, raw, split):
    return dataset(name).find(Release(raw), split)


def natives(name, raw, split):
    """Key -> native label, through our source."""
    source = dataset(name)
    labels = {}
    for pair in source.find(Release(raw), split).pairs:
        ids = source.read_label((raw / pair.label).read_bytes(), pair)
        labels[pair.key] = remap_label(ids, source.remap, where=pair.key)
    return labels


def by_name(taxonomy, release_names):
    """Release id -> native id by class name alone, 255 where the class list lacks the name."""
    ids = {c: i for i, c in enumerate(load_taxonomy(taxonomy).classes)}
    return np.array([ids.get(name, IGNORED) for name in release_names])


def test_ade20k(tmp_path):
    raw = trees.ade20k(tmp_path)
    pairs = found("ade20k-150", raw, "val").pairs
    assert [p.key for p in pairs] == ["ADE_val_00000001", "ADE_val_00000002"]
    known = {0: 255, 1: "wall", 2: "building", 3: "sky", 78: "bar", 150: "flag"}  # of ADE20K's challenge order
    classes = load_taxonomy("ade20k-150").classes
    for key, label in natives("ade20k-150", raw, "train").items():
        released = np.asarray(Image.open(raw / f"annotations/training/{key}.png"))
        expected = np.vectorize(lambda i: IGNORED if i == 0 else classes.index(known[i]))(released)
        assert np.array_equal(label, expected)


def test_cityscapes(tmp_path):
    raw = trees.cityscapes(tmp_path)
    labels = natives("cityscapes-19", raw, "train")
    assert sorted(labels) == [f"{c}/{c}_000000_000019_leftImg8bit" for c in ("aachen", "ulm")]
    train_ids = {0: 255, 3: 255, 7: 0, 8: 1, 11: 2, 24: 11, 33: 18}  # Cityscapes' own labels.py
    for key, label in labels.items():
        path = f"gtFine/train/{key.removesuffix('_leftImg8bit')}_gtFine_labelIds.png"
        assert np.array_equal(label, np.vectorize(train_ids.get)(np.asarray(Image.open(raw / path))))


def test_sunrgbd(tmp_path):
    raw = trees.sunrgbd(tmp_path)
    assert [p.label for p in found("sunrgbd-37", raw, "train").pairs] == [
        "label38/train/00000001.png",
        "label38/train/00000002.png",
    ]
    val = found("sunrgbd-37", raw, "val")
    assert [p.key for p in val.pairs] == list(split_list("sunrgbd-37", "val")[:2])  # not every image of folder `test`
    assert len(val.absent) == 473
    for key, label in natives("sunrgbd-37", raw, "val").items():
        released = np.asarray(Image.open(raw / f"label38/test/{int(key[4:]):08d}.png")).astype(int)
        assert np.array_equal(label, np.where(released == 0, IGNORED, released - 1))


def test_coco(tmp_path):
    raw = trees.coco(tmp_path)
    (key, label), *rest = natives("coco-panoptic-133", raw, "train").items()
    assert (key, rest) == ("000000000009", [])
    rgb = np.asarray(Image.open(raw / "annotations/panoptic_train2017/000000000009.png")).astype(np.int64)
    code = rgb @ [1, 256, 65536]
    classes = load_taxonomy("coco-panoptic-133").classes
    expected = np.full(code.shape, IGNORED)
    for segment, name in ((8922372, "person"), (70000, "rug-merged"), (5, "banner")):
        expected[code == segment] = classes.index(name)
    assert np.array_equal(label, expected)
    assert len(np.unique(expected)) == 4


def test_coco_segment_without_an_entry_is_an_error(tmp_path):
    raw = trees.coco(tmp_path)
    path = raw / "annotations/panoptic_train2017.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["segments_info"] = content["annotations"][0]["segments_info"][:2]
    path.write_text(json.dumps(content))
    with pytest.raises(UnreadableError, match=r"segments \[5\], which the panoptic JSON lacks"):
        natives("coco-panoptic-133", raw, "train")


def test_coco_image_without_an_entry_is_an_error_and_the_reverse_is_absent(tmp_path):
    raw = trees.coco(tmp_path)
    (raw / "images/train2017/000000000009.jpg").rename(raw / "images/train2017/000000000010.jpg")
    result = found("coco-panoptic-133", raw, "train")
    assert result.absent == ("images/train2017/000000000009.jpg",)
    with pytest.raises(UnreadableError, match="no entry"):
        dataset("coco-panoptic-133").read_label(b"", result.pairs[0])


@pytest.mark.parametrize("content", ["{", '{"annotations": [{}]}', "[]"])
def test_coco_json_that_is_none(tmp_path, content):
    raw = trees.coco(tmp_path)
    (raw / "annotations/panoptic_val2017.json").write_text(content)
    with pytest.raises(DataError, match=r"panoptic_val2017\.json: not COCO panoptic annotations"):
        found("coco-panoptic-133", raw, "val")
    (raw / "annotations/panoptic_val2017.json").unlink()
    with pytest.raises(DataError, match=r"panoptic_val2017\.json: cannot be read"):
        found("coco-panoptic-133", raw, "val")


def test_voc_labels_are_palette_indices(tmp_path):
    raw = trees.voc(tmp_path)
    labels = natives("voc2012", raw, "val")
    assert sorted(labels) == sorted(split_list("voc2012", "val")[:3])
    for key, label in labels.items():
        image = Image.open(raw / f"SegmentationClassAug/{key}.png")
        assert image.mode == "P"
        assert np.array_equal(label, np.asarray(image))
    assert {0, 1, 15, 20, 255} == set(np.unique(np.stack(list(labels.values()))))


def test_kitti(tmp_path):
    raw = trees.kitti(tmp_path)
    assert [p.key for p in found("kitti-19", raw, "train").pairs] == list(split_list("kitti-19", "train")[:3])
    train_ids = {0: 255, 7: 0, 26: 13, 33: 18}
    for key, label in natives("kitti-19", raw, "val").items():
        released = np.asarray(Image.open(raw / f"training/semantic/{key}.png"))
        assert np.array_equal(label, np.vectorize(train_ids.get)(released))


def test_camvid_colours(tmp_path):
    raw = trees.camvid(tmp_path)
    classes = load_taxonomy("camvid-11").classes
    for split in ("train", "val", "test"):
        labels = natives("camvid-11", raw, split)
        assert len(labels) == 2
        for key, label in labels.items():
            rgb = np.asarray(Image.open(raw / f"Labels32-RGB/{key}_L.png"))
            expected = np.full(rgb.shape[:2], IGNORED)
            for name, colour in trees.CAMVID_COLOURS.items():
                if name in classes:
                    expected[(rgb == colour).all(-1)] = classes.index(name)
            assert np.array_equal(label, expected)
            assert (expected == IGNORED).any()  # Animal is not kept


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
