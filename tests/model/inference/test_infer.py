import copy
import math

import cv2
import numpy as np
import pytest
import torch
from scipy.special import softmax
from torch.nn.functional import interpolate

from segstream.model.config import MULTI_SCALE, InferConfig
from segstream.model.inference.infer import (
    by_scale,
    check_thin,
    images_at_once,
    logits,
    num_windows,
    predict,
    resized_hw,
    segment,
    window_starts,
)
from segstream.shards.errors import DataError
from segstream.shards.taxonomy import load_taxonomy
from segstream.shards.taxonomy import projection as taxonomy_projection
from tests.model.literal_inference import MEAN, STD, literal, random_image, settled
from tests.model.plain import HMSA as TINY_HMSA
from tests.model.plain import TINY as TINY_HRNET
from tests.shards.shared import SHARED

TINY, HMSA = TINY_HRNET | {"init": "kaiming"}, TINY_HMSA | {"init": "kaiming"}
NUM = 6


@pytest.fixture(scope="module")
def net():
    return settled("hrnet-tiny", NUM, **TINY)


def scores_of(net, image, matrices, config):
    return predict(net, [image], matrices, config)[0]


def projection(num, seed=0):
    """Each source class goes to one target class or to none, as in a mapping between taxonomies."""
    targets = np.random.default_rng(seed).integers(0, num + 1, NUM)
    return (targets[None] == np.arange(num)[:, None]).astype(np.float32)


@pytest.mark.parametrize(
    ("size_hw", "short_side", "crop", "scales", "flip"),
    [
        ((40, 52), 40, 33, (1.0,), True),  # several windows, no resize
        ((61, 40), 48, 33, (1.0,), True),  # portrait, enlarged
        ((30, 30), None, 33, (1.0,), True),  # smaller than the crop both ways, odd padding
        ((20, 75), None, 33, (1.0,), False),  # smaller one way, windows the other
        ((45, 50), 40, 33, (0.5, 1.0, 1.75), True),  # padded at one scale, windows at another
        ((33, 33), None, 33, (1.0,), True),  # exactly one window
    ],
)
def test_the_procedure_is_the_literal_one(net, size_hw, short_side, crop, scales, flip):
    image = random_image(*size_hw)
    matrix = projection(3)
    config = InferConfig(crop=crop, short_side=short_side, scales=scales, flip=flip, batch=3, device="cpu")
    got, own = scores_of(net, image, [matrix, None], config)
    base = short_side or min(size_hw)
    expected = literal(net, image, matrix.astype(float), base=base, crop=crop, scales=scales, flip=flip)
    expected_own = literal(net, image, np.eye(NUM), base=base, crop=crop, scales=scales, flip=flip)
    assert got.shape == (3, *size_hw)
    np.testing.assert_allclose(got.numpy(), expected, atol=2e-5)
    np.testing.assert_allclose(own.numpy(), expected_own, atol=2e-5)
    assert (own.numpy().argmax(axis=0) == expected_own.argmax(axis=0)).mean() > 0.999


def test_a_network_that_cannot_stop_early_scores_the_same(net):
    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = net

        def forward(self, images):
            return self.inner(images)

    config = InferConfig(crop=33, device="cpu")
    one, other = (scores_of(each, random_image(40, 52), [projection(3)], config)[0] for each in (Plain().eval(), net))
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_logits_far_apart_give_probabilities(net):
    """Where exp of every shifted logit of an upsampled pixel would be 0 in float32."""
    sure = copy.deepcopy(net)
    with torch.no_grad():
        sure.last_layer[3].weight *= 1e4
    (own,) = scores_of(sure, random_image(40, 52), [None], InferConfig(crop=33, device="cpu"))
    np.testing.assert_allclose(own.sum(dim=0).numpy(), 1, atol=1e-5)


def test_windows_cover_with_the_published_strides_and_images_fill_a_pass():
    for crop, stride in ((713, 476), (593, 396), (473, 316)):
        assert window_starts(crop + stride + 1, crop) == [0, stride, stride + 1]
    assert window_starts(33, 33) == [0]
    assert window_starts(34, 33) == [0, 1]
    config = InferConfig(crop=33, batch=8, device="cpu")
    assert num_windows((50, 66), config, 1.0) == 2 * 3
    assert [images_at_once(size, config) for size in ((20, 30), (33, 34), (50, 66))] == [8, 4, 1]
    assert images_at_once((20, 30), InferConfig(crop=33, batch=8, n_scales=(1.0,), device="cpu")) == 1


