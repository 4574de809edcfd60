"""What is drawn over a picture, and where."""

import numpy as np
import pytest

from segstream.cli.predictions.overlay import EDGE, OPACITY, draw, enlargement, present
from segstream.colors import class_colors

CLASSES = ("sky", "road", "tree", "car")


def halves(size_hw=(720, 960)):
    """Sky above, road below, and a car too small for its name."""
    label = np.zeros(size_hw, np.uint8)
    label[size_hw[0] // 2 :] = 1
    label[500:510, 800:810] = 3
    return label


def test_shares_are_those_of_the_pixels():
    found = present(np.array([[0, 0, 2], [0, 2, 3]]), CLASSES)
    assert [(item.id, item.name) for item in found] == [(0, "sky"), (2, "tree"), (3, "car")]
    assert [item.share for item in found] == pytest.approx([1 / 2, 1 / 3, 1 / 6])


def test_colours_lie_over_the_picture_and_borders_between_them():
    label = halves()
    image = np.full((720, 960, 3), 100, np.uint8)
    drawn = draw(image, label, CLASSES)
    colors = class_colors(CLASSES).astype(float)
    assert drawn.shape == image.shape
    for (y, x), id in (((100, 700), 0), ((600, 700), 1), ((505, 805), 3)):
        np.testing.assert_allclose(drawn[y, x], OPACITY * colors[id] + (1 - OPACITY) * 100, atol=1)
    assert (drawn[359, 600:] == EDGE).all()
    assert (image == 100).all()


def test_large_regions_are_named_at_their_middle_and_small_ones_in_the_legend_only():
    grey, label, nothing = np.full((720, 960, 3), 100, np.uint8), halves(), np.zeros((720, 960), np.uint8)
    white, plain = ((draw(grey, each, CLASSES) == 255).all(axis=2) for each in (label, nothing))
    assert white[160:200, :].sum() > 5  # sky, at the middle of the upper half
    assert not white[60:150, :].any()
    assert not white[480:495, 780:830].any()  # the car has no name
    assert white[:, :200].sum() > plain[:, :200].sum()  # the legend has three lines instead of one


def test_a_legend_that_does_not_fit_is_cut():
    many = tuple(f"class {i}" for i in range(100))
    label = np.arange(100).repeat(72).reshape(100, 72).T.repeat(8, axis=0).repeat(8, axis=1).astype(np.uint8)
    drawn = draw(np.zeros((*label.shape, 3), np.uint8), label, many)
    assert drawn.shape == (*label.shape, 3)


@pytest.mark.parametrize(("size_hw", "factor"), [((360, 480), 2), ((1080, 1920), 1), ((10, 9), 4), ((518, 920), 1)])
def test_small_pictures_are_drawn_enlarged(size_hw, factor):
    assert enlargement(size_hw) == factor
    drawn = draw(np.zeros((*size_hw, 3), np.uint8), np.zeros(size_hw, np.uint8), CLASSES)
    assert drawn.shape == (size_hw[0] * factor, size_hw[1] * factor, 3)
