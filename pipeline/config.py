"""What a stream of batches is made of: frozen, checked at construction, nowhere a second default."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal, get_args

from segstream.shards.errors import DataError, did_you_mean
from segstream.shards.schema import parse
from segstream.shards.storage.base import below

EngineName = Literal["auto", "dali", "opencv"]
FILLS = {"mean": (124, 116, 104), "black": (0, 0, 0)}
"""What an image shows outside its canvas, RGB; the ImageNet mean 123.675, 116.28, 103.53 in whole numbers."""
LabelTaxonomy = Literal["universal", "universal-relabeled", "native", "naive"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassUniformConfig:
    """Sampling by class: a share of a dataset's slots goes to crops that hold a class, each class as often as any."""

    share: float
    """Of the slots of every epoch, above 0 to 1; the others are plain samples."""
    only: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Split -> names of classes: the split gives samples for these classes, no others and no plain ones; an epoch does
    not count it."""

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise DataError(f"share: {self.share}; must be above 0, to 1; without class_uniform all samples are plain")


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """Which samples, and in which taxonomy their labels."""

    shards: str
    """Folder or URL that holds DATASET/SPLIT/ for every dataset of the mix."""
    mix: dict[str, int | float | str]
    """Dataset -> weight: its share of the slots relative to the others'. A number, or a fraction such as "1/3"."""
    split: str | tuple[str, ...] = "train"
    """One split, or several whose samples are trained on as one set: [train, val] or train+val."""
    taxonomy: LabelTaxonomy = "universal"
    """`universal`; `universal-relabeled`: the same after MSeg's relabelling; `native`: the dataset's own classes;
    `naive`: classes merged by name."""
    window: int = 4
    """Shards whose samples are shuffled together; more is a better shuffle, fewer is kinder to a remote store."""
    class_uniform: dict[str, Any] | None = None
    """Sampling by class: fields of `ClassUniformConfig` for all datasets, or DATASET -> fields. None: none."""

    def __post_init__(self) -> None:
        if not self.mix:
            raise DataError("data.mix: empty; name at least one dataset, as `DATASET: 1`")
        if self.window < 1:
            raise DataError(f"data.window: {self.window}; at least 1 shard is needed")
        if self.taxonomy not in get_args(LabelTaxonomy):
            raise DataError(f"data.taxonomy: {self.taxonomy!r}; write one of {', '.join(get_args(LabelTaxonomy))}")
        shares(self.mix)
        if not self.splits or len(set(self.splits)) < len(self.splits) or not all(self.splits):
            raise DataError(f"data.split: {self.split!r}; name one split, or several once each, as train+val")
        for name, sampling in self.sampling.items():
            for split in sampling.only.keys() - set(self.splits):
                hint = did_you_mean(split, self.splits)
                raise DataError(f"data.class_uniform, {name}: only.{split}: no split of data.split; {hint}")
            if not self.plain_splits(name):
                raise DataError(f"data.class_uniform, {name}: only: no split is left for plain samples; leave one out")

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits that are joined, usually one."""
        return tuple(self.split.split("+") if isinstance(self.split, str) else self.split)

    @property
    def sampling(self) -> dict[str, ClassUniformConfig]:
        """By dataset, how it is sampled by class; datasets that are not are left out.

        Raises:
            DataError: `class_uniform` names a dataset that is not of the mix, or has another form.
        """
        given = self.class_uniform or {}
        by_dataset = dict.fromkeys(self.mix, given) if "share" in given else given
        for name in by_dataset.keys() - self.mix.keys():
            hint = did_you_mean(name, [*self.mix, "share"])
            raise DataError(f"data.class_uniform.{name}: no dataset of data.mix; {hint}")
        at = "data.class_uniform"
        return {name: parse(ClassUniformConfig, fields, at=f"{at}, {name}") for name, fields in by_dataset.items()}

    def plain_splits(self, dataset: str) -> tuple[str, ...]:
        """The splits whose samples an epoch counts: those that do not only give samples for some classes."""
        sampled = self.sampling.get(dataset)
        return tuple(split for split in self.splits if sampled is None or split not in sampled.only)

    def urls(self, dataset: str) -> dict[str, str]:
        """By split, plain ones first, where the shard sets of one dataset of the mix lie."""
        plain = self.plain_splits(dataset)
        ordered = sorted(self.splits, key=lambda split: split not in plain)
        return {split: below(self.shards, dataset, split) for split in ordered}


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentConfig:
    """Random geometry, blur and colours of a training crop; the defaults are the rule MSeg was trained with."""

    short_side: int | None = 1080
    """Pixels; the image's shorter side is first resized to this, up or down. None: by `long_side`, or as stored."""
    long_side: int | None = None
    """Pixels; resize the longer side to this instead, the shorter one truncated to whole pixels."""
    crop: int | tuple[int, int] = 713
    """Pixels; one number for a square, or [height, width]."""
    scale: tuple[float, float] = (0.5, 2.0)
    """Resize factor, uniform between the two."""
    rotate_deg: tuple[float, float] = (-10.0, 10.0)
    """Degrees counter-clockwise about the centre, uniform between the two."""
    rotate_p: float = 0.5
    """Share of samples that are rotated at all."""
    blur_p: float = 0.5
    """Share of samples that get a Gaussian blur."""
    blur_sigma: tuple[float, float] | None = None
    """Its sigma in pixels, uniform between the two; None: 5 x 5 pixels."""
    flip_p: float = 0.5
    """Share of samples that are mirrored left to right."""
    color_jitter: float = 0.0
    """Strength s: brightness, contrast and saturation by factors in 1 - s to 1 + s, hue by -s to s of its circle (half
    of it at most), in random order, of every sample. 0: none."""
    fill: Literal["mean", "black"] = "mean"
    """Outside the image: ImageNet's mean colour, or black."""

    def __post_init__(self) -> None:
        for name, side in {"short_side": self.short_side, "long_side": self.long_side}.items():
            if side is not None and side < 1:
                raise DataError(f"augment.{name}: {side}; at least 1 pixel is needed")
        if self.short_side is not None and self.long_side is not None:
            raise DataError(f"augment.long_side: {self.long_side}, with a short_side; one of the two must be null")
        if min(self.crop_hw) < 1:
            raise DataError(f"augment.crop: {self.crop}; both sides need at least 1 pixel")
        ranges = {"scale": self.scale, "rotate_deg": self.rotate_deg, "blur_sigma": self.blur_sigma or (1.0, 1.0)}
        for name, (low, high) in ranges.items():
            if not -math.inf < low <= high < math.inf:
                raise DataError(f"augment.{name}: [{low}, {high}]; write [low, high] with low <= high")
            if low <= 0 and name != "rotate_deg":
                raise DataError(f"augment.{name}: [{low}, {high}]; must be above 0")
        for name in ("rotate_p", "blur_p", "flip_p", "color_jitter"):
            if not 0 <= getattr(self, name) <= 1:
                raise DataError(f"augment.{name}: {getattr(self, name)}; must lie between 0 and 1")

    @property
    def crop_hw(self) -> tuple[int, int]:
        """(height, width) of a crop, pixels."""
        return (self.crop, self.crop) if isinstance(self.crop, int) else self.crop


