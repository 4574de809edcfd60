"""How well confidences tell right pixels from wrong and known objects from unknown; the temperature of a model.

Pixels are counted by stored confidence, of which there are 65,536, so that any number of images takes the same memory
and the measures are exact: those of the BRAVO challenge (Vu et al., 2024), over all pixels of a subset together.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from segstream.model.evaluation.metrics import Confusion, confusion
from segstream.model.inference.infer import softmax
from segstream.shards.errors import DataError
from segstream.shards.taxonomy import IGNORE_INDEX

LEVELS = 1 << 16
CENTRES = (np.arange(LEVELS) + 0.5) / LEVELS  # what a stored confidence means
BINS, RECALL = 15, 0.95
COLDEST, HOTTEST = 0.01, 100.0  # temperatures
Levels = npt.NDArray[np.int64]
"""(LEVELS,) pixels by stored confidence."""
Ids = npt.NDArray[np.integer]


def count(
    pred: Ids, confidence: npt.NDArray[np.uint16], label: Ids, unknown: Ids, num_classes: int, picked: Any = slice(None)
) -> tuple[Confusion, npt.NDArray[np.int64]]:
    """Count the pixels of an image; counts of images add up.

    Args:
        pred: (H, W) ids, 0 .. K - 1, or 255 for no class, which is wrong.
        confidence: (H, W).
        label: (H, W) ids, 0 .. K - 1, or 255 = ignored.
        unknown: (H, W): 1 on objects of no class, 0 elsewhere, 255 = ignored; only 0 leaves a label its class.
        num_classes: K.
        picked: indices of the flat pixels whose confidences count; the confusion is of all.

    Returns:
        (K, K + 1) confusion, the last column for predictions of no class; (4, LEVELS) pixels by stored confidence:
        right, wrong; known, unknown.
    """
    known = np.where(unknown == 0, label, IGNORE_INDEX)
    valid, hit = known != IGNORE_INDEX, known == pred
    groups = np.stack([valid & hit, valid & ~hit, unknown == 0, (unknown != 0) & (unknown != IGNORE_INDEX)])
    stored = confidence.ravel()[picked]
    levels = [np.bincount(stored[group], minlength=LEVELS) for group in groups.reshape(4, -1)[:, picked]]
    return confusion(known, pred, num_classes, no_class=True), np.stack(levels)


def curve(hits: Levels, others: Levels) -> tuple[float | None, float | None, float | None]:
    """How a rising score finds hits among others.

    Returns:
        Area under the ROC curve; area under precision over recall, by steps; the share of the others that score as high
        as 95% of the hits. None where there are no hits or no others.
    """
    found, false = (np.append(0, counts[::-1].cumsum()) for counts in (hits, others))
    if not found[-1] or not false[-1]:
        return None, None, None
    recall, fallout, precision = found / found[-1], false / false[-1], found / np.maximum(found + false, 1)
    area = float(np.diff(fallout) @ (recall[1:] + recall[:-1]) / 2)
    return area, float(np.diff(recall) @ precision[1:]), float(fallout[np.searchsorted(recall, RECALL)])


def reliability(right: Levels, wrong: Levels) -> list[tuple[float, float, float]]:
    """(mean confidence, accuracy, share of the pixels) of each of 15 bins of confidence that has pixels."""
    starts, total = np.round(np.linspace(0, LEVELS, BINS + 1)).astype(np.int64)[:-1], right + wrong
    sums = np.stack([np.add.reduceat(counts, starts) for counts in (total * CENTRES, right, total)], axis=1)
    return [(sure / n, hits / n, n / float(total.sum())) for sure, hits, n in sums.tolist() if n]


def success(right: Levels, wrong: Levels) -> dict[str, float | None]:
    """How confidences tell right from wrong, in 0..1; None where all or no pixels are right."""
    bins, (auroc, aupr, fpr95) = reliability(right, wrong), curve(right, wrong)
    found: dict[str, float | None] = {"accuracy": sum(accuracy * share for _, accuracy, share in bins)}
    found["ece"] = sum(share * abs(sure - accuracy) for sure, accuracy, share in bins)
    error = curve(wrong[::-1], right[::-1])[1]
    return found | {"auroc": auroc, "aupr_success": aupr, "aupr_error": error, "fpr95": fpr95}


def fit_temperature(margins: Sequence[npt.NDArray[np.float32]]) -> float:
    """The T at which softmax(logits / T) gives the labels the greatest likelihood, by bisection of its slope.

    Args:
        margins: for each image (classes, pixels) logits minus that of the pixel's label.

    Raises:
        DataError: it would be outside 0.01 .. 100, as where every label is the class with the highest logit.
    """
    low, high = COLDEST, HOTTEST
    for _ in range(40):
        middle = math.sqrt(low * high)
        grows = sum(float((softmax(z / middle) * z).sum()) for z in margins) > 0  # the likelihood, with T
        low, high = (middle, high) if grows else (low, middle)
    if low == COLDEST or high == HOTTEST:
        raise DataError(f"no temperature in {COLDEST} .. {HOTTEST:g} fits the labels best; give labels of more images")
    return middle
