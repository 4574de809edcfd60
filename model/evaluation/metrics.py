"""Scores of label maps: pure functions of pixel counts.

Pixels whose label is 255 are left out, and counts are summed over all images before anything is divided. What becomes
of a class that occurs nowhere is the rule's: `mseg` (Lambert et al., CVPR 2020) scores it 0, `hmsa` (Tao et al., 2020,
hierarchical multi-scale attention) leaves it out of the means.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from segstream.model.evaluation.protocol import Rule
from segstream.shards.taxonomy import IGNORE_INDEX

EPS = 1e-10
Confusion = npt.NDArray[np.int64]
"""(K, K) pixels, rows = label, columns = prediction; or (K, K + 1): the last column is a prediction of no class."""
Shares = npt.NDArray[np.float64]


def confusion(
    label: npt.NDArray[Any], pred: npt.NDArray[Any], num_classes: int, *, no_class: bool = False
) -> Confusion:
    """Count pixels by label and prediction.

    Args:
        label: (H, W) integers, 0 .. K - 1, or 255 = ignored.
        pred: (H, W) integers, 0 .. K - 1 wherever the label is not ignored.
        num_classes: K.
        no_class: `pred` may be 255 there too, which is wrong whatever the label; such pixels get their own column.

    Returns:
        (K, K) int64, rows = label, columns = prediction; with `no_class` (K, K + 1).
    """
    scored = label != IGNORE_INDEX
    guess = pred[scored]
    columns = num_classes
    if no_class:
        guess = np.where(guess == IGNORE_INDEX, num_classes, guess)
        columns += 1
    pairs = label[scored].astype(np.int64) * columns + guess
    return np.bincount(pairs, minlength=num_classes * columns).reshape(num_classes, columns)


def unrelabel(
    pred: npt.NDArray[Any], label: npt.NDArray[Any], relabeled: npt.NDArray[Any]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Compare predictions of a model that learnt relabelled labels with the labels as they were released.

    Where relabelling changed a pixel, the model is right if it says what the pixel became, and wrong whatever else it
    says, its released class included; pixels that relabelling took the class from are ignored. Source: MSeg's
    evaluation of relabelled models on its training datasets.

    Args:
        pred: (H, W) class ids.
        label: (H, W) released ids, 255 = ignored.
        relabeled: (H, W) ids after relabelling, 255 = ignored.

    Returns:
        (H, W) predictions, where 255 says no class, and (H, W) labels, for `confusion(..., no_class=True)`.
    """
    moved = np.where(pred == relabeled, label, IGNORE_INDEX)
    rewritten = np.where(label == relabeled, pred, moved)
    return rewritten, np.where(relabeled == IGNORE_INDEX, IGNORE_INDEX, label)


def measure(
    confusion_KK: Confusion, counted: Sequence[int] | None = None, *, rule: Rule = "mseg"
) -> tuple[dict[str, Any], Shares, Shares]:
    """Condense a confusion matrix.

    Args:
        confusion_KK: (K, K) or (K, K + 1) pixel counts, see `Confusion`.
        counted: classes over which the means go; None for all. Predictions of the others stay errors.
        rule: what a class counts that occurs in neither labels nor predictions (`miou`) or not in labels (`macc`):
            0 (mseg) or nothing (hmsa).

    Returns:
        `miou`, the mean IoU over the counted classes, `macc`, the mean of their accuracies, and `acc`, the share of all
        labelled pixels that were right; (K,) IoU of every class, counted or not; (K,) accuracy of every class: which
        share of its labelled pixels was found. In 0..1; with the rule `hmsa` NaN where there is nothing to divide by.
    """
    num_classes = len(confusion_KK)
    hit = confusion_KK.diagonal().astype(np.float64)
    labelled = confusion_KK.sum(axis=1).astype(np.float64)
    union = labelled + confusion_KK[:, :num_classes].sum(axis=0) - hit
    iou, accuracy = _share(hit, union, rule), _share(hit, labelled, rule)
    over = slice(None) if counted is None else np.asarray(counted, np.int64)
    acc = float(_share(hit.sum(keepdims=True), labelled.sum(keepdims=True), rule)[0])
    return {"miou": _mean(iou[over]), "macc": _mean(accuracy[over]), "acc": acc}, iou, accuracy


def _share(part: Shares, whole: Shares, rule: Rule) -> Shares:
    if rule == "mseg":
        return part / (whole + EPS)
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)


def _mean(values: Shares) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")


def harmonic_mean(values: Iterable[float]) -> float:
    """n / sum(1 / x); 0 as soon as one value is 0.

    Raises:
        ValueError: no value at all.
    """
    xs = list(values)
    if not xs:
        raise ValueError("the harmonic mean of nothing")
    return 0.0 if min(xs) <= 0 else len(xs) / sum(1.0 / x for x in xs)
