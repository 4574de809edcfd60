"""What an evaluation gives, from the confusion matrix to the table, the report and the JSON."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from segstream.model.config import InferConfig
from segstream.model.evaluation.metrics import Confusion, measure
from segstream.model.evaluation.protocol import Protocol, Rule
from segstream.shards.errors import DataError
from segstream.shards.schema import parse


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
    """None: the images' own."""
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
    """Whether no other shorter side gave a better mIoU."""

    protocol: Protocol | None = None
    """How it was evaluated; this and what follows is not stored in files."""
    confusion: Confusion | None = None
    """Pixels of all classes."""
    images_per_s: float | None = None
    """Reading included, at all configurations together; None if all images were finished before."""

    @classmethod
    def of(cls, confusion: Confusion, protocol: Protocol, config: InferConfig, **facts: Any) -> EvalResult:
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
            scales=config.scales,
            inference=dataclasses.asdict(config),
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
    def from_json(cls, row: Any, *, at: str) -> EvalResult:
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
        row = dataclasses.asdict(dataclasses.replace(self, protocol=None, confusion=None))
        return {name: value for name, value in row.items() if name not in NOT_STORED}


NOT_STORED = ("protocol", "confusion", "images_per_s")


def _or_none(share: float) -> float | None:
    return None if math.isnan(share) else float(share)


def _known(cls: type, values: Any, *, at: str) -> dict[str, Any]:
    """Only the keys that this version knows and files hold."""
    if not isinstance(values, Mapping):
        raise DataError(f"{at}: expected `key: value` pairs, found {values!r}")
    names = {f.name for f in dataclasses.fields(cls)} - set(NOT_STORED)
    return {key: value for key, value in values.items() if key in names}
