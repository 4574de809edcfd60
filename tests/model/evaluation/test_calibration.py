"""The measures against rules that sort every pixel, written out, and scikit-learn's; temperatures that are known."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.special import softmax
from sklearn import metrics

from segstream.model.evaluation.calibration import CENTRES, LEVELS, count, curve, fit_temperature, reliability, success
from segstream.shards.errors import DataError

K = 5
SHAPE = (60, 70)


def image(seed, levels=LEVELS):
    """Ids, confidences that tell something, labels with void, a mask with both; few levels make many ties."""
    rng = np.random.default_rng(seed)
    label = rng.choice([0, 1, 2, 3, 255], SHAPE)  # class 4 occurs in predictions alone
    pred = np.where(rng.random(SHAPE) < 0.7, label % 255, rng.integers(0, K, SHAPE)).astype(np.uint8)
    sure = np.clip(rng.random(SHAPE) * 0.6 + 0.4 * (pred == label), 0, 1 - 1e-9)
    unknown = rng.choice([0, 0, 0, 1, 255], SHAPE)
    return pred, (np.floor(sure * levels) * (LEVELS // levels)).astype(np.uint16), label, unknown


def literal_curve(hits, score):
    """ROC and precision-recall by going down the sorted scores, all of one score at once."""
    order = np.argsort(-score, kind="stable")
    hits, score = hits[order], score[order]
    area = steps = 0.0
    fpr95 = None
    ends = [*np.flatnonzero(np.diff(score)) + 1, len(score)]
    points = [(0, 0), *((int(hits[:end].sum()), int((~hits[:end]).sum())) for end in ends)]
    positives, negatives = points[-1]
    for (tp0, fp0), (tp, fp) in pairwise(points):
        area += (fp - fp0) / negatives * (tp + tp0) / 2 / positives
        steps += (tp - tp0) / positives * tp / (tp + fp)
        if fpr95 is None and tp / positives >= 0.95:
            fpr95 = fp / negatives
    return area, steps, fpr95


def literal_ece(right, level):
    """15 bins whose edges are rounded to stored confidences."""
    edges = [round(LEVELS * n / 15) for n in range(16)]
    ece = 0.0
    for low, high in pairwise(edges):
        within = (level >= low) & (level < high)
        if within.any():
            ece += within.mean() * abs(right[within].mean() - ((level[within] + 0.5) / 65536).mean())
    return ece


@pytest.mark.parametrize("levels", [16, LEVELS])
def test_measures_of_several_images_are_those_of_all_their_pixels(levels):
    images = [image(seed, levels) for seed in range(3)]
    confusion, histograms = (sum(parts) for parts in zip(*(count(*i, K) for i in images), strict=True))
    pred, sure, label, unknown = (np.concatenate([i[n].ravel() for i in images]) for n in range(4))
    valid = (label != 255) & (unknown == 0)
    right, score = (pred == label)[valid], sure[valid].astype(np.int64)
    found = success(*histograms[:2])
    area, precision, fpr95 = literal_curve(right, score)
    expected = {"accuracy": right.mean(), "ece": literal_ece(right, score), "auroc": area, "aupr_success": precision}
    expected |= {"aupr_error": literal_curve(~right, -score)[1], "fpr95": fpr95}
    assert found == pytest.approx(expected, abs=1e-9)
    judged = unknown != 255
    ood = (unknown == 1)[judged], 65535 - sure[judged].astype(np.int64)
    assert curve(histograms[3][::-1], histograms[2][::-1]) == pytest.approx(literal_curve(*ood), abs=1e-9)
    for hits, scores, (auroc, aupr, at95) in ((right, score, (area, precision, fpr95)), (*ood, literal_curve(*ood))):
        assert metrics.roc_auc_score(hits, scores) == pytest.approx(auroc, abs=1e-9)
        assert metrics.average_precision_score(hits, scores) == pytest.approx(aupr, abs=1e-9)
        fpr, tpr, _ = metrics.roc_curve(hits, scores, drop_intermediate=False)
        assert fpr[(tpr >= 0.95).argmax()] == pytest.approx(at95, abs=1e-9)
    np.testing.assert_array_equal(
        confusion[:, :K], metrics.confusion_matrix(label[valid], pred[valid], labels=range(K))
    )
    assert not confusion[:, K].any()


def test_sampled_pixels_count_for_confidences_alone_and_no_class_is_wrong():
    pred, sure, label, unknown = image(3)
    pred[0, :9] = 255
    picked = np.arange(0, pred.size, 7)
    confusion, histograms = count(pred, sure, label, unknown, K, picked)
    assert confusion.sum() == ((label != 255) & (unknown == 0)).sum()
    assert confusion[:, K].sum() == ((label != 255) & (unknown == 0))[0, :9].sum() > 0
    valid = ((label != 255) & (unknown == 0)).ravel()[picked]
    right = (pred == label).ravel()[picked][valid]
    np.testing.assert_array_equal(histograms[0], np.bincount(sure.ravel()[picked][valid][right], minlength=LEVELS))
    assert histograms[:2].sum() == valid.sum()
    assert histograms[2:].sum() == (unknown.ravel()[picked] != 255).sum()


def test_what_is_not_defined_is_none():
    all_right = np.bincount([3, 9], minlength=LEVELS)
    found = success(all_right, all_right * 0)
    assert found.pop("accuracy") == 1
    assert found.pop("ece") == pytest.approx(1 - np.mean(CENTRES[[3, 9]]))
    assert set(found.values()) == {None}


def test_bins_of_the_reliability_diagram():
    right, wrong = np.zeros((2, LEVELS), np.int64)
    right[[0, 4368, 65535]], wrong[[4368, 4369]] = (1, 1, 2), (1, 3)  # the first bin ends at 4369 = 65536 / 15, rounded
    rows = [(np.mean(CENTRES[[0, 4368, 4368]]), 2 / 3, 3 / 8), (CENTRES[4369], 0, 3 / 8), (CENTRES[-1], 1, 2 / 8)]
    assert reliability(right, wrong) == [pytest.approx(row) for row in rows]


@pytest.mark.parametrize("temperature", [0.4, 1, 2.5])
def test_a_known_temperature_is_found_and_mends_the_calibration(temperature):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (K, 40_000))
    p = softmax(logits, axis=0)
    labels = (p.cumsum(axis=0) > rng.random(40_000)).argmax(axis=0)  # drawn from what the logits say
    logits = (logits * temperature).astype(np.float32)
    margins = logits - logits[labels, np.arange(40_000)]
    assert fit_temperature(np.split(margins, 4, axis=1)) == pytest.approx(temperature, rel=0.02)


def test_no_temperature_fits_labels_that_are_all_first_or_all_last():
    margins = np.array([[0.0, 0], [-1, -2]], np.float32)
    for hopeless in (margins, -margins):
        with pytest.raises(DataError, match=r"no temperature in 0\.01 \.\. 100"):
            fit_temperature([hopeless])
