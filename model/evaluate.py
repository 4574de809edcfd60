"""Score a network on labelled images at their native size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from model.config import InferConfig
from model.image import pick_device
from model.infer import predict
from model.metrics import Confusion, confusion, measure
from shards.errors import DataError
from shards.taxonomy import IGNORE_INDEX


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassScore:
    """One counted class."""

    name: str
    iou: float
    """0..1; 0 for a class that occurs in neither labels nor predictions."""
    pixels: int
    """Labelled pixels of the class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What a network reached on one dataset; shares in 0..1."""

    miou: float
    macc: float
    acc: float
    classes: tuple[ClassScore, ...]
    """The counted classes, by id."""
    images: int
    confusion: Confusion
    """(K, K) pixels, rows = label, columns = prediction; all classes."""


def evaluate(
    net: nn.Module,
    samples: Iterable[tuple[str, npt.NDArray[np.uint8], npt.NDArray[Any]]],
    *,
    classes: Sequence[str],
    projection: npt.NDArray[np.float32] | None,
    counted: Sequence[int] | None,
    config: InferConfig,
    progress: Callable[[int], None] | None = None,
) -> Score:
    """Segment every image, compare with its label, sum up.

    Args:
        net: any network that in eval mode maps images to logits; moved to `config.device` and put in eval mode.
        samples: (key, image (H, W, 3) RGB uint8, label (H, W) integers with 255 = ignored), one at a time.
        classes: names of the taxonomy the labels are in, by id.
        projection: (K', K) matrix from the network's classes to these; None if they are the same.
        counted: ids over which the means go; None for all.
        config: how to segment.
        progress: called with the number of images done.

    Raises:
        DataError: there is no sample, a label has another size than its image or an id that `classes` lacks (names
            the key), or the projection gives another number of classes.
    """
    if projection is not None and len(projection) != len(classes):
        raise DataError(f"the projection gives {len(projection)} classes, the labels have {len(classes)}")
    net = net.to(pick_device(config.device)).eval()
    total = np.zeros((len(classes), len(classes)), np.int64)
    images = 0
    for key, image, label in samples:
        _check(key, image, label, len(classes))
        scores = predict(net, image, [projection], config)[0]
        if len(scores) != len(classes):
            raise DataError(f"the network has {len(scores)} classes, the labels {len(classes)}; give a projection")
        total += confusion(label, scores.argmax(dim=0).cpu().numpy(), len(classes))
        images += 1
        if progress is not None:
            progress(images)
    if images == 0:
        raise DataError("nothing to evaluate: the data set holds no sample; check its split and limit")
    return score(total, classes=classes, counted=counted, images=images)


def score(total: Confusion, *, classes: Sequence[str], counted: Sequence[int] | None, images: int) -> Score:
    """The Score of a confusion matrix, (K, K) summed over `images`."""
    measures = measure(total, counted)
    pixels = total.sum(axis=1)
    ids = range(len(classes)) if counted is None else counted
    rows = tuple(ClassScore(name=classes[i], iou=float(measures.iou[i]), pixels=int(pixels[i])) for i in ids)
    return Score(miou=measures.miou, macc=measures.macc, acc=measures.acc, classes=rows, images=images, confusion=total)


def _check(key: str, image: npt.NDArray[np.uint8], label: npt.NDArray[Any], num_classes: int) -> None:
    if image.shape[:2] != label.shape:
        (h, w), (label_h, label_w) = image.shape[:2], label.shape
        raise DataError(f"{key}: image is {h} x {w}, label {label_h} x {label_w}; convert the dataset again")
    wrong = (label != IGNORE_INDEX) & ((label < 0) | (label >= num_classes))
    if wrong.any():
        ids = np.unique(label[wrong])[:8].tolist()
        raise DataError(f"{key}: label holds ids {ids}, the taxonomy has {num_classes} classes; check which it is in")
