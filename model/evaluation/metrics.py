"""From label maps to an EvalResult: pixel counts, the shares they make, and what comes out of an evaluation.

Pixels whose label is 255 are left out, and counts are summed over all images before anything is divided. What becomes
of a class that occurs nowhere is the rule's: `mseg` (Lambert et al., CVPR 2020) scores it 0, `hmsa` (Tao et al., 2020,
hierarchical multi-scale attention) leaves it out of the means.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from segstream.model.config import InferConfig, used
from segstream.model.evaluation.protocol import Protocol, Rule
from segstream.shards.errors import DataError
from segstream.shards.schema import parse
from segstream.shards.taxonomy import IGNORE_INDEX

EPS = 1e-10
NOT_STORED = ("protocol", "confusion", "image_ious", "images_per_s")  # fields of EvalResult that files do not hold
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
    columns = num_classes + no_class
    if no_class:
        guess = np.where(guess == IGNORE_INDEX, num_classes, guess)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassResult:
    """One counted class; shares in 0..1."""

    name: str
    iou: float | None
    """Of a class that occurs in neither labels nor predictions 0, with the rule `hmsa` None."""
    accuracy: float | None = None
    """The share of its labelled pixels that was found; without any 0, with the rule `hmsa` None."""
    pixels: int
    """Labelled pixels of the class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalResult:
    """What a model reached on one data set, evaluated and segmented in one way; shares in 0..1.

    `segstream eval --json` prints a list of these. Fields that have a default may be missing in files.
    """

    dataset: str
    split: str | None = None
    url: str | None = None
    """Of the shard set."""
    taxonomy: str
    """Whose classes the labels hold."""
    regime: str | None = None
    """See `model.evaluation.protocol`."""
    relabeled: bool = False
    rule: Rule = "mseg"
    short_side: int | None = None
    """None: the images' own, or by `long_side`."""
    long_side: int | None = None
    scales: tuple[float, ...] = (1.0,)
    miou: float
    macc: float
    acc: float
    classes: tuple[ClassResult, ...]
    """The counted classes, by id."""
    images: int
    manifest: str | None = None
    """Digest of the shard set's manifest."""
    model: str | None = None
    """Its recipe, or the name of its file."""
    checkpoint: str | None = None
    """SHA-256 of its file."""
    seed: int | None = None
    """Of the model's run."""
    inference: dict[str, Any] = field(default_factory=dict)
    """Fields of `InferConfig`."""
    max: bool = False
    """Whether no other side gave a better mIoU."""

    protocol: Protocol | None = None
    """How it was evaluated; this and what follows is not stored in files."""
    confusion: Confusion | None = None
    """Pixels of all classes."""
    image_ious: Shares = field(default_factory=lambda: np.zeros(0))
    """(images,) the mean IoU of each alone, over the counted classes in its labels or predictions; NaN without any."""
    images_per_s: float | None = None
    """Reading included, at all configurations together; None if all images were finished before."""

    @property
    def side(self) -> str:
        """How images were resized, for people: `480`, `long 2177` or `native`."""
        return f"long {self.long_side}" if self.long_side else str(self.short_side or "native")

    @classmethod
    def of(cls, confusion: Confusion, protocol: Protocol, config: InferConfig, **facts: Any) -> Self:
        """The result of a confusion matrix summed over all images.

        Args:
            facts: further fields.

        Raises:
            DataError: the rule leaves absent classes out, and no pixel is labelled at all.
        """
        means, iou, accuracy = measure(confusion, protocol.counted, rule=protocol.rule)
        if math.isnan(means["miou"]) or math.isnan(means["macc"]):
            raise DataError("no pixel of a class that counts is labelled: there is nothing to score; check the labels")
        pixels, names = confusion.sum(axis=1), protocol.taxonomy.classes
        return cls(
            taxonomy=protocol.taxonomy.name,
            regime=protocol.regime,
            relabeled=protocol.relabeled,
            rule=protocol.rule,
            short_side=config.short_side,
            long_side=config.long_side,
            scales=config.scales,
            inference=used(config),
            classes=tuple(
                ClassResult(name=names[i], iou=_or_none(iou[i]), accuracy=_or_none(accuracy[i]), pixels=int(pixels[i]))
                for i in protocol.counted
            ),
            protocol=protocol,
            confusion=confusion,
            **means,
            **facts,
        )

    @classmethod
    def from_json(cls, row: Any, *, at: str) -> Self:
        """What `to_json` gave; keys of later versions are left out.

        Args:
            at: names the file and row in errors.

        Raises:
            DataError: a key is missing, or a value of the wrong kind.
        """
        values = _known(cls, row, at=at)
        classes = values.get("classes", ())
        if not isinstance(classes, list):
            raise DataError(f"{at}.classes: expected a list, found {classes!r}")
        values["classes"] = [_known(ClassResult, c, at=f"{at}.classes[{i}]") for i, c in enumerate(classes)]
        return parse(cls, values, at=at)

    def to_json(self) -> dict[str, Any]:
        """Plain values: an element of what `segstream eval --json` prints, the same on any machine."""
        row = asdict(replace(self, protocol=None, confusion=None))
        return {name: value for name, value in row.items() if name not in NOT_STORED}


def _or_none(share: float) -> float | None:
    return None if math.isnan(share) else float(share)


def _known(cls: type, values: Any, *, at: str) -> dict[str, Any]:
    """Only the keys that this version knows and files hold."""
    if not isinstance(values, Mapping):
        raise DataError(f"{at}: expected `key: value` pairs, found {values!r}")
    names = {f.name for f in fields(cls)} - set(NOT_STORED)
    return {key: value for key, value in values.items() if key in names}
