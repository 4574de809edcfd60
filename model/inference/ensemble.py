"""Several models' logits of one image to one label map and one confidence, a model at a time.

Labels: the best class of the mean of the models' probabilities (`softmax`, the default), of their largest probability
per class (`max`), or of the mean of their logits (`logits`). Confidence, high where the models are sure:

    max_softmax_mean_softmax   max over classes of the mean probability
    max_softmax_min_softmax    max over classes of the least probability that any model gives it
    rba_mean_logit             -sum over classes of tanh(mean logit), from [-classes, classes] to [0, 1]

Source: the rules of the ensembles submitted to the BRAVO challenge.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from segstream.model.inference.infer import id_type
from segstream.shards.errors import DataError

Rule = Literal["softmax", "max", "logits"]
Confidence = Literal["max_softmax_mean_softmax", "max_softmax_min_softmax", "rba_mean_logit"]
Scores = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Combined:
    """What an ensemble says of an image."""

    ids: npt.NDArray[np.integer]
    """(H, W): uint8, or uint16 above 255 classes."""
    confidence: Scores
    """(H, W), 0 to 1."""


def combine(
    models: Iterable[tuple[npt.NDArray[np.floating], float]],
    *,
    rule: Rule = "softmax",
    confidence: Confidence = "max_softmax_mean_softmax",
) -> Combined:
    """Combine models.

    Args:
        models: (C, H, W) logits and a weight above 0 for each, at least one; read one after another, none is kept.
            Weights count in means, relative to their sum.

    Raises:
        DataError: there is no model, or their sizes differ.
    """
    needed = {rule, confidence}
    totals: dict[str, Scores] = {}
    sum_of_weights = 0.0
    for raw, weight in models:
        logits = raw.astype(np.float32)
        if totals and next(iter(totals.values())).shape != logits.shape:
            expected = next(iter(totals.values())).shape
            raise DataError(f"logits of {logits.shape} beside {expected}; models must agree in classes and size")
        sum_of_weights += weight
        if needed & {"logits", "rba_mean_logit"}:
            _add(totals, "logits", weight * logits)
        if needed - {"logits", "rba_mean_logit"}:
            shares = _softmax(logits)
            if needed & {"softmax", "max_softmax_mean_softmax"}:
                _add(totals, "softmax", weight * shares)
            if "max" in needed:
                totals["max"] = np.maximum(totals.get("max", shares), shares)
            if "max_softmax_min_softmax" in needed:
                totals["min"] = np.minimum(totals.get("min", shares), shares)
    if not totals:
        raise DataError("an ensemble of no model; give at least one")
    for name in ("softmax", "logits"):
        if name in totals:
            totals[name] /= sum_of_weights
    best = totals[rule].argmax(axis=0)
    return Combined(best.astype(id_type(len(totals[rule]))), _confidence(totals, confidence))


def as_uint16(confidence: Scores) -> npt.NDArray[np.uint16]:
    """Confidence as BRAVO stores it: times 65535, truncated."""
    return (confidence.clip(0, 1) * np.float32(65535)).astype(np.uint16)


def _confidence(totals: dict[str, Scores], rule: Confidence) -> Scores:
    if rule == "max_softmax_mean_softmax":
        return totals["softmax"].max(axis=0)  # type: ignore[no-any-return]
    if rule == "max_softmax_min_softmax":
        return totals["min"].max(axis=0)  # type: ignore[no-any-return]
    mean = totals["logits"]
    return (1 - np.tanh(mean).sum(axis=0) / len(mean)) / 2  # type: ignore[no-any-return]


def _add(totals: dict[str, Scores], name: str, scores: Scores) -> None:
    if name in totals:
        totals[name] += scores
    else:
        totals[name] = scores


def _softmax(logits: Scores) -> Scores:
    e: Scores = np.exp(logits - logits.max(axis=0))
    e /= e.sum(axis=0)
    return e
