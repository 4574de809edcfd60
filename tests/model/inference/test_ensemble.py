"""Against the rules written out in float64."""

import weakref
from typing import get_args

import numpy as np
import pytest
from scipy.special import softmax

from segstream.model.inference.ensemble import Confidence, as_uint16, combine
from segstream.shards.errors import DataError

WEIGHTS = (2.0, 1.0, 0.5)


def dumps(classes=5, seed=0, count=3):
    rng = np.random.default_rng(seed)
    return [(rng.normal(0, 3, (classes, 9, 11))).astype(np.float16) for _ in range(count)]


def expected(logits, weights, rule, confidence):
    wide = np.stack(logits).astype(np.float64)
    shares = softmax(wide, axis=1)
    mean = np.average(shares, axis=0, weights=weights)
    mean_logit = np.average(wide, axis=0, weights=weights)
    scores = {"softmax": mean, "max": shares.max(axis=0), "logits": mean_logit}[rule]
    sure = {
        "max_softmax_mean_softmax": mean.max(axis=0),
        "max_softmax_min_softmax": shares.min(axis=0).max(axis=0),
        "rba_mean_logit": (np.tanh(mean_logit).sum(axis=0) + len(mean)) / (2 * len(mean)),
    }[confidence]
    return scores, sure


@pytest.mark.parametrize("rule", ["softmax", "max", "logits"])
@pytest.mark.parametrize("confidence", ["max_softmax_mean_softmax", "max_softmax_min_softmax", "rba_mean_logit"])
@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), WEIGHTS])
def test_every_rule(rule, confidence, weights):
    logits = dumps()
    ids, sure_of = combine(zip(logits, weights, strict=True), rule=rule, confidence=confidence)
    scores, sure = expected(logits, weights, rule, confidence)
    np.testing.assert_array_equal(ids, scores.argmax(axis=0))
    assert ids.dtype == np.uint8
    np.testing.assert_allclose(sure_of, sure, atol=1e-6)
    other = expected(logits, weights, "max" if rule == "softmax" else "softmax", confidence)[0]
    assert (ids != other.argmax(axis=0)).any()  # the rules differ on such logits


@pytest.mark.parametrize("confidence", get_args(Confidence))
def test_every_confidence_is_higher_where_the_label_is_right(confidence):
    """Models that see the true class of half of the pixels, and of the others nothing."""
    rng = np.random.default_rng(0)
    truth, seen = rng.integers(0, 5, (40, 40)), rng.random((40, 40)) < 0.5
    clear = 6.0 * (np.arange(5)[:, None, None] == truth) * seen
    ids, sure = combine([(clear + rng.normal(-2, 1, (5, 40, 40)), 1.0) for _ in range(3)], confidence=confidence)
    right = ids == truth
    assert (sure[right][:, None] > sure[~right][None, :]).mean() > 0.75  # AUROC


def test_models_are_not_kept():
    """The stream may hold any number of them: of those given before, one at most is still there."""
    given = []

    def stream():
        for seed in range(5):
            assert sum(each() is not None for each in given) <= 1
            (logits,) = dumps(seed=seed, count=1)
            given.append(weakref.ref(logits))
            yield logits, 1.0
            del logits

    assert combine(stream())[0].shape == (9, 11)


def test_sixteen_bits_are_truncated_and_taken_by_more_than_255_classes():
    confidence = np.array([[0.0, 0.5, 0.99999, 1.0, 1.5, -1.0]], np.float32)
    np.testing.assert_array_equal(as_uint16(confidence), [[0, 32767, 65534, 65535, 65535, 0]])
    logits = np.zeros((300, 1, 1), np.float16)
    logits[299] = 1
    assert combine([(logits, 1.0)])[0].tolist() == [[299]]


def test_models_must_agree():
    with pytest.raises(DataError, match=r"logits of \(5, 9, 11\) beside \(4, 9, 11\)"):
        combine([(dumps(4)[0], 1.0), (dumps(5)[0], 1.0)])
    with pytest.raises(DataError, match="no model"):
        combine([])
