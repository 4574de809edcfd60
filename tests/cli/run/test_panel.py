"""Panels of pictures."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from segstream.cli.run.panel import GAP, WIDEST, panel, write_jpeg
from segstream.shards.errors import DataError

COLORS = np.array([[255, 0, 0], [0, 0, 255]], np.uint8)


def test_rows_hold_image_label_and_prediction() -> None:
    image = np.full((8, 12, 3), 77, np.uint8)
    label = np.zeros((8, 12), np.uint8)
    label[0, 0] = 255
    drawn = panel([(image, label, np.ones((8, 12), np.int64))] * 2, COLORS)
    assert drawn.shape == (2 * 8 + GAP, 3 * 12 + 2 * GAP, 3)
    lower = drawn[8 + GAP :]
    assert (lower[:, :12] == 77).all()
    assert lower[0, 12 + GAP].tolist() == [0, 0, 0]  # ignored
    assert lower[1, 12 + GAP].tolist() == [255, 0, 0]
    assert lower[0, -1].tolist() == [0, 0, 255]
    assert (drawn[8 : 8 + GAP] == 255).all()


def test_large_pictures_are_made_smaller() -> None:
    side = 2 * WIDEST
    image, label = np.zeros((side, side, 3), np.uint8), np.zeros((side, side), np.uint8)
    assert panel([(image, label, label)], COLORS).shape == (WIDEST, 3 * WIDEST + 2 * GAP, 3)


def test_a_picture_is_written_whole_in_its_colours_or_told(tmp_path: Path) -> None:
    picture = np.full((16, 16, 3), (200, 30, 30), np.uint8)
    write_jpeg(tmp_path / "deep" / "a.jpg", picture)
    blue, _, red = cv2.imread(str(tmp_path / "deep" / "a.jpg"))[8, 8]
    assert red > 150 > 60 > blue
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        write_jpeg(tmp_path / "file" / "a.jpg", picture)
