"""Both engines on the same draws; DALI runs here on the host, and under the `gpu` marker on a GPU."""

import itertools

import cv2
import numpy as np
import pytest
import torch

from segstream.pipeline.augment_dali import DaliEngine
from segstream.pipeline.augment_opencv import box_touched
from segstream.pipeline.config import AugmentConfig
from segstream.pipeline.decode import EncodedRegion
from segstream.pipeline.geometry import compose, draw
from segstream.shards.codecs.images import encode_jpeg
from segstream.shards.codecs.row_blocks import EncodedRows, cut_jpeg, jpeg_blocks
from segstream.shards.errors import DataError
from tests.pipeline.fakes import augment, png, textured
from tests.shards.shared import CAMVID

pytest.importorskip("nvidia.dali", reason="nvidia-dali is not installed")
NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
DEVICES = [pytest.param(None, id="host"), pytest.param(0, id="gpu", marks=[pytest.mark.gpu, NO_GPU])]


def whole(data, image):
    return EncodedRegion(data=data, box=(0, 0, *image.shape[:2]))


def apart(images, draws, rule, device_id, encode=png):
    """Absolute differences of the engines' crops, one array for each image."""
    encoded = [encode(image) for image in images]
    engine = DaliEngine(rule, batch=len(images), threads=2, device_id=device_id)
    made = engine.images([whole(*of) for of in zip(encoded, images, strict=True)], draws, where="here")
    assert made.shape == (len(images), 3, *rule.crop_hw)
    assert made.dtype == torch.uint8
    assert made.is_contiguous(memory_format=torch.channels_last)
    assert made.device.type == ("cpu" if device_id is None else "cuda")
    found = []
    for data, drawn, ours in zip(encoded, draws, made.cpu(), strict=True):
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
        theirs, _ = augment(image, np.zeros(image.shape[:2], np.uint8), drawn)
        found.append(np.abs(ours.permute(1, 2, 0).numpy().astype(int) - theirs))
    return found


def jpeg(image):
    return cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()


@pytest.mark.parametrize("device_id", DEVICES)
def test_a_plain_and_a_mirrored_crop_are_exact(device_id):
    image, _ = textured(np.random.default_rng(0), (50, 70), 3)
    still = {"scale": 1.0, "angle_deg": 0.0, "blur": False, "corner_px": (3, 5), "crop_hw": (24, 30)}
    draws = [compose((50, 70), (50, 70), flip=flip, **still) for flip in (False, True)]
    for difference in apart([image, image], draws, AugmentConfig(crop=(24, 30)), device_id):
        assert difference.max() == 0


@pytest.mark.parametrize("device_id", DEVICES)
@pytest.mark.parametrize(
    "more", [{}, {"color_jitter": 0.25, "blur_sigma": (0.15, 1.3), "fill": "black"}], ids=["plain", "with colours"]
)
def test_random_draws_agree_on_smooth_images(device_id, more):
    """Sizes differ within a batch; padding, rotation's corners and blurred borders are all among the draws."""
    rng, rule = np.random.default_rng(1), AugmentConfig(short_side=48, crop=40, **more)
    images = [textured(rng, (40 + i % 5, 60 + i % 7), 3)[0] for i in range(48)]
    draws = [draw(rule, seed=2, step=0, slot=i, size_hw=image.shape[:2]) for i, image in enumerate(images)]
    assert len({(bool(d.angle_deg), d.blur, d.flip) for d in draws}) == 8
    assert any(d.valid != (0, 0, 40, 40) for d in draws)
    found = apart(images, draws, rule, device_id)
    assert max(difference.mean() for difference in found) < 1.0
    assert np.mean([difference.mean() for difference in found]) < 0.6
    for difference, drawn in zip(found, draws, strict=True):
        top, left, bottom, right = drawn.valid
        outside = np.ones((40, 40), bool)
        outside[top:bottom, left:right] = False
        assert (difference[outside] == 0).all()


@pytest.mark.parametrize("device_id", DEVICES)
def test_agreement_on_photographs(device_id):
    """The stated bound: 0.2 of 255 on average on the host, 1.5 with the GPU's JPEG decoder."""
    files = sorted((CAMVID / "images" / "train").glob("*.jpg"))[:8]
    if not files:
        pytest.skip(f"no photographs at {CAMVID}")
    images = [cv2.imread(str(file), cv2.IMREAD_COLOR_RGB) for file in files]
    rule = AugmentConfig(short_side=480, crop=473)
    draws = [draw(rule, seed=0, step=0, slot=i, size_hw=image.shape[:2]) for i, image in enumerate(images)]
    found = apart(images, draws, rule, device_id, jpeg)
    assert np.mean([difference.mean() for difference in found]) < (0.2 if device_id is None else 1.5)


@pytest.mark.parametrize("device_id", DEVICES)
@pytest.mark.parametrize("broken", [b"no image", b"\xff\xd8\xff\xe0 cut"])
def test_a_batch_is_the_callers_own_and_a_file_that_is_no_image_is_an_error(device_id, broken):
    image, _ = textured(np.random.default_rng(0), (50, 70), 3)
    rule = AugmentConfig(short_side=50, crop=30)
    drawn = draw(rule, seed=0, step=0, slot=0, size_hw=(50, 70))
    engine = DaliEngine(rule, batch=2, threads=1, device_id=device_id)
    first = engine.images([whole(png(image), image)], [drawn], where="here")
    kept = first.clone()
    engine.images([whole(png(255 - image), image)] * 2, [drawn] * 2, where="here")
    with pytest.raises(DataError, match="step 7: DALI cannot make the images"):
        engine.images([whole(png(image), image), whole(broken, image)], [drawn] * 2, where="step 7")
    assert torch.equal(first, kept)
    assert torch.equal(engine.images([whole(png(image), image)], [drawn], where="here"), kept)  # it lives on


@pytest.mark.parametrize("device_id", DEVICES)
def test_parts_give_the_crops_of_the_whole(device_id):
    """Of a JPEG in tiles, only those that the crop touches: nothing changes, turned or not, cut or not."""
    image, _ = textured(np.random.default_rng(3), (208, 320), 3)
    data = encode_jpeg(image, 92)
    blocks = jpeg_blocks(data)
    starts = np.cumsum((0, *blocks.sizes))
    pieces = [data[a:b] for a, b in itertools.pairwise(starts)]
    rule = AugmentConfig(short_side=208, crop=64)
    draws = [draw(rule, seed=5, step=0, slot=i, size_hw=(208, 320)) for i in range(24)]
    parts = []
    for drawn in draws:
        top, left, bottom, right = box_touched(drawn)
        first, last = max(top - 1, 0) // 16, min(bottom + 1, 208 + 15) // 16 + 1
        some = tuple(pieces[1 + first : 1 + last])
        rows = EncodedRows(top=16 * first, bottom=min(16 * last, 208), head=pieces[0], blocks=some)
        cut, (x0, x1) = cut_jpeg(rows, max(left - 1, 0), min(right + 1, 320))
        parts.append(EncodedRegion(data=cut, box=(rows.top, x0, rows.bottom, x1)))
    assert sum(part.size_hw[0] < 208 and part.size_hw[1] < 320 for part in parts) > 12
    engine = DaliEngine(rule, batch=24, threads=2, device_id=device_id)
    some = engine.images(parts, draws, where="").cpu()
    full = engine.images([whole(data, image)] * 24, draws, where="").cpu()
    assert (some.int() - full.int()).abs().max() <= 1  # a pixel's place is a float32, counted from another corner
    assert (some != full).float().mean() < 0.01
