import colorsys

import numpy as np
import pytest

from segstream.pipeline.color import ORDERS, ColorJitter

GREY = (0.299, 0.587, 0.114)
NONE = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.0}


def colours(seed=0, low=0, high=256):
    return np.random.default_rng(seed).integers(low, high, (50, 3)).astype(float)


def jittered(pixels, order=ORDERS[0], **changes):
    return apply(pixels, ColorJitter(order=order, **NONE | changes))


def apply(pixels, jitter):
    of_pixel, of_mean = map(np.array, jitter.linear)
    return pixels @ of_pixel.T + of_mean @ pixels.mean(axis=0)


def step_by_step(pixels, jitter):
    """The stated rule, one step after the other on all pixels."""
    for name in jitter.order:
        factor, grey = getattr(jitter, name), pixels @ GREY
        if name == "brightness":
            pixels = pixels * factor
        elif name == "contrast":
            pixels = pixels * factor + (1 - factor) * grey.mean()
        elif name == "saturation":
            pixels = pixels * factor + (1 - factor) * grey[:, None]
        else:  # Rodrigues' rotation about the axis of greys
            axis, angle = np.full(3, 3**-0.5), 2 * np.pi * factor
            along = (pixels @ axis)[:, None] * axis
            pixels = along + np.cos(angle) * (pixels - along) + np.sin(angle) * np.cross(axis, pixels)
    return pixels


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_the_map_is_its_steps_in_their_order(order):
    rng = np.random.default_rng(3)
    jitter = ColorJitter(
        brightness=rng.uniform(0.7, 1.3),
        contrast=rng.uniform(0.7, 1.3),
        saturation=rng.uniform(0.7, 1.3),
        hue=rng.uniform(-0.3, 0.3),
        order=order,
    )
    assert np.abs(apply(colours(), jitter) - step_by_step(colours(), jitter)).max() < 1e-10


def test_orders_are_the_24_permutations_and_matter():
    assert len(set(ORDERS)) == 24
    assert all(sorted(order) == sorted(NONE) for order in ORDERS)
    changes = {"brightness": 1.2, "contrast": 0.8, "saturation": 0.7, "hue": 0.2}
    found = [jittered(colours(), order, **changes) for order in ORDERS]
    # Only hue changes greys, so what counts is whether contrast and whether saturation come before it.
    assert len({tuple(colour.round(6).ravel()) for colour in found}) == 4


def test_factors_of_one_change_nothing():
    assert np.abs(jittered(colours()) - colours()).max() < 1e-12


@pytest.mark.parametrize("factor", [0.75, 1.25])
@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_each_is_the_published_formula_on_bytes_where_nothing_is_clipped(name, factor):
    """PIL's enhancers: a blend of the image with black, the grey of its mean, or its own grey."""
    image, enhance = pytest.importorskip("PIL.Image"), pytest.importorskip("PIL.ImageEnhance")
    pixels = colours(low=90, high=150)
    kind = {"brightness": enhance.Brightness, "contrast": enhance.Contrast, "saturation": enhance.Color}[name]
    theirs = np.asarray(kind(image.fromarray(pixels.astype(np.uint8)[None])).enhance(factor))[0]
    assert np.abs(jittered(pixels, **{name: factor}) - theirs).max() <= 1.3  # they truncate, also the grey


def test_a_third_of_the_hue_circle_is_hsvs_and_what_lies_between_comes_near():
    pixels = colours(low=80, high=160)
    for turns, most in ((1 / 3, 1e-9), (-1 / 3, 1e-9), (0.1, 11.0), (-0.25, 11.0)):
        hsv = [colorsys.rgb_to_hsv(*pixel) for pixel in pixels]
        theirs = np.array([colorsys.hsv_to_rgb((h + turns) % 1, s, v) for h, s, v in hsv])
        assert np.abs(jittered(pixels, hue=turns) - theirs).mean() < most


def test_greys_have_no_hue_and_no_saturation():
    greys = np.arange(0, 256, 5.0)[:, None].repeat(3, axis=1)
    assert np.abs(jittered(greys, hue=0.2, saturation=0.4) - greys).max() < 1e-9
