"""100,000 draws against the rule as its authors' transforms draw it, one random call after the other."""

import random

import numpy as np
import pytest

from segstream.pipeline.config import AugmentConfig
from segstream.pipeline.geometry import draw

DRAWS = 100_000
SIZE_HW, SHORT_SIDE, CROP = (120, 180), 120, 100  # at a fifth of all scales a side is shorter than the crop
KS_BOUND = 1.95 * (2 / DRAWS) ** 0.5  # two samples differ by more once in 1000 times: 0.0087
SHARE_BOUND = 3.3 * (0.5 / DRAWS) ** 0.5  # the same for two shares near a half: 0.0074


def by_the_rule(rng):
    """(scale, angle, y, x, padding above, padding left, blur, flip) of one sample."""
    scale = 0.5 + 1.5 * rng.random()
    angle = -10 + 20 * rng.random() if rng.random() < 0.5 else 0.0
    blur, flip = rng.random() < 0.5, rng.random() < 0.5
    canvas = [round(side * scale) for side in SIZE_HW]
    pads = [max(CROP - side, 0) // 2 for side in canvas]
    offsets = [rng.randint(0, max(side, CROP) - CROP) for side in canvas]
    return scale, angle, *offsets, *pads, blur, flip


def by_draw(i, config):
    found = draw(config, seed=1, step=i // 16, slot=i % 16, size_hw=SIZE_HW)
    offsets = [max(corner, 0) for corner in found.corner_px]
    return found.scale, found.angle_deg, *offsets, *found.valid[:2], found.blur, found.flip


@pytest.fixture(scope="module")
def tables():
    rng, config = random.Random(0), AugmentConfig(short_side=SHORT_SIDE, crop=CROP)
    ours = np.array([by_draw(i, config) for i in range(DRAWS)], float)
    return ours, np.array([by_the_rule(rng) for _ in range(DRAWS)], float)


def apart(one, other):
    """Largest distance between two empirical distribution functions, ties included (Kolmogorov-Smirnov)."""
    places = np.union1d(one, other)
    shares = [np.searchsorted(np.sort(v), places, side="right") / len(v) for v in (one, other)]
    return np.abs(shares[0] - shares[1]).max()


@pytest.mark.parametrize(
    ("column", "name"), list(enumerate(["scale", "angle", "y", "x", "padding above", "padding left"])), ids=str
)
def test_each_number_is_distributed_as_in_the_rule(tables, column, name):
    assert apart(*(table[:, column] for table in tables)) < KS_BOUND, name


@pytest.mark.parametrize("chosen", [1, 6, 7], ids=["rotated", "blur", "flip"])
def test_each_choice_is_as_frequent_as_in_the_rule(tables, chosen):
    ours, theirs = ((table[:, chosen] != 0).mean() for table in tables)
    assert abs(ours - theirs) < SHARE_BOUND


def test_numbers_depend_on_each_other_as_in_the_rule(tables):
    """Only offsets and paddings do, through the scale."""
    ours, theirs = (np.corrcoef(table.T) for table in tables)
    assert np.abs(ours - theirs).max() < 4.5 * (2 / DRAWS) ** 0.5  # 28 pairs, each beyond it once in 100,000 times
