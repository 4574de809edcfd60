"""Scores of label maps: pure functions of pixel counts.

Every figure follows MSeg's rule (Lambert et al., CVPR 2020): pixels whose label is 255 are left out, counts are summed
over all images before anything is divided, and a class that occurs in neither labels nor predictions scores 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shards.taxonomy import IGNORE_INDEX

EPS = 1e-10
Confusion = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """Shares in 0..1."""

    miou: float
    """Mean IoU over the counted classes."""
    macc: float
    """Mean over the counted classes of the share of a class' pixels that were found."""
    acc: float
    """Share of all labelled pixels that were right."""
    iou: npt.NDArray[np.float64]
    """(K,) of every class, counted or not."""


def confusion(label: npt.NDArray[Any], pred: npt.NDArray[Any], num_classes: int) -> Confusion:
    """Count pixels by label and prediction.

    Args:
        label: (H, W) integers, 0 .. K - 1, or 255 = ignored.
        pred: (H, W) integers, 0 .. K - 1 wherever the label is not ignored.
        num_classes: K.

    Returns:
        (K, K) int64, rows = label, columns = prediction.
    """
    scored = label != IGNORE_INDEX
    pairs = label[scored].astype(np.int64) * num_classes + pred[scored]
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def measure(confusion_KK: Confusion, counted: Sequence[int] | None = None) -> Measures:
    """Condense a confusion matrix.

    Args:
        confusion_KK: (K, K) pixel counts, rows = label, columns = prediction.
        counted: classes over which the means go; None for all. Predictions of the others stay errors.
    """
    hit = confusion_KK.diagonal().astype(np.float64)
    labelled = confusion_KK.sum(axis=1).astype(np.float64)
    union = labelled + confusion_KK.sum(axis=0) - hit
    iou = hit / (union + EPS)
    accuracy = hit / (labelled + EPS)
    over = np.arange(len(hit)) if counted is None else np.asarray(counted, np.int64)
    return Measures(
        miou=float(iou[over].mean()),
        macc=float(accuracy[over].mean()),
        acc=float(hit.sum() / (labelled.sum() + EPS)),
        iou=iou,
    )


def harmonic_mean(values: Iterable[float]) -> float:
    """n / sum(1 / x); 0 as soon as one value is 0.

    Raises:
        ValueError: no value at all.
    """
    xs = list(values)
    if not xs:
        raise ValueError("the harmonic mean of nothing")
    return 0.0 if min(xs) <= 0 else len(xs) / sum(1.0 / x for x in xs)
