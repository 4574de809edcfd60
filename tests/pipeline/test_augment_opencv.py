from dataclasses import replace

import cv2
import numpy as np
import pytest

from segstream.pipeline.config import FILLS, AugmentConfig
from segstream.pipeline.geometry import compose, draw, source_box
from tests.pipeline.fakes import augment, textured
from tests.pipeline.reference_rule import resize_nearest, step_by_step
from tests.shards.shared import CAMVID


@pytest.fixture(scope="module")
def scene():
    return textured(np.random.default_rng(11), (90, 120), 30)


def composed(scene, *, resized=(90, 120), corner=(0, 0), crop=(40, 50), **changes):
    plain = {"scale": 1.0, "angle_deg": 0.0, "flip": False, "blur": False}
    return compose(scene[1].shape, resized, corner_px=corner, crop_hw=crop, **plain | changes)


def test_a_plain_crop_is_exact(scene):
    image, label = augment(*scene, composed(scene, corner=(7, 11)))
    assert (image == scene[0][7:47, 11:61]).all()
    assert (label == scene[1][7:47, 11:61]).all()
    assert image.dtype == label.dtype == np.uint8


@pytest.mark.parametrize("scale", [0.5318, 0.7071, 1.4142, 1.9321])
def test_a_pure_resize_is_what_resize_does(scene, scale):
    """Half-pixel centres: off by half a pixel would differ by several grey levels."""
    size_hw = (round(90 * scale), round(120 * scale))
    image, label = augment(*scene, composed(scene, scale=scale, crop=size_hw))
    expected = cv2.resize(scene[0], None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    apart = np.abs(image.astype(int) - expected)
    assert apart.max() <= 5  # OpenCV before 5 warps on a grid of 1/32 pixel; later ones stay within 1
    assert apart.mean() < 0.6
    assert (label == resize_nearest(scene[1], size_hw, (scale, scale))).all()


def test_outside_the_canvas_is_mean_and_ignored(scene):
    image, label = augment(*scene, composed(scene, scale=0.25, corner=(-9, -10)))
    outside = np.ones((40, 50), bool)
    outside[9 : 9 + 22, 10 : 10 + 30] = False
    assert (image[outside] == FILLS["mean"]).all()
    assert (label[outside] == 255).all()
    assert (label[~outside] != 255).all()
    assert (image[~outside] != FILLS["mean"]).any(axis=-1).mean() > 0.95


def test_corners_that_rotation_turns_in_are_mean_and_ignored_and_what_it_turns_out_is_lost(scene):
    d = composed(scene, angle_deg=10.0, crop=(130, 160), corner=(-20, -20))
    image, label = augment(*scene, d)
    assert (label[20:25, 20:30] == 255).all()
    assert (image[20:25, 20:30] == FILLS["mean"]).all()
    beyond = np.ones((130, 160), bool)
    beyond[20:110, 20:140] = False
    assert (label[beyond] == 255).all()
    assert (image[beyond] == FILLS["mean"]).all()


def test_positive_angles_turn_counter_clockwise():
    label = np.zeros((60, 60), np.uint8)
    label[28:32, 45:55] = 1  # right of the centre
    image = np.zeros((60, 60, 3), np.uint8)
    _, turned = augment(image, label, composed((image, label), resized=(60, 60), angle_deg=10, crop=(60, 60)))
    assert np.argwhere(turned == 1)[:, 0].mean() < 29  # went up


def test_class_ids_above_a_byte_survive(scene):
    wide = scene[1].astype(np.int16) + 270
    d = composed(scene, scale=0.3, angle_deg=7.0, blur=True, corner=(-6, -7))
    image, narrow_before = scene[0].copy(), scene[1].copy()
    _, label = augment(scene[0], wide, d)
    _, narrow = augment(*scene, d)
    assert (scene[0] == image).all()  # the inputs are left as they were
    assert (scene[1] == narrow_before).all()
    assert label.dtype == np.int16
    assert (np.where(label == 255, 255, label - 270) == narrow).all()
    assert label.max() > 270


@pytest.mark.parametrize("short_side", [30, 90, 300])
def test_pixels_outside_the_source_box_do_not_matter(scene, short_side):
    """What a reader may leave out: scrambling the rest changes nothing."""
    rng = np.random.default_rng(0)
    config = AugmentConfig(short_side=short_side, crop=(48, 56), blur_p=0.0)
    shares = []
    for slot in range(60):
        d = draw(config, seed=2, step=0, slot=slot, size_hw=scene[1].shape)
        top, left, bottom, right = source_box(d, d.valid)
        assert 0 <= top < bottom <= 90
        assert 0 <= left < right <= 120
        image, label = rng.integers(0, 256, (90, 120, 3), np.uint8), rng.integers(0, 30, (90, 120), np.uint8)
        image[top:bottom, left:right] = scene[0][top:bottom, left:right]
        label[top:bottom, left:right] = scene[1][top:bottom, left:right]
        for one, other in zip(augment(image, label, d), augment(*scene, d), strict=True):
            assert (one == other).all()
        shares.append((bottom - top) * (right - left) / (90 * 120))
    assert np.mean(shares) < {30: 1.01, 90: 0.75, 300: 0.2}[short_side]


def test_blur_sees_beyond_the_crop(scene):
    wide, _ = augment(*scene, composed(scene, blur=True, corner=(10, 10), crop=(60, 80)))
    small, _ = augment(*scene, composed(scene, blur=True, corner=(20, 25), crop=(30, 40)))
    assert (small == wide[10:40, 15:55]).all()
    assert (wide == cv2.GaussianBlur(scene[0], (5, 5), 0)[10:70, 10:90]).all()


@pytest.mark.parametrize("sigma", [0.15, 0.4, 0.7, 1.0, 1.3, 2.0])
def test_a_drawn_blur_is_the_gaussian_cut_at_4_sigma_within_a_grey_level(scene, sigma):
    """As skimage and scipy cut it."""
    d = replace(composed(scene, blur=True, corner=(15, 20), crop=(50, 60)), blur_sigma=sigma)
    image, _ = augment(*scene, d)
    reach = int(4 * sigma + 0.5)
    kernel = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    expected = cv2.sepFilter2D(scene[0].astype(np.float64), -1, kernel / kernel.sum(), kernel / kernel.sum())
    assert np.abs(image - expected[15:65, 20:80]).max() <= 1.0
    hard = np.where(np.arange(120) < 60, 0, 255).astype(np.uint8)[None, :, None].repeat(90, 0).repeat(3, 2)
    edge, _ = augment(hard, scene[1], d)
    assert np.abs(edge - cv2.sepFilter2D(hard * 1.0, -1, kernel / kernel.sum(), np.ones(1))[15:65, 20:80]).max() <= 1.0


def test_colours_change_all_that_the_crop_shows_and_no_padding(scene):
    """By the mean colour of every fourth row of what it shows; blurred or not, padded or not."""
    config = AugmentConfig(short_side=60, crop=70, color_jitter=0.25, blur_sigma=(0.15, 1.3))
    padded = 0
    for slot in range(40):
        d = draw(config, seed=1, step=0, slot=slot, size_hw=scene[1].shape)
        plain, label = augment(*scene, replace(d, jitter=None))
        image, same = augment(*scene, d)
        top, left, bottom, right = d.valid
        shown = plain[top:bottom, left:right].reshape(-1, 3)
        of_pixel, of_mean = map(np.array, d.jitter.linear)
        mean = plain[top:bottom:4, left:right].mean(axis=(0, 1))
        expected = np.clip(shown @ of_pixel.T + of_mean @ mean, 0, 255)
        assert np.abs(image[top:bottom, left:right].reshape(-1, 3) - expected).max() < 1.2  # rounding, and factors'
        outside = np.ones((70, 70), bool)
        outside[top:bottom, left:right] = False
        assert (image[outside] == FILLS["mean"]).all()
        assert (label == same).all()
        padded += outside.any()
    assert 5 < padded < 35


def test_black_is_another_fill(scene):
    black = replace(composed(scene, scale=0.25, corner=(-9, -10), angle_deg=5.0), fill_rgb=(0, 0, 0))
    image, label = augment(*scene, black)
    assert (image[:9] == 0).all()
    assert (image[label == 255].sum(axis=-1) == 0).mean() > 0.95


@pytest.mark.parametrize("short_side", [None, 60, 90, 135])
@pytest.mark.parametrize("crop", [70, (48, 110)])
def test_one_warp_is_the_rule_done_step_by_step(scene, short_side, crop):
    config = AugmentConfig(short_side=short_side, crop=crop)
    apart, agree, ignored = [], [], []
    for slot in range(60):
        d = draw(config, seed=1, step=0, slot=slot, size_hw=scene[1].shape)
        image, label = augment(*scene, d)
        image_ref, label_ref = step_by_step(*scene, d, short_side)
        apart.append(np.abs(image - image_ref).mean())
        agree.append((label == label_ref).mean())
        ignored.append(((label == 255) == (label_ref == 255)).mean())
    assert np.mean(apart) < 2.0  # of 255: one interpolation is a little sharper than three
    assert max(apart) < 4.0
    assert np.mean(agree) > 0.96  # nearest of nearest is not nearest
    assert min(agree) > 0.92
    assert min(ignored) > 0.99


def test_one_warp_is_the_rule_on_real_photographs():
    if not CAMVID.is_dir():
        pytest.skip("no real images beside this checkout")
    config = AugmentConfig(short_side=480, crop=473)
    apart, agree, floor_agree = [], [], []
    for slot, path in enumerate(sorted((CAMVID / "images" / "train").glob("*.jpg"))[::12]):
        image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
        label = cv2.imread(str(CAMVID / "labels" / "train" / f"{path.stem}.png"), cv2.IMREAD_UNCHANGED)
        d = draw(config, seed=1, step=0, slot=slot, size_hw=label.shape)
        crop, crop_label = augment(image, label, d)
        crop_ref, label_ref = step_by_step(image, label, d, 480)
        _, label_floor = step_by_step(image, label, d, 480, centre=0.0)
        apart.append(np.abs(crop - crop_ref).mean())
        agree.append((crop_label == label_ref).mean())
        floor_agree.append((crop_label == label_floor).mean())
    print(f"mean absolute difference {np.mean(apart):.3f}, labels {np.mean(agree):.4f}, {np.mean(floor_agree):.4f}")
    assert np.mean(apart) < 1.2
    assert np.mean(agree) > 0.985
    assert np.mean(floor_agree) > 0.97  # OpenCV's nearest resize shifts labels by up to half a pixel; ours does not
