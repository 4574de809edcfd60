import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix

from segstream.model.config import InferConfig
from segstream.model.evaluation.evaluator import evaluate
from segstream.model.evaluation.protocol import Protocol
from segstream.shards.errors import DataError
from segstream.shards.taxonomy import Taxonomy

CLASSES = ("dark", "middle", "light")
CONFIG = InferConfig(crop=16, device="cpu")


class Brightness(torch.nn.Module):
    """Four classes by grey value; a stand-in for a network whose answers are known."""

    def __init__(self):
        super().__init__()
        self.levels = torch.nn.Parameter(torch.tensor([-1.8, -0.5, 0.8, 2.2]))

    def forward(self, images):
        return -30 * (images.mean(dim=1, keepdim=True) - self.levels.view(1, -1, 1, 1)) ** 2


MERGE = np.array([[1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]], np.float32)  # four grey values to three classes


class Images(list):
    """(where, image, label) triples as a data set."""

    url, dataset, split, digest = "toy/val", "toy", "val", "0"

    def read(self, numbers, members):
        return ((where, image, dict.fromkeys(members, label)) for where, image, label in (self[i] for i in numbers))


def evaluated(samples, *, classes=CLASSES, projection=MERGE, counted=(0, 1, 2), **options):
    taxonomy = Taxonomy(name="toy", kind="own", classes=classes)
    about = {"regime": "oracle", "label": "native", "projection": projection}
    protocol = Protocol(taxonomy=taxonomy, counted=counted[: len(classes)], **about)
    (result,) = evaluate(Brightness(), Images(samples), [protocol], [CONFIG], **options)
    return result


def sample(seed, size_hw=(16, 20)):
    rng = np.random.default_rng(seed)
    grey = rng.integers(0, 256, size_hw).astype(np.uint8)
    label = rng.integers(0, 3, size_hw).astype(np.uint8)
    label[rng.random(size_hw) < 0.1] = 255
    return f"key/{seed}", np.repeat(grey[..., None], 3, axis=2), label


def expected_pred(image):
    """The classes by hand: nearest level of the normalised grey value, then merged."""
    grey = image.astype(float)
    normal = ((grey - [123.675, 116.28, 103.53]) / [58.395, 57.12, 57.375]).mean(axis=2)
    nearest = np.abs(normal[..., None] - [-1.8, -0.5, 0.8, 2.2]).argmin(axis=2)
    return np.array([0, 1, 1, 2])[nearest]


def test_scores_are_those_of_the_pooled_pixels():
    samples = [sample(0), sample(1, (24, 17)), sample(2, (9, 11))]
    done = []
    result = evaluated(samples, counted=(0, 2), report=lambda n, total: done.append((n, total)))
    label = np.concatenate([s[2].ravel() for s in samples])
    pred = np.concatenate([expected_pred(s[1]).ravel() for s in samples])
    matrix = confusion_matrix(label[label != 255], pred[label != 255], labels=range(3))
    assert np.abs(result.confusion - matrix).sum() <= 4  # a grey value midway may fall either way when merged
    hit, truth, guess = result.confusion.diagonal(), result.confusion.sum(axis=1), result.confusion.sum(axis=0)
    iou = hit / (truth + guess - hit)
    assert result.miou == pytest.approx((iou[0] + iou[2]) / 2, abs=1e-9)
    assert result.acc == pytest.approx(hit.sum() / truth.sum(), abs=1e-9)
    assert [(c.name, c.pixels) for c in result.classes] == [("dark", truth[0]), ("light", truth[2])]
    assert result.images == 3
    perfect = [(key, image, expected_pred(image).astype(np.uint8)) for key, image, _ in samples[:1]]
    assert evaluated(perfect).miou == pytest.approx(1.0, abs=1e-6)
    assert done == [(n, 3) for n in range(4)]


def test_each_image_has_its_own_mean_iou_over_the_counted_classes_it_shows():
    _, image, label = sample(0)
    pred = expected_pred(image)
    only_light, unlabelled = np.where(pred == 2, 2, 255).astype(np.uint8), np.full_like(label, 255)
    samples = [(f"key/{n}", image, of_image) for n, of_image in enumerate([label, only_light, unlabelled])]
    found = evaluated([*samples, sample(1)], counted=(0, 2)).image_ious
    scored = label != 255
    ious = [(scored & (label == c) & (pred == c)).sum() / (scored & ((label == c) | (pred == c))).sum() for c in (0, 2)]
    assert found[:2] == pytest.approx([np.mean(ious), 1.0], abs=0.02)  # a grey value midway may fall either way
    assert np.isnan(found[2])
    assert len(found) == 4


KEY, IMAGE, LABEL = sample(0)


@pytest.mark.parametrize(
    ("text", "label", "options"),
    [
        (r"key/0: image is 16 x 20, label 15 x 20", LABEL[1:], {}),
        (r"key/0: label holds ids \[9\], the taxonomy has 3 classes", np.where(LABEL == 0, 9, LABEL), {}),
        (r"the network knows a class 3, the labels have 3", LABEL, {"projection": None}),
        (r"projection gives 3 classes, the labels have 2", LABEL, {"classes": CLASSES[:2]}),
    ],
)
def test_bad_samples_are_named_and_class_counts_must_agree(text, label, options):
    with pytest.raises(DataError, match=text):
        evaluated([(KEY, IMAGE, label)], **options)


def test_a_sample_that_cannot_be_segmented_is_named():
    thin = np.zeros((1, 1 << 20), np.uint8)
    with pytest.raises(DataError, match=r"key/0: an image of 1048576 x 1 would be segmented at 1048576 x \d+"):
        evaluated([(KEY, np.repeat(thin[..., None], 3, axis=2), thin)])
