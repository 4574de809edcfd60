import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from segstream.pipeline.config import FILLS, AugmentConfig
from segstream.pipeline.geometry import canvas_size, draw, resized_size

RULE = AugmentConfig(short_side=120, crop=100)
SIZE_HW = (90, 150)
CANVAS_HW = (120, 180)  # its short side is the rule's; at a fifth of all scales a side is shorter than the crop
DRAWS = 30_000
KS_BOUND = 1.95 * (2 / DRAWS) ** 0.5  # two samples differ by more once in 1000 times: 0.016
SHARE_BOUND = 3.3 * (0.5 / DRAWS) ** 0.5  # the same for two shares near a half: 0.0135


def draws(config, count, size_hw=SIZE_HW, seed=5):
    return [draw(config, seed=seed, step=i // 16, slot=i % 16, size_hw=size_hw) for i in range(count)]


def test_the_same_key_gives_the_same_draw_and_any_other_key_another():
    def of(seed=1, step=2, slot=3):
        return draw(RULE, seed=seed, step=step, slot=slot, size_hw=SIZE_HW)

    assert of() == of()
    others = [of(seed=2), of(step=3), of(slot=4), of(step=3, slot=2), of(seed=2**64 - 1), of(step=10**9)]
    assert len({d.scale for d in [of(), *others]}) == 7


def test_a_draw_of_a_seed_is_a_promise():
    found = draw(RULE, seed=2024, step=7, slot=1, size_hw=SIZE_HW)
    assert (found.scale, found.angle_deg, found.flip) == (1.420932624982982, 0.0, False)
    assert (found.blur, found.corner_px) == (False, (38, 1))


def test_turning_one_choice_off_leaves_the_others_alone():
    plain = replace(RULE, rotate_p=0.0, blur_p=0.0)
    for one, other in zip(draws(RULE, 200), draws(plain, 200), strict=True):
        assert (one.scale, one.flip, one.corner_px) == (other.scale, other.flip, other.corner_px)
        assert (other.angle_deg, other.blur) == (0, False)


def test_colours_and_blurs_are_drawn_after_the_rest_and_leave_it_alone():
    later = replace(RULE, color_jitter=0.25, blur_sigma=(0.15, 1.3), fill="black")
    for one, other in zip(draws(RULE, 200), draws(later, 200), strict=True):
        assert replace(other, jitter=None, blur_sigma=None, fill_rgb=one.fill_rgb) == one
        assert (one.jitter, one.blur_sigma, one.fill_rgb, other.fill_rgb) == (None, None, FILLS["mean"], (0, 0, 0))
    found = draws(replace(later, color_jitter=0.0), 5), draws(later, 5)
    assert [d.blur_sigma for d in found[0]] == [d.blur_sigma for d in found[1]]
    assert found[1][3] == draws(later, 4)[3]


@pytest.mark.parametrize(("strength", "hue"), [(0.25, 0.25), (1.0, 0.5)])
def test_colours_and_blurs_are_distributed_as_published(strength, hue):
    count = 12_000
    found = draws(replace(RULE, color_jitter=strength, blur_sigma=(0.15, 1.3)), count)
    jitters = [d.jitter for d in found]
    values = [np.array([getattr(j, name) for j in jitters]) for name in ("brightness", "contrast", "saturation", "hue")]
    values.append(np.array([d.blur_sigma for d in found]))
    bounds = [(1 - strength, 1 + strength)] * 3 + [(-hue, hue), (0.15, 1.3)]
    for value, (low, high) in zip(values, bounds, strict=True):
        assert (value >= low).all()
        assert (value < high).all()
        assert apart((value - low) / (high - low), (np.arange(count) + 0.5) / count) < 1.95 / count**0.5
    assert np.abs(np.corrcoef(values) - np.eye(5)).max() < 4.5 / count**0.5
    orders = Counter(j.order for j in jitters)
    assert len(orders) == 24
    expected = count / 24
    assert sum((n - expected) ** 2 / expected for n in orders.values()) < 49.7  # chi-squared, once in 1000 times


@pytest.mark.parametrize(
    ("size_hw", "long_side", "expected"),
    [
        ((3000, 4000), 2177, (1632, 2177)),
        ((4000, 3000), 2177, (2177, 1632)),
        ((2, 900), 90, (1, 90)),
        ((7, 7), 9, (9, 9)),
    ],
)
def test_the_long_side_is_met_and_the_short_one_truncated(size_hw, long_side, expected):
    assert resized_size(size_hw, None, long_side) == expected
    config = AugmentConfig(short_side=None, long_side=long_side, crop=5, rotate_p=0, flip_p=0)
    found = draw(config, seed=1, step=0, slot=0, size_hw=size_hw)
    assert found.canvas_hw == tuple(max(1, round(side * found.scale)) for side in expected)
    steps = [found.matrix[1][1], found.matrix[0][0]]
    assert np.allclose(np.multiply(steps, found.scale), np.divide(size_hw, expected))


@pytest.mark.parametrize(
    ("size_hw", "short_side", "expected"),
    [
        ((480, 640), 1080, (1080, 1440)),
        ((1024, 2048), 1080, (1080, 2160)),
        ((500, 333), 480, (720, 480)),  # 720.72 truncated
        ((333, 500), 480, (480, 720)),
        ((70, 70), 35, (35, 35)),
        ((33, 57), None, (33, 57)),
    ],
)
def test_the_short_side_is_met_and_the_long_one_truncated(size_hw, short_side, expected):
    assert resized_size(size_hw, short_side) == expected
    assert canvas_size((2, 300), 0.1) == (1, 30)  # never vanishes


def test_padding_is_centred_with_the_odd_pixel_last():
    config = AugmentConfig(short_side=None, crop=(10, 13), scale=(1.0, 1.0), rotate_p=0)
    found = draw(config, seed=0, step=0, slot=0, size_hw=(7, 8))
    assert found.corner_px == (-1, -2)
    assert found.valid == (1, 2, 8, 10)


def test_the_valid_part_is_where_the_crop_meets_the_canvas():
    for d in draws(RULE, 300):
        top, left, bottom, right = d.valid
        ys, xs = (np.arange(100) + corner for corner in d.corner_px)
        inside_y, inside_x = (ys >= 0) & (ys < d.canvas_hw[0]), (xs >= 0) & (xs < d.canvas_hw[1])
        assert np.flatnonzero(inside_y).tolist() == list(range(top, bottom))
        assert np.flatnonzero(inside_x).tolist() == list(range(left, right))
        assert bottom > top
        assert right > left


def test_the_matrix_is_the_rule_applied_to_a_point():
    """Walk the steps back by hand for single crop pixels."""
    rng = np.random.default_rng(3)
    for d in draws(RULE, 60):
        u, v = rng.integers(0, 100, 2)
        x, y = u + d.corner_px[1], v + d.corner_px[0]
        if d.flip:
            x = d.canvas_hw[1] - 1 - x
        angle = np.radians(d.angle_deg)
        cx, cy = d.canvas_hw[1] / 2, d.canvas_hw[0] / 2
        turned = (x - cx + 1j * (y - cy)) * np.exp(1j * angle)  # back by the angle; y points down
        x, y = turned.real + cx, turned.imag + cy
        x, y = (x + 0.5) / d.scale - 0.5, (y + 0.5) / d.scale - 0.5
        x, y = (x + 0.5) * 150 / 200 - 0.5, (y + 0.5) * 90 / 120 - 0.5
        assert np.allclose(np.array(d.matrix) @ (u, v, 1), (x, y), atol=1e-9)


def by_the_rule(rng):
    """(scale, angle, y, x, padding above, padding left, blur, flip) of one sample."""
    scale = 0.5 + 1.5 * rng.random()
    angle = -10 + 20 * rng.random() if rng.random() < 0.5 else 0.0
    blur, flip = rng.random() < 0.5, rng.random() < 0.5
    canvas = [round(side * scale) for side in CANVAS_HW]
    pads = [max(100 - side, 0) // 2 for side in canvas]
    offsets = [rng.randint(0, max(side, 100) - 100) for side in canvas]
    return scale, angle, *offsets, *pads, blur, flip


def by_draw(i):
    found = draw(RULE, seed=1, step=i // 16, slot=i % 16, size_hw=CANVAS_HW)
    offsets = [max(corner, 0) for corner in found.corner_px]
    return found.scale, found.angle_deg, *offsets, *found.valid[:2], found.blur, found.flip


@pytest.fixture(scope="module")
def tables():
    rng = random.Random(0)
    ours = np.array([by_draw(i) for i in range(DRAWS)], float)
    return ours, np.array([by_the_rule(rng) for _ in range(DRAWS)], float)


def apart(one, other):
    """Largest distance between two empirical distribution functions, ties included (Kolmogorov-Smirnov)."""
    places = np.union1d(one, other)
    shares = [np.searchsorted(np.sort(v), places, side="right") / len(v) for v in (one, other)]
    return np.abs(shares[0] - shares[1]).max()


@pytest.mark.parametrize("column", range(6), ids=["scale", "angle", "y", "x", "padding above", "padding left"])
def test_each_number_is_distributed_as_in_the_rule(tables, column):
    assert apart(*(table[:, column] for table in tables)) < KS_BOUND


@pytest.mark.parametrize("chosen", [1, 6, 7], ids=["rotated", "blur", "flip"])
def test_each_choice_is_as_frequent_as_in_the_rule(tables, chosen):
    ours, theirs = ((table[:, chosen] != 0).mean() for table in tables)
    assert abs(ours - theirs) < SHARE_BOUND


def test_numbers_depend_on_each_other_as_in_the_rule(tables):
    """Only offsets and paddings do, through the scale."""
    ours, theirs = (np.corrcoef(table.T) for table in tables)
    assert np.abs(ours - theirs).max() < 4.5 * (2 / DRAWS) ** 0.5  # 28 pairs, each beyond it once in 100,000 times


def anchored(config, anchor_xy, count, size_hw=SIZE_HW):
    """Draws, and where in the crop each has its anchor: crop pixels (x, y), (count, 2)."""
    keys = [{"seed": 8, "step": i // 16, "slot": i % 16, "size_hw": size_hw} for i in range(count)]
    found = [draw(config, anchor_xy=anchor_xy, **key) for key in keys]
    for one, key in zip(found[:50], keys, strict=False):  # the place is all that an anchor changes
        plain = draw(config, **key)
        assert replace(one, corner_px=plain.corner_px, matrix=plain.matrix, valid=plain.valid) == plain
    matrices = np.array([d.matrix for d in found])
    places = np.linalg.solve(matrices[:, :, :2], (anchor_xy - matrices[:, :, 2])[..., None])[..., 0]
    return found, places


@pytest.mark.parametrize("anchor_xy", [(0.0, 0.0), (149.0, 89.0), (75.3, 40.9), (3.2, 88.5)])
def test_a_crop_holds_its_anchor_where_it_may_lie(anchor_xy):
    turned = replace(RULE, rotate_deg=(-60.0, 60.0), crop=(60, 90))
    for d, place in zip(*anchored(turned, anchor_xy, 1500), strict=True):
        canvas_xy = place + d.corner_px[::-1]
        on_canvas = np.clip(canvas_xy, 0, np.array(d.canvas_hw[::-1]) - 1)  # rotation may turn it out
        assert ((on_canvas - d.corner_px[::-1] >= -0.5) & (on_canvas - d.corner_px[::-1] <= (89.5, 59.5))).all()
        for corner, side, crop in zip(d.corner_px, d.canvas_hw, (60, 90), strict=True):  # as of a plain crop
            assert 0 <= corner <= side - crop if side >= crop else corner == -((crop - side) // 2)


def test_an_anchor_is_at_any_place_of_the_crop_with_equal_probability():
    """Scaled, turned and mirrored, in the middle of an image that leaves it all room."""
    rule = AugmentConfig(short_side=None, crop=(60, 100), rotate_deg=(-20.0, 20.0), scale=(0.7, 2.0))
    _, places = anchored(rule, (410.7, 395.2), 6000, size_hw=(800, 850))
    for along, crop in zip(places.T, (100, 60), strict=True):
        shares = np.sort((along + 0.5) / crop)
        assert np.abs(shares - np.linspace(0, 1, 6000)).max() < 1.95 / 6000**0.5 + 1 / crop  # Kolmogorov-Smirnov
    assert abs(np.corrcoef(places.T)[0, 1]) < 4.5 / 6000**0.5


def test_an_anchor_near_the_edge_leaves_the_places_that_the_edge_allows():
    rule = AugmentConfig(short_side=None, crop=(40, 50), scale=(1.0, 1.0), rotate_p=0, flip_p=0)
    found, _ = anchored(rule, (10.0, 95.0), 4000, size_hw=(100, 200))
    ys, xs = np.array([d.corner_px for d in found]).T
    assert (ys.min(), ys.max(), xs.min(), xs.max()) == (56, 60, 0, 10)
    for values, count in ((ys, 5), (xs, 11)):
        seen = np.bincount(values - values.min())
        assert (np.abs(seen - 4000 / count) < 4.5 * (4000 / count) ** 0.5).all()
