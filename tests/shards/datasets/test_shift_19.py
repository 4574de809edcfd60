"""SHIFT: CARLA's ids in the red channel, a split for each camera, `images` frame rate."""

import numpy as np
import pytest
from PIL import Image

from segstream.shards.datasets.check import check_release
from segstream.shards.errors import DataError, UnreadableError
from segstream.shards.taxonomy import load_taxonomy
from tests.shards.datasets.reading import VOID, dataset, found, natives, noise, write
from tests.shards.trees import png_file

NAME = "shift-19"
CLASSES = {1: "building", 2: "fence", 4: "person", 5: "pole", 6: "road", 7: "road", 8: "sidewalk", 9: "vegetation"}
CLASSES |= {10: "car", 11: "wall", 12: "traffic sign", 13: "sky", 18: "traffic light", 22: "terrain"}


def release(root, ids, channels=4, split="train", view="front", sequence="0003-17fb", frame="00000010"):
    """One frame; green and blue hold anything, alpha is opaque or not."""
    label = np.dstack([ids, *np.moveaxis(noise(ids.shape), 2, 0)])[..., :channels]
    at = f"{split}/{view}/{sequence}/{frame}"
    write(root / f"discrete/images/{at}_img_{view}.jpg", noise(ids.shape))
    write(root / f"discrete/labels/{at}_semseg_{view}.png", label)
    return root


@pytest.mark.parametrize("channels", [3, 4])
def test_every_id_of_the_red_channel(tmp_path, channels):
    release(tmp_path, np.arange(23).reshape(1, 23), channels)
    (native,) = natives(NAME, tmp_path, "train").values()
    classes = load_taxonomy("cityscapes-19").classes
    assert native[0].tolist() == [classes.index(CLASSES[i]) if i in CLASSES else VOID for i in range(23)]
    never = {"rider", "truck", "bus", "train", "motorcycle", "bicycle"}
    assert set(classes) - {classes[i] for i in set(native[0].tolist()) - {VOID}} == never
    assert dataset(NAME).taxonomy is load_taxonomy("cityscapes-19")


def test_a_split_is_of_one_camera_and_the_images_frame_rate(tmp_path):
    label = np.zeros((4, 6), np.uint8)
    release(tmp_path, label)
    release(tmp_path, label, view="left_45")
    release(tmp_path, label, split="val", sequence="aa01-0001")
    write(tmp_path / "continuous/videos/train/front/x/00000000_img_front.jpg", noise((4, 6)))
    (pair,) = found(NAME, tmp_path, "train").pairs
    assert pair.key == "0003-17fb/00000010_img_front"
    assert pair.image == "discrete/images/train/front/0003-17fb/00000010_img_front.jpg"
    assert pair.label == "discrete/labels/train/front/0003-17fb/00000010_semseg_front.png"
    assert [p.key for p in found(NAME, tmp_path, "val").pairs] == ["aa01-0001/00000010_img_front"]
    (pair,) = found(NAME, tmp_path, "train_left_45").pairs
    assert (pair.key, pair.label) == (
        "0003-17fb/00000010_img_left_45",
        "discrete/labels/train/left_45/0003-17fb/00000010_semseg_left_45.png",
    )
    with pytest.raises(DataError, match="discrete/labels/val/right_90: no such folder"):
        found(NAME, tmp_path, "val_right_90")
    views = ("left_45", "left_90", "right_45", "right_90", "left_stereo")  # as its download.py names them
    assert dataset(NAME).optional == tuple(f"{split}_{view}" for split in ("train", "val") for view in views)
    assert [s.split for s in check_release(NAME, tmp_path).splits] == ["train", "val", "train_left_45"]


@pytest.mark.parametrize("mode", ["L", "P", "I;16", "LA"])
def test_other_codings_are_refused(tmp_path, mode):
    release(tmp_path, np.zeros((4, 4), np.uint8))
    Image.new(mode, (4, 4)).save(tmp_path / "discrete/labels/train/front/0003-17fb/00000010_semseg_front.png")
    with pytest.raises(UnreadableError, match="expected 8-bit RGB or RGBA"):
        natives(NAME, tmp_path, "train")


def test_pixel_data_of_another_length_than_the_header_says(tmp_path):
    """Pillow takes what it needs and passes over the rest."""
    release(tmp_path, np.full((4, 4), 7))
    path = tmp_path / "discrete/labels/train/front/0003-17fb/00000010_semseg_front.png"
    path.write_bytes(png_file(bytes([0, *[7] * 12]) * 5, (4, 4, 8, 2, 0, 0, 0)))
    assert (np.asarray(Image.open(path))[..., 0] == 7).all()
    with pytest.raises(UnreadableError, match="its header says 52"):
        natives(NAME, tmp_path, "train")
