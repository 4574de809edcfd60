import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from model.metrics import confusion, harmonic_mean, measure


def case(num_classes, *, seed, shape=(17, 23), ignored=0.2):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, num_classes, shape).astype(np.uint8)
    label[rng.random(shape) < ignored] = 255
    return label, rng.integers(0, num_classes, shape).astype(np.uint8)


def independent(label, pred, num_classes, counted):
    """The rule written out per class on flat pixels, from scikit-learn's matrix."""
    keep = label.ravel() != 255
    matrix = confusion_matrix(label.ravel()[keep], pred.ravel()[keep], labels=range(num_classes))
    ious, accs = [], []
    for c in counted:
        hit, truth, guess = int(matrix[c, c]), int(matrix[c].sum()), int(matrix[:, c].sum())
        ious.append(hit / (truth + guess - hit + 1e-10))
        accs.append(hit / (truth + 1e-10))
    return matrix, sum(ious) / len(ious), sum(accs) / len(accs), np.trace(matrix) / (matrix.sum() + 1e-10)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("counted", [None, (0, 3, 4)])
def test_measures_agree_with_scikit_learn(seed, counted):
    label, pred = case(6, seed=seed)
    matrix, miou, macc, acc = independent(label, pred, 6, range(6) if counted is None else counted)
    got = confusion(label, pred, 6)
    assert got.tolist() == matrix.tolist()
    measures = measure(got, counted)
    assert (measures.miou, measures.macc, measures.acc) == pytest.approx((miou, macc, acc), abs=1e-12)


def test_a_class_nobody_saw_counts_as_zero():
    label = np.zeros((4, 4), np.uint8)
    measures = measure(confusion(label, label, 2))
    assert measures.miou == pytest.approx(0.5, abs=1e-9)
    assert measures.iou.tolist() == pytest.approx([1.0, 0.0], abs=1e-9)
    assert measures.acc == pytest.approx(1.0, abs=1e-9)


def test_predictions_outside_the_counted_classes_stay_errors():
    label = np.array([[0, 0, 1, 1]], np.uint8)
    pred = np.array([[0, 2, 1, 1]], np.uint8)
    measures = measure(confusion(label, pred, 3), (0, 1))
    assert measures.iou[:2].tolist() == pytest.approx([0.5, 1.0], abs=1e-9)
    assert measures.acc == pytest.approx(0.75, abs=1e-9)


def test_all_ignored_is_zero_not_nan():
    label = np.full((3, 3), 255, np.uint8)
    measures = measure(confusion(label, np.zeros_like(label), 3))
    assert (measures.miou, measures.macc, measures.acc) == (0.0, 0.0, 0.0)


def test_one_pixel():
    measures = measure(confusion(np.array([[2]], np.uint8), np.array([[2]], np.uint8), 3))
    assert measures.miou == pytest.approx(1 / 3, abs=1e-9)


def test_wide_ids_do_not_wrap():
    label, pred = np.array([[255, 300]], np.int16), np.array([[3, 301]], np.int64)
    matrix = confusion(label, pred, 316)
    assert matrix.sum() == 1
    assert matrix[300, 301] == 1


def test_harmonic_mean():
    assert harmonic_mean([0.5, 0.25]) == pytest.approx(1 / 3)
    assert harmonic_mean([0.5, 0.0]) == 0.0
    with pytest.raises(ValueError, match="nothing"):
        harmonic_mean([])