@pytest.mark.parametrize(
    ("size_hw", "sides", "scale", "expected"),
    [
        ((480, 640), {"short_side": 1080}, 1.0, (1080, 1440)),
        ((3000, 4000), {"long_side": 2177}, 1.0, (1633, 2177)),
        ((4000, 3000), {"long_side": 2177}, 0.5, (1088, 816)),
        ((1024, 2048), {"long_side": 2177}, 1.0, (1088, 2177)),  # by its shorter side it would be 2176 wide
        ((2, 900), {"long_side": 90}, 1.0, (1, 90)),
        ((33, 57), {}, 1.0, (33, 57)),
    ],
)
def test_a_side_is_met_and_the_other_rounded(size_hw, sides, scale, expected):
    assert resized_hw(size_hw, InferConfig(crop=9, **sides), scale) == expected


def test_by_the_longer_side_as_by_the_shorter_one_of_the_same_size(net):
    image = random_image(40, 60)
    long, short = ({name: side} for name, side in (("long_side", 48), ("short_side", 32)))
    for more in ({}, {"scales": (0.5, 1.25)}):
        found = [scores_of(net, image, [None], InferConfig(crop=33, **side, **more))[0] for side in (long, short)]
        assert torch.equal(*found)
    with pytest.raises(DataError, match="long_side: 48, with a short_side; one of the two must be null"):
        InferConfig(crop=9, **long, **short)


@pytest.mark.parametrize(("batch", "crop", "scales"), [(5, 33, (1.0,)), (4, 71, (1.0,)), (3, 33, (0.5, 1.25))])
def test_images_share_batches_and_nothing_else(net, batch, crop, scales):
    images, matrix = [random_image(50, 66, seed) for seed in range(3)], projection(3)
    config = InferConfig(crop=crop, short_side=48, scales=scales, batch=batch, device="cpu")
    together = predict(net, images, [None, matrix], config)
    for image, scores in zip(images, together, strict=True):
        for got, expected in zip(scores, scores_of(net, image, [None, matrix], config), strict=True):
            np.testing.assert_allclose(got.numpy(), expected.numpy(), atol=1e-6)


@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0)])
@pytest.mark.parametrize("size_hw", [(120, 150), (48, 60)])  # enlarged in strips of rows; nothing to enlarge
def test_labels_are_the_best_classes_of_the_scores(net, monkeypatch, scales, size_hw):
    monkeypatch.setattr("segstream.model.inference.infer.ROW_BYTES", 4 * NUM * 150 * 7)  # seven rows at a time
    images = [random_image(*size_hw, seed) for seed in range(2)]
    config = InferConfig(crop=33, short_side=48, scales=scales, device="cpu")
    scores = predict(net, images, [None, projection(3)], config)
    for got, expected in zip(segment(net, images, [None, projection(3)], config), scores, strict=True):
        for ids, each in zip(got, expected, strict=True):
            assert (ids.dtype, ids.shape) == (np.uint8, size_hw)
            best = each.max(dim=0).values.numpy()
            chosen = np.take_along_axis(each.numpy(), ids[None].astype(int), axis=0)[0]
            np.testing.assert_allclose(chosen, best, atol=1e-6)


def test_more_than_255_classes_take_16_bits(net):
    wide = np.zeros((300, NUM), np.float32)
    wide[range(290, 290 + NUM), range(NUM)] = 1
    config = InferConfig(crop=33, device="cpu")
    image = random_image(33, 40)
    ((ids, own),) = segment(net, [image], [wide, None], config)
    assert ids.dtype == np.uint16
    np.testing.assert_array_equal(ids, own.astype(int) + 290)


@pytest.mark.parametrize(
    ("size_hw", "short_side", "crop", "refused"),
    [
        ((1, 30000), 64, 33, True),  # enlarged by its shorter side
        ((30000, 1), None, 713, True),  # padded to windows
        ((1, 30000), None, 33, False),
        ((375, 1242), 1890, 713, False),
        ((200, 3200), 1080, 713, False),
        ((400, 20000), None, 713, False),
        ((30, 9000), 60, 33, True),
    ],
)
def test_thin_images_do_not_explode(size_hw, short_side, crop, refused):
    args = size_hw, resized_hw(size_hw, InferConfig(crop=crop, short_side=short_side)), crop
    if refused:
        with pytest.raises(DataError, match="cut it into pieces at most 16 times as long"):
            check_thin(*args)
    else:
        check_thin(*args)


def test_logarithms_of_averaged_probabilities_give_them_back(net):
    image = random_image(40, 52)
    config = InferConfig(crop=33, scales=(0.5, 1.0), device="cpu")
    (own,) = scores_of(net, image, [None], config)
    np.testing.assert_allclose(logits(net, [image], None, config)[0].softmax(dim=0), own, atol=1e-6)
    merged = np.zeros((2, NUM), np.float32)
    (empty,) = logits(net, [image], merged, config)  # no class of the network's
    assert (empty == math.log(2.0**-24)).all()


