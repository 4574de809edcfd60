"""BRAVO: pictures only."""

import pytest

from shards.errors import UsageError
from shards.taxonomy import load_taxonomy
from tests.shards.sources.reading import found, noise, source, write


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
    assert source("bravo").native is load_taxonomy("cityscapes-19")
    assert source("bravo").release is None


def test_it_has_one_split(tmp_path):
    with pytest.raises(UsageError, match="bravo has no split 'val'; "):
        found("bravo", tmp_path, "val")
