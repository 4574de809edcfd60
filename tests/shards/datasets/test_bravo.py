"""BRAVO: pictures only."""

import zipfile

import pytest

from segstream.shards.errors import DataError
from segstream.shards.taxonomy import load_taxonomy
from tests.shards.datasets.reading import dataset, found, noise, write


def test_every_picture_below_the_root_and_nothing_else(tmp_path):
    paths = ["bravo_ACDC/fog/a_1.png", "bravo_SMIYC/RoadAnomaly21/images/b.jpg", "bravo_synrain/x.y/c.png"]
    for path in paths:
        write(tmp_path / path, noise((4, 4)))
    (tmp_path / "bravo_ACDC/readme.txt").write_text("no picture")
    result = found("bravo", tmp_path, "test")
    assert [(p.image, p.label) for p in result.pairs] == [(path, None) for path in paths]
    assert [p.key for p in result.pairs] == [
        "bravo_ACDC/fog/a_1",
        "bravo_SMIYC/RoadAnomaly21/images/b",
        "bravo_synrain/x%2Ey/c",
    ]


def test_predictions_are_in_cityscapes_classes_and_no_label_is_read():
    assert dataset("bravo").taxonomy is load_taxonomy("cityscapes-19")
    assert dataset("bravo").remap is None


@pytest.mark.parametrize("top", ["", "bravo_1.0/"])
def test_archives_give_every_picture_once_under_the_key_it_has_unpacked(tmp_path, top):
    names = ["bravo_ACDC/fog/a.png", "bravo_ACDC/night/b.png", "bravo_SMIYC/c.jpg"]
    for name in names:
        subset = "all" if top else name.partition("/")[0]
        with zipfile.ZipFile(tmp_path / f"{subset}.zip", "a") as archive:
            archive.writestr(top + name, b"x")
    assert [p.image for p in found("bravo", tmp_path, "test").pairs] == names
    write(tmp_path / names[0], noise((4, 4)))  # unpacked, its archive kept
    assert [p.key for p in found("bravo", tmp_path, "test").pairs] == [name.rpartition(".")[0] for name in names]


def test_another_folder_is_told(tmp_path):
    write(tmp_path / "fog/a.png", noise((4, 4)))
    with pytest.raises(DataError, match=r"bravo_ACDC: no such folder; --raw must name the folder that holds"):
        found("bravo", tmp_path, "test")
