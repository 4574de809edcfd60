"""PASCAL Context: matrices of 0..459 in MATLAB files, 60 classes in alphabetical order, nothing ignored."""

import sys

import numpy as np
import pytest
import scipy.io

from segstream.shards.datasets.layout import split_list
from segstream.shards.errors import DataError, UnreadableError
from segstream.shards.taxonomy import load_taxonomy
from tests.shards.datasets.reading import dataset, found, natives, noise, write

NAME = "pascal-context-60"


def release(root, labels, split="train"):
    """JPEGImages and trainval with the first stems of a list; MATLAB's own compressed format."""
    for stem, label in zip(split_list(NAME, split), labels, strict=False):
        write(root / f"JPEGImages/{stem}.jpg", noise(label.shape))
        (root / "trainval").mkdir(exist_ok=True)
        scipy.io.savemat(root / f"trainval/{stem}.mat", {"LabelMap": label}, do_compression=True)
    return root


def test_pairs_are_those_of_voc_2010s_lists(tmp_path):
    release(tmp_path, [np.zeros((4, 4), np.uint16)] * 2)
    result = found(NAME, tmp_path, "train")
    assert [(p.key, p.image, p.label) for p in result.pairs] == [
        ("2008_000008", "JPEGImages/2008_000008.jpg", "trainval/2008_000008.mat"),
        ("2008_000015", "JPEGImages/2008_000015.jpg", "trainval/2008_000015.mat"),
    ]
    assert len(result.absent) == 4996
    assert result.absent[0] == "JPEGImages/2008_000019.jpg"
    assert (len(split_list(NAME, "train")), len(split_list(NAME, "val"))) == (4998, 5105)
    assert len({*split_list(NAME, "train"), *split_list(NAME, "val")}) == 10103


def test_classes_by_known_ids(tmp_path):
    """Ids of the release's labels.txt; 255 is `money`, a class like any other and not "ignored"."""
    known = {0: "background", 2: "aeroplane", 9: "bag", 18: "bed", 23: "bicycle", 25: "bird", 98: "cow"}
    known |= {255: "background", 59: "car", 65: "cat", 113: "dog", 459: "background"}
    label = np.array([[*known]], np.uint16)
    release(tmp_path, [label])
    classes = load_taxonomy(NAME).classes
    (native,) = natives(NAME, tmp_path, "train").values()
    assert [classes[i] for i in native[0]] == list(known.values())
    assert list(classes) == sorted(classes)
    assert classes.index("background") == 1


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float64])
def test_matlab_stores_small_or_double_numbers_too(tmp_path, dtype):
    release(tmp_path, [np.array([[0, 2], [23, 98]], dtype)])
    (native,) = natives(NAME, tmp_path, "train").values()
    assert native.tolist() == [[1, 0], [6, 20]]


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(DataError, match=r"JPEGImages: no such folder"):
        found(NAME, tmp_path, "train")
    (tmp_path / "JPEGImages").mkdir()
    (tmp_path / "trainval.tar.gz").touch()
    with pytest.raises(DataError, match=r"trainval: no such folder; unpack trainval\.tar\.gz"):
        found(NAME, tmp_path, "train")


def test_without_scipy_it_says_so_before_anything_is_read(tmp_path, monkeypatch):
    release(tmp_path, [np.zeros((2, 2), np.uint16)])
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(DataError, match=r"pip install 'segstream\[mat\]'"):
        found(NAME, tmp_path, "train")


def test_an_unreadable_label_is_the_samples_fault(tmp_path):
    with pytest.raises(UnreadableError, match=r"do not say MATLAB 5"):
        dataset(NAME).read_label(b"", None)
