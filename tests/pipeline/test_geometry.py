from dataclasses import replace

import numpy as np
import pytest

from segstream.pipeline.config import AugmentConfig
from segstream.pipeline.geometry import canvas_size, compose, draw, resized_size

RULE = AugmentConfig(short_side=120, crop=100)
SIZE_HW = (90, 150)


def draws(config, count, size_hw=SIZE_HW, seed=5):
    return [draw(config, seed=seed, step=i // 16, slot=i % 16, size_hw=size_hw) for i in range(count)]


def ks_uniform(values, low, high):
    """Largest distance between the sample's distribution function and the uniform one."""
    u = (np.sort(np.asarray(values, float)) - low) / (high - low)
    assert u[0] >= 0
    assert u[-1] <= 1
    n = len(u)
    return max((np.arange(1, n + 1) / n - u).max(), (u - np.arange(n) / n).max())


def test_the_draws_are_distributed_as_the_rule_says():
    n = 20_000
    found = draws(RULE, n)
    rotated = [d for d in found if d.angle_deg]
    limit = 1.95 / n**0.5  # Kolmogorov-Smirnov at the 0.1 % level
    assert ks_uniform([d.scale for d in found], 0.5, 2.0) < limit
    assert ks_uniform([d.angle_deg for d in rotated], -10, 10) < 1.95 / len(rotated) ** 0.5
    for share in (len(rotated), sum(d.flip for d in found), sum(d.blur for d in found)):
        assert abs(share - n / 2) < 3.3 * n**0.5 / 2
    # Where the canvas is larger than the crop, every offset 0..slack is as likely; u maps it back to [0, 1].
    for axis in (0, 1):
        slack = [(d.corner_px[axis], d.canvas_hw[axis] - 100) for d in found if d.canvas_hw[axis] >= 100]
        assert all(0 <= corner <= room for corner, room in slack)
        mid = [(corner + 0.5) / (room + 1) for corner, room in slack if room > 60]
        assert ks_uniform(mid, 0, 1) < 1.95 / len(mid) ** 0.5 + 1 / 120
        assert {0, 1} <= {corner for corner, _ in slack}
        assert any(corner == room > 0 for corner, room in slack)


def test_the_choices_are_independent_of_each_other():
    found = draws(RULE, 8000)
    table = np.array([(d.scale, bool(d.angle_deg), d.blur, d.flip) for d in found], float)
    correlation = np.corrcoef(table.T)
    assert np.abs(correlation - np.eye(4)).max() < 3.5 / 8000**0.5


def test_the_same_key_gives_the_same_draw_and_any_other_key_another():
    def of(seed=1, step=2, slot=3):
        return draw(RULE, seed=seed, step=step, slot=slot, size_hw=SIZE_HW)

    assert of() == of()
    others = [of(seed=2), of(step=3), of(slot=4), of(step=3, slot=2), of(seed=2**64 - 1), of(step=10**9)]
    assert len({d.scale for d in [of(), *others]}) == 7


def test_a_draw_of_a_seed_is_a_promise():
    found = draw(RULE, seed=2024, step=7, slot=1, size_hw=SIZE_HW)
    assert (found.scale, found.angle_deg, found.flip, found.blur, found.corner_px) == (
        1.420932624982982,
        0.0,
        False,
        False,
        (38, 1),
    )


def test_turning_one_choice_off_leaves_the_others_alone():
    plain = replace(RULE, rotate_p=0.0, blur_p=0.0)
    for one, other in zip(draws(RULE, 200), draws(plain, 200), strict=True):
        assert (one.scale, one.flip, one.corner_px) == (other.scale, other.flip, other.corner_px)
        assert (other.angle_deg, other.blur) == (0, False)


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


def test_a_canvas_never_vanishes():
    assert canvas_size((2, 300), None, 0.1) == (1, 30)


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


def test_a_plain_crop_is_a_shift():
    d = compose(
        (50, 60), short_side=50, scale=1.0, angle_deg=0.0, flip=False, blur=False, corner_px=(3, 5), crop_hw=(20, 20)
    )
    assert d.matrix == ((1, 0, 5), (0, 1, 3))
    mirrored = replace(d, flip=True)
    assert mirrored.matrix == d.matrix  # a Draw is a record: compose makes the matrix
    again = compose(
        (50, 60), short_side=50, scale=1.0, angle_deg=0.0, flip=True, blur=False, corner_px=(3, 5), crop_hw=(20, 20)
    )
    assert again.matrix == ((-1, 0, 54), (0, 1, 3))