@pytest.mark.parametrize("flip", [True, False])
def test_hierarchical_scales_take_the_whole_image_and_average_logits(flip):
    """Spelt out from the scales' own outputs, in float64 after the network."""
    net = settled("hmsa", NUM, **HMSA)
    image, matrix = random_image(61, 75), projection(3)
    config = InferConfig(crop=9, short_side=50, n_scales=(0.5, 1.0, 2.0), flip=flip, device="cpu")

    def up(x, size=(50, 61)):
        return interpolate(x.double(), size=size, mode="bilinear", align_corners=False)

    def combined(pixels):
        with torch.no_grad():
            low, one, two = (net.at_scale(pixels, scale) for scale in (0.5, 1.0, 2.0))
        p = one.attention * one.logits + (1 - one.attention) * up(two.logits)
        return up(low.attention * low.logits) + (1 - up(low.attention)) * p

    scaled = cv2.resize(image.astype(np.float32), (61, 50), interpolation=cv2.INTER_LINEAR)
    pixels = torch.from_numpy(((scaled - MEAN) / STD).astype(np.float32)).permute(2, 0, 1)[None]
    expected = combined(pixels)
    if flip:
        expected = (expected + combined(pixels.flip(3)).flip(3)) / 2
    expected = up(expected, (61, 75))[0].numpy()
    np.testing.assert_allclose(logits(net, [image], None, config)[0], expected, rtol=1e-4, atol=1e-3)
    shares = softmax(expected, axis=0)
    own, mapped = scores_of(net, image, [None, matrix], config)
    np.testing.assert_allclose(own, shares, atol=1e-4)
    np.testing.assert_allclose(mapped, np.tensordot(matrix, shares, axes=1), atol=1e-4)
    (log_mapped,) = logits(net, [image], matrix, config)
    np.testing.assert_allclose(log_mapped.exp(), mapped.clamp(min=2.0**-24), rtol=1e-4)
    views = by_scale(net, image, matrix, config)
    assert [*views] == [2.0, 1.0, 0.5]
    for scale, (ids, attention) in views.items():
        with torch.no_grad():
            seen = net.at_scale(pixels, scale)
        alone = np.tensordot(matrix, up(seen.logits, (61, 75))[0].softmax(dim=0), axes=1)
        assert (ids == alone.argmax(axis=0)).mean() > 0.999
        np.testing.assert_allclose(attention, up(seen.attention, (61, 75))[0, 0], atol=1e-4)


def test_scales_of_the_network_are_refused_where_they_do_not_fit(net):
    image = random_image(33, 33)
    with pytest.raises(DataError, match="only hierarchical multi-scale attention"):
        scores_of(net, image, [None], InferConfig(crop=33, n_scales=(1.0,), device="cpu"))
    with pytest.raises(DataError, match="give one"):
        InferConfig(crop=33, n_scales=(1.0,), scales=(0.5, 1.0))
    with pytest.raises(DataError, match=r"n_scales \(0.5,\)"):
        scores_of(settled("hmsa", NUM, **HMSA), image, [None], InferConfig(crop=33, n_scales=(0.5,), device="cpu"))


STREET, HORSES = "camvid/images/val/*.jpg", "mseg/samples/mseg-semantic/demo_images/bike_horses.jpg"


@pytest.mark.parametrize(
    ("pattern", "short_side", "crop", "scales"),
    [(STREET, 180, 121, (1.0,)), (STREET, 60, 49, MULTI_SCALE), (HORSES, 60, 49, MULTI_SCALE)],
)
def test_labels_of_photographs_are_the_literal_ones(pattern, short_side, crop, scales):
    """In the classes of a held-out dataset, from the universal ones."""
    photo = next(iter(sorted(SHARED.glob(pattern))), None)
    if photo is None:
        pytest.skip(f"needs the photographs {SHARED / pattern}")
    image = cv2.cvtColor(cv2.imread(str(photo)), cv2.COLOR_BGR2RGB)
    image = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    universal, held_out = load_taxonomy("universal"), load_taxonomy("camvid-11")
    matrix = taxonomy_projection(universal, held_out)
    net = settled("hrnet-tiny", universal.num_classes, **TINY)
    config = InferConfig(crop=crop, short_side=short_side, scales=scales, device="cpu")
    ((ids,),) = segment(net, [image], [matrix], config)
    expected = literal(net, image, matrix.astype(float), base=short_side, crop=crop, scales=scales, flip=True)
    assert (ids == expected.argmax(axis=0)).mean() >= 0.995
    assert len(np.unique(ids)) > 3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0)])
def test_a_gpu_gives_the_same_labels(net, scales):
    images, matrices = [random_image(120, 150, seed) for seed in range(3)], [None, projection(3)]
    config = InferConfig(crop=33, short_side=48, scales=scales)
    on_gpu = copy.deepcopy(net).to(device="cuda", memory_format=torch.channels_last)
    labels = [segment(each, images, matrices, config) for each in (on_gpu, net)]
    for got, expected in zip(*labels, strict=True):
        for a, b in zip(got, expected, strict=True):
            assert (a == b).mean() > 0.995  # a GPU may convolve in TF32
