"""WildDash 1 (Cityscapes label ids) and 2 (panoptic), both in 19 classes."""

import json
import shutil

import numpy as np
import pytest

from segstream.shards.datasets.layout import split_list
from segstream.shards.errors import DataError, UnreadableError
from segstream.shards.taxonomy import load_taxonomy
from tests.shards.datasets.reading import VOID, found, natives, noise, write

ONE, TWO = "au0000_100000", "zm0003_100000"


def version1(raw, label, *, folder="wd_val_01/", stem=ONE):
    write(raw / f"{folder}{stem}.png", noise(label.shape))
    return write(raw / f"{folder}{stem}_labelIds.png", label)


def every_id(count):
    return (np.arange(36 * 48).reshape(36, 48) // 5 % count).astype(np.uint8)


@pytest.mark.parametrize("folder", ["wd_val_01/", ""])
def test_version_1_val_is_the_published_list_of_70(tmp_path, folder):
    label = np.zeros((8, 8), np.uint8)
    for stem in (ONE, TWO, "not_listed"):
        version1(tmp_path, label, folder=folder, stem=stem)
    result = found("wilddash-19", tmp_path, "val")
    assert [(p.key, p.image, p.label) for p in result.pairs] == [
        (stem, f"{folder}{stem}.png", f"{folder}{stem}_labelIds.png") for stem in (ONE, TWO)
    ]
    assert (len(split_list("wilddash-19", "val")), len(result.absent)) == (70, 68)


def version2(raw, frames, *, listed=None):
    """`frames`: id -> (H, W) array of WildDash 2's class ids; each class becomes a segment of a number of its own."""
    annotations = []
    for stem, classes in frames.items():
        segments = {int(c): 70_001 * int(c) + 3 for c in np.unique(classes)}
        codes = np.vectorize(segments.get)(classes)
        write(raw / f"images/{stem}.jpg", noise(classes.shape))
        write(raw / f"panoptic/{stem}.png", np.stack([codes % 256, codes // 256 % 256, codes // 65536], -1))
        info = [{"id": s, "category_id": c, "iscrowd": 0, "area": 1} for c, s in segments.items()]
        annotations.append({"image_id": stem, "file_name": f"{stem}.png", "segments_info": info})
    (raw / "panoptic.json").write_text(json.dumps({"annotations": annotations}))
    (raw / "random_split").mkdir(exist_ok=True)
    for part, ids in (listed or {"training": frames, "validation": ()}).items():
        (raw / f"random_split/{part}.txt").write_text("".join(f"{i}\n" for i in ids))
    return raw


def test_version_2_some_classes_by_hand(tmp_path):
    wanted = {31: "train", 34: "truck", 35: "car", 38: "road", 48: "rider", 56: "wall", 58: "motorcycle", 78: "terrain"}
    version2(tmp_path, {"aa0001": np.array([[*wanted, 29, 0]], np.uint8)})
    (label,) = natives("wilddash2-19", tmp_path, "train").values()
    classes = load_taxonomy("cityscapes-19").classes
    assert label.tolist() == [[*map(classes.index, wanted.values()), VOID, VOID]]


def test_version_2_splits_are_the_releases_lists(tmp_path):
    frame = np.full((8, 8), 7, np.uint8)
    version2(tmp_path, dict.fromkeys("abcd", frame), listed={"training": ["c", "a", "gone"], "validation": ["b"]})
    train = found("wilddash2-19", tmp_path, "train")
    assert [(p.key, p.image, p.label) for p in train.pairs] == [
        (stem, f"images/{stem}.jpg", f"panoptic/{stem}.png") for stem in ("c", "a")
    ]
    assert train.absent == ("images/gone.jpg",)
    assert [p.key for p in found("wilddash2-19", tmp_path, "val").pairs] == ["b"]


def test_version_2_faults_are_told(tmp_path):
    version2(tmp_path, {"a": np.full((8, 8), 7, np.uint8)})
    content = json.loads((tmp_path / "panoptic.json").read_text())
    (segment,) = content["annotations"][0]["segments_info"]
    for change, annotations, said in (
        ({"category_id": 81}, None, r"pixels carry ids \[81\], which wilddash2 does not have"),
        ({"id": segment["id"] + 1}, None, r"64 pixels of segments \[490010\], which the panoptic JSON lacks"),
        ({}, [], "no entry"),
    ):
        segment |= change
        (tmp_path / "panoptic.json").write_text(json.dumps(content if annotations is None else {"annotations": []}))
        with pytest.raises((DataError, UnreadableError), match=said):
            natives("wilddash2-19", tmp_path, "train")
    with pytest.raises(DataError, match=r"validation\.txt: names no images"):
        found("wilddash2-19", tmp_path, "val")
    lists = tmp_path / "random_split/training.txt"
    for spoil in (lambda: lists.write_bytes(b"\xff\xfe"), lists.unlink):
        spoil()
        with pytest.raises(DataError, match=r"training\.txt: cannot be read"):
            found("wilddash2-19", tmp_path, "train")
    shutil.rmtree(tmp_path / "panoptic")
    with pytest.raises(DataError, match="panoptic: no such folder"):
        found("wilddash2-19", tmp_path, "train")
