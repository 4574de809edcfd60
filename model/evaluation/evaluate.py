"""Score a network on labelled images at their native size."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from segstream.model.config import InferConfig
from segstream.model.device import pick_device
from segstream.model.evaluation.metrics import Confusion, Rule, confusion, measure, unrelabel
from segstream.model.inference.infer import segment
from segstream.shards.errors import DataError
from segstream.shards.taxonomy import IGNORE_INDEX

Labels = Mapping[str, npt.NDArray[Any]]
"""An image's label maps by name, each (H, W) integers with 255 = ignored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One way to judge what a network says of an image: in which classes, by which label."""

    classes: tuple[str, ...]
    """Names by id."""
    projection: npt.NDArray[np.float32] | None
    """(K', K) matrix from the network's classes to these; None if they are the same."""
    label: str = "label"
    """Which of the image's labels."""
    relabeled: str | None = None
    """The label that the network learnt from, where it differs: `model.metrics.unrelabel` then applies."""

    def zeros(self) -> Confusion:
        """The counts of no image: (K', K'), with `relabeled` (K', K' + 1)."""
        num_classes = len(self.classes)
        return np.zeros((num_classes, num_classes + (self.relabeled is not None)), np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassScore:
    """One counted class."""

    name: str
    iou: float | None
    """0..1; of a class that occurs in neither labels nor predictions 0, with the rule `hmsa` None."""
    accuracy: float | None
    """0..1, the share of its labelled pixels that was found; without any 0, with the rule `hmsa` None."""
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
    """Of all classes."""


def evaluate(
    net: nn.Module,
    samples: Iterable[tuple[str, npt.NDArray[np.uint8], npt.NDArray[Any]]],
    *,
    classes: Sequence[str],
    projection: npt.NDArray[np.float32] | None,
    counted: Sequence[int] | None,
    config: InferConfig,
    progress: Callable[[int], None] | None = None,
    rule: Rule = "mseg",
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
        rule: what absent classes count, see `model.metrics.measure`.

    Raises:
        DataError: there is no sample, a label has another size than its image or an id that `classes` lacks (names
            the key), or the projection gives another number of classes.
    """
    view = View(classes=tuple(classes), projection=projection)
    net = net.to(pick_device(config.device)).eval()
    total = view.zeros()
    images = 0
    for key, image, label in samples:
        total += tally(net, image, {view.label: label}, [view], config, key=key)[0]
        images += 1
        if progress is not None:
            progress(images)
    if images == 0:
        raise DataError("nothing to evaluate: the data set holds no sample; check its split and limit")
    return score(total, classes=classes, counted=counted, images=images, rule=rule)


def tally(
    net: nn.Module,
    image: npt.NDArray[np.uint8],
    labels: Labels,
    views: Sequence[View],
    config: InferConfig,
    *,
    key: str,
) -> list[Confusion]:
    """Pixel counts of one image in every view, from the same forward passes.

    Args:
        net: in eval mode, on its device.
        image: (H, W, 3) RGB.
        labels: at least those that the views name.
        key: names the sample in errors.

    Raises:
        DataError: as `evaluate`.
    """
    for view in views:
        if view.projection is not None and len(view.projection) != len(view.classes):
            raise DataError(f"the projection gives {len(view.projection)} classes, the labels have {len(view.classes)}")
        for name in filter(None, (view.label, view.relabeled)):
            _check(key, image, labels[name], len(view.classes))
    counts = []
    preds = segment(net, [image], [v.projection for v in views], config)[0]
    for view, pred in zip(views, preds, strict=True):
        if pred.max() >= len(view.classes):
            raise DataError(
                f"the network knows a class {pred.max()}, the labels have {len(view.classes)}; give a projection"
            )
        label = labels[view.label]
        if view.relabeled is not None:
            pred, label = unrelabel(pred, label, labels[view.relabeled])
        counts.append(confusion(label, pred, len(view.classes), no_class=view.relabeled is not None))
    return counts


def score(
    total: Confusion,
    *,
    classes: Sequence[str],
    counted: Sequence[int] | None,
    images: int,
    rule: Rule = "mseg",
) -> Score:
    """The Score of a confusion matrix summed over `images`.

    Raises:
        DataError: the rule leaves absent classes out, and no pixel is labelled at all.
    """
    measures = measure(total, counted, rule=rule)
    if math.isnan(measures.miou) or math.isnan(measures.macc):
        raise DataError("no pixel of a class that counts is labelled: there is nothing to score; check the labels")
    pixels = total.sum(axis=1)
    rows = tuple(
        ClassScore(
            name=classes[i],
            iou=_defined(measures.iou[i]),
            accuracy=_defined(measures.accuracy[i]),
            pixels=int(pixels[i]),
        )
        for i in (range(len(classes)) if counted is None else counted)
    )
    return Score(miou=measures.miou, macc=measures.macc, acc=measures.acc, classes=rows, images=images, confusion=total)


def _defined(share: float) -> float | None:
    return None if math.isnan(share) else float(share)


def _check(key: str, image: npt.NDArray[np.uint8], label: npt.NDArray[Any], num_classes: int) -> None:
    if image.shape[:2] != label.shape:
        (h, w), (label_h, label_w) = image.shape[:2], label.shape
        raise DataError(f"{key}: image is {h} x {w}, label {label_h} x {label_w}; convert the dataset again")
    wrong = (label != IGNORE_INDEX) & ((label < 0) | (label >= num_classes))
    if wrong.any():
        ids = np.unique(label[wrong])[:8].tolist()
        raise DataError(f"{key}: label holds ids {ids}, the taxonomy has {num_classes} classes; check which it is in")
