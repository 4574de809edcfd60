"""Releases whose label files hold Cityscapes ids: BDD's two and Cityscapes with all its classes."""

import numpy as np
import pytest

from segstream.shards.errors import DataError
from segstream.shards.taxonomy import load_taxonomy, remap_label, universal_remap
from tests.shards.datasets.reading import VOID, found, natives, noise, write

STEM = "0004a4c0-d4dff0ad"
LAYOUTS = {
    "bdd": ("seg/images/{}/0004a4c0-d4dff0ad.jpg", "seg/labels/{}/0004a4c0-d4dff0ad_train_id.png"),
    "bdd100k-19": ("images/10k/{}/0004a4c0-d4dff0ad.jpg", "labels/sem_seg/masks/{}/0004a4c0-d4dff0ad.png"),
    "cityscapes-34": (
        "leftImg8bit/{}/aachen/aachen_000000_000019_leftImg8bit.png",
        "gtFine/{}/aachen/aachen_000000_000019_gtFine_labelIds.png",
    ),
}
COUNTS = {"bdd": 19, "bdd100k-19": 19, "cityscapes-34": 34}


def place(raw, name, label, split="train"):
    image, labels = (path.format(split) for path in LAYOUTS[name])
    write(raw / image, noise(label.shape))
    return write(raw / labels, label)


def every_id(count):
    ids = np.array([*range(count), 255], np.uint8)
    return ids[np.arange(24 * 32).reshape(24, 32) // 5 % len(ids)]


@pytest.mark.parametrize("name", LAYOUTS)
def test_ids_are_kept_and_255_is_none_and_those_beyond_the_list_are_errors(tmp_path, name):
    label = every_id(COUNTS[name])
    place(tmp_path, name, label)
    ((key, native),) = natives(name, tmp_path, "train").items()
    assert key == (STEM if "bdd" in name else "aachen/aachen_000000_000019_leftImg8bit")
    assert np.array_equal(native, label)
    assert native.dtype == np.uint8
    place(tmp_path, name, np.full((8, 8), COUNTS[name], np.uint8))
    with pytest.raises(DataError, match=rf"64 of 64 pixels carry ids \[{COUNTS[name]}\]"):
        natives(name, tmp_path, "train")


@pytest.mark.parametrize("name", LAYOUTS)
def test_labels_without_an_image(tmp_path, name):
    label = every_id(19)
    path = place(tmp_path, name, label)
    extra = write(path.with_name(path.name.replace("0", "9")), label)
    result = found(name, tmp_path, "train")
    assert len(result.pairs) == 1
    assert result.orphans == (extra.relative_to(tmp_path).as_posix(),)


def test_bdd_has_colour_maps_beside_the_ids_that_do_not_count(tmp_path):
    path = place(tmp_path, "bdd", every_id(19))
    write(path.with_name(f"{STEM}_train_color.png"), noise((24, 32)))
    write(tmp_path / f"seg/color_labels/train/{STEM}_train_color.png", noise((24, 32)))
    result = found("bdd", tmp_path, "train")
    assert (len(result.pairs), result.orphans) == (1, ())


def test_riders_are_of_different_kinds():
    """BDD's riders are of unknown kind, Cityscapes' are cyclists, IDD's are motorcyclists."""
    universal = load_taxonomy("universal").classes
    for name, kind in (("bdd", "rider_other"), ("cityscapes-34", "bicyclist"), ("idd-39", "motorcyclist")):
        native = load_taxonomy(name)
        label = np.array([[native.classes.index("rider")]], np.uint8)
        assert universal[remap_label(label, universal_remap(native), where="k")[0, 0]] == kind


def test_cityscapes_34_reaches_universal_classes_that_19_does_not(tmp_path):
    place(tmp_path, "cityscapes-34", every_id(34))
    (native,) = natives("cityscapes-34", tmp_path, "train").values()
    universal = remap_label(native, universal_remap(load_taxonomy("cityscapes-34")), where="k")
    void = {0, 1, 2, 3, 4, 5, 6, 9, 255}
    assert set(native[universal == VOID].tolist()) == void
    assert len(np.unique(universal[universal != VOID])) == 24