@dataclass(frozen=True, kw_only=True, slots=True)
class LoaderConfig:
    """How much is loaded at a time. Only `batch` has a say in which samples come."""

    batch: int
    """Samples in a step, all ranks together."""
    threads: int = 0
    """Threads that read, decode and augment; 0: one per processor core this process may use."""
    prefetch: int = 2
    """Batches being made ahead of the one in use."""
    engine: EngineName = "opencv"
    """What makes the crops: `opencv` on the processor, `dali` on a GPU (extra `dali`; without a GPU on the processor,
    slowly), `auto`: DALI where there is a GPU and DALI. The same draws and labels; images within interpolation."""

    def __post_init__(self) -> None:
        for name, least in {"batch": 1, "threads": 0, "prefetch": 1}.items():
            if (value := getattr(self, name)) < least:
                raise DataError(f"loader.{name}: {value}; at least {least} is needed")
        if self.engine not in get_args(EngineName):
            raise DataError(f"loader.engine: {self.engine!r}; write one of {', '.join(get_args(EngineName))}")


def shares(mix: Mapping[str, int | float | str]) -> dict[str, Fraction]:
    """Exact shares of a mix, adding up to 1. A float counts as the decimal it prints as: 0.1 is 1/10.

    Raises:
        DataError: a weight that is no number above 0.
    """
    weights = {}
    for name, value in mix.items():
        try:
            weights[name] = Fraction(str(value).replace(" ", ""))
        except (ValueError, ZeroDivisionError):
            weights[name] = Fraction(0)
        if weights[name] <= 0:
            raise DataError(
                f"data.mix.{name}: weight {value!r} is no number above 0; write a number or a fraction such as 1/3, "
                f"or leave the dataset out"
            )
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}
