"""Several models' logits of one image to one label map and one confidence, a model at a time.

Labels: the best class of the mean of the models' probabilities (`softmax`, the default), of their largest probability
per class (`max`), or of the mean of their logits (`logits`). Confidence, high where the models are sure:

    max_softmax_mean_softmax   max over classes of the mean probability
    max_softmax_min_softmax    max over classes of the least probability that any model gives it
    rba_mean_logit             sum over classes of tanh(mean logit), from [-classes, classes] to [0, 1]

Source: the rules of the ensembles submitted to the BRAVO challenge; of the last one the negative, RbA ("rejected by
all"), is an outlier's score.
"""

from collections.abc import Iterable
from typing import Literal

import numpy as np
import numpy.typing as npt

from segstream.model.inference.infer import Ids, id_type, softmax
from segstream.shards.errors import DataError

Rule = Literal["softmax", "max", "logits"]
Confidence = Literal["max_softmax_mean_softmax", "max_softmax_min_softmax", "rba_mean_logit"]
Scores = npt.NDArray[np.float32]
LARGEST_16_BIT = 65535  # a confidence of 1
FOLDS = {"softmax": np.add, "logits": np.add, "max": np.maximum, "min": np.minimum}
"""How models are put together: weighted sums of probabilities or logits; the largest or least probability."""
FOLD_OF = {"max_softmax_mean_softmax": "softmax", "max_softmax_min_softmax": "min", "rba_mean_logit": "logits"}


def combine(
    models: Iterable[tuple[npt.NDArray[np.floating], float]],
    *,
    rule: Rule = "softmax",
    confidence: Confidence = "max_softmax_mean_softmax",
) -> tuple[Ids, Scores]:
    """Combine models.

    Args:
        models: (C, H, W) logits and a weight above 0 for each, at least one; read one after another, none is kept.
            Weights count in means, relative to their sum.

    Returns:
        (H, W) ids, uint8, or uint16 above 255 classes; (H, W) confidence, 0 to 1.

    Raises:
        DataError: there is no model, or their sizes differ.
    """
    needed = {rule, FOLD_OF[confidence]}
    totals: dict[str, Scores] = {}
    sum_of_weights = 0.0
    for raw, weight in models:
        logits = raw.astype(np.float32)
        if totals and totals[rule].shape != logits.shape:
            raise DataError(f"logits of {logits.shape} beside {totals[rule].shape}; models must agree in both")
        sum_of_weights += weight
        shares = softmax(logits) if needed != {"logits"} else logits
        for name in needed:
            scores = logits if name == "logits" else shares
            scores = weight * scores if FOLDS[name] is np.add else scores
            totals[name] = FOLDS[name](totals[name], scores) if name in totals else scores
    if not totals:
        raise DataError("an ensemble of no model; give at least one")
    for name in needed & {"softmax", "logits"}:
        totals[name] /= sum_of_weights
    ids = totals[rule].argmax(axis=0).astype(id_type(len(totals[rule])))
    basis = totals[FOLD_OF[confidence]]
    if confidence == "rba_mean_logit":
        return ids, (1 + np.tanh(basis).sum(axis=0) / len(basis)) / 2
    return ids, basis.max(axis=0)


def as_uint16(confidence: Scores) -> npt.NDArray[np.uint16]:
    """Confidence as BRAVO stores it: times 65535, truncated."""
    return (confidence.clip(0, 1) * np.float32(LARGEST_16_BIT)).astype(np.uint16)
