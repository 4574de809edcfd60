import copy
import math

import cv2
import numpy as np
import pytest
import torch

from model import InferConfig, build, predict
from model.infer import resize_short_side, window_starts

TINY = {"stem": 8, "stage1_width": 4, "widths": [4, 4, 6, 8], "blocks": 1, "init": "kaiming"}
MEAN, STD = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
NUM = 6


@pytest.fixture(scope="module")
def net():
    """A random network with settled batch norm, confident enough that an average in the wrong place would show."""
    net = build("hrnet-tiny", NUM, seed=5, **TINY)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    images = torch.stack([torch.from_numpy(random_image(64, 64, seed)).float() for seed in range(4)])
    with torch.no_grad():
        logits = net((images.permute(0, 3, 1, 2) - 120) / 57).logits
        net.last_layer[3].weight *= 2 / logits.std()
    return net.eval()


def literal(net, image, matrix, *, base, crop, scales, flip):
    """The procedure step by step in float64, one window at a time; the network itself runs in float64 too."""
    native_h, native_w = image.shape[:2]
    total = np.zeros((len(matrix), native_h, native_w))
    for scale in scales:
        short = round(scale * base)
        if native_h > native_w:
            new_h, new_w = round(short / native_w * native_h), short
        else:
            new_h, new_w = short, round(short / native_h * native_w)
        scaled = cv2.resize(image.astype(np.float64), (new_w, new_h), interpolation=cv2.INTER_LINEAR)
        full_h, full_w = max(new_h, crop), max(new_w, crop)
        top, left = (full_h - new_h) // 2, (full_w - new_w) // 2
        padded = np.empty((full_h, full_w, 3))
        padded[:] = MEAN
        padded[top : top + new_h, left : left + new_w] = scaled
        sums, visits = np.zeros((len(matrix), full_h, full_w)), np.zeros((full_h, full_w))
        stride = math.ceil(crop * 2 / 3)
        for i in range(math.ceil((full_h - crop) / stride) + 1):
            for j in range(math.ceil((full_w - crop) / stride) + 1):
                bottom, right = min(i * stride + crop, full_h), min(j * stride + crop, full_w)
                y, x = bottom - crop, right - crop
                window = (padded[y:bottom, x:right] - MEAN) / STD
                scores = projected(net, window, matrix)
                if flip:
                    scores = (scores + projected(net, window[:, ::-1], matrix)[:, :, ::-1]) / 2
                sums[:, y:bottom, x:right] += scores
                visits[y:bottom, x:right] += 1
        maps = (sums / visits)[:, top : top + new_h, left : left + new_w]
        total += np.stack([cv2.resize(m, (native_w, native_h), interpolation=cv2.INTER_LINEAR) for m in maps])
    return total / len(scales)


def projected(net, window, matrix):
    images = torch.from_numpy(np.ascontiguousarray(window.transpose(2, 0, 1)))[None]
    with torch.no_grad():
        logits = net.double()(images)[0].numpy()
    net.float()
    e = np.exp(logits - logits.max(axis=0))
    return np.tensordot(matrix, e / e.sum(axis=0), axes=1)


def random_image(h, w, seed=0):
    noise = np.random.default_rng(seed).integers(0, 256, (h // 4 + 2, w // 4 + 2, 3)).astype(np.uint8)
    return cv2.resize(noise, (w, h), interpolation=cv2.INTER_LINEAR)


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
    got, own = predict(net, image, [matrix, None], config)
    base = short_side or min(size_hw)
    expected = literal(net, image, matrix.astype(float), base=base, crop=crop, scales=scales, flip=flip)
    expected_own = literal(net, image, np.eye(NUM), base=base, crop=crop, scales=scales, flip=flip)
    assert got.shape == (3, *size_hw)
    np.testing.assert_allclose(got.numpy(), expected, atol=2e-5)
    np.testing.assert_allclose(own.numpy(), expected_own, atol=2e-5)
    assert (own.numpy().argmax(axis=0) == expected_own.argmax(axis=0)).mean() > 0.999


def test_probabilities_are_mapped_before_argmax(net):
    """Two halves of a class may lose one by one and win together."""
    image = random_image(33, 33)
    config = InferConfig(crop=33, flip=False, device="cpu")
    (own,) = predict(net, image, [None], config)
    merged = np.zeros((2, NUM), np.float32)
    strongest = int(own.mean(dim=(1, 2)).argmax())
    merged[1] = 1
    merged[:, strongest] = 1, 0
    (scores,) = predict(net, image, [merged], config)
    np.testing.assert_allclose(scores[1].numpy(), (1 - own[strongest]).numpy(), atol=1e-6)
    assert ((own.argmax(dim=0) == strongest) & (scores.argmax(dim=0) == 1)).any()


def test_flip_makes_prediction_mirror_symmetric(net):
    image = random_image(33, 33)
    config = InferConfig(crop=33, device="cpu")
    (one,) = predict(net, image, [None], config)
    (two,) = predict(net, np.ascontiguousarray(image[:, ::-1]), [None], config)
    np.testing.assert_allclose(one.numpy(), two.numpy()[:, :, ::-1], atol=1e-6)


def test_a_network_that_cannot_stop_early_scores_the_same(net):
    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = net

        def forward(self, images):
            return self.inner(images)

    image, matrix = random_image(40, 52), projection(3)
    config = InferConfig(crop=33, device="cpu")
    np.testing.assert_allclose(
        predict(Plain().eval(), image, [matrix], config)[0], predict(net, image, [matrix], config)[0], atol=1e-6
    )


def test_logits_far_apart_give_probabilities(net):
    """Where exp of every shifted logit of an upsampled pixel would be 0 in float32."""
    sure = copy.deepcopy(net)
    with torch.no_grad():
        sure.last_layer[3].weight *= 1e4
    (own,) = predict(sure, random_image(40, 52), [None], InferConfig(crop=33, device="cpu"))
    np.testing.assert_allclose(own.sum(dim=0).numpy(), 1, atol=1e-5)


def test_the_batch_of_windows_changes_nothing(net):
    image = random_image(70, 90)
    one, many = (predict(net, image, [None], InferConfig(crop=33, batch=batch, device="cpu"))[0] for batch in (1, 16))
    np.testing.assert_allclose(one.numpy(), many.numpy(), atol=1e-6)


def test_windows_cover_and_the_published_strides():
    for crop, stride in ((713, 476), (593, 396), (473, 316)):
        assert window_starts(crop + stride + 1, crop) == [0, stride, stride + 1]
    assert window_starts(33, 33) == [0]
    assert window_starts(34, 33) == [0, 1]


def test_resizing_keeps_the_shorter_side():
    assert resize_short_side(np.zeros((50, 75, 3), np.uint8), 30).shape == (30, 45, 3)
    assert resize_short_side(np.zeros((75, 50, 3), np.uint8), 31).shape == (46, 31, 3)  # 46.5 to even
    image = random_image(20, 30)
    assert (resize_short_side(image, 20) == image).all()
