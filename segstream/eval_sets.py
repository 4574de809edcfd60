"""Who is judged and on what: the network of a checkpoint, the labelled images of a shard set."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from segstream.cli.predictions.predictor import configured, own_classes
from segstream.model.config import InferConfig
from segstream.model.evaluation.evaluate import View
from segstream.model.evaluation.protocol import RELABELED, Protocol, Scheme, protocols
from segstream.model.networks.weights import file_sha256, load_any
from segstream.pipeline.decode import decode_image, decode_label
from segstream.shards.errors import DataError
from segstream.shards.format.reader import ShardSet, open_shards
from segstream.shards.taxonomy import Taxonomy

Sample = tuple[str, npt.NDArray[np.uint8], dict[str, npt.NDArray[np.uint8]]]
"""Where it lies, for errors; image (H, W, 3) RGB; label maps (H, W) by member."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """How to segment, as far as a user says so; None leaves what the checkpoint's recipe says."""

    short_sides: Sequence[int | None] | None = None
    """A configuration for each; a None among them is the images' own size."""
    scales: tuple[float, ...] | None = None
    n_scales: tuple[float, ...] | None = None
    crop: int | None = None
    flip: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """A network ready to be judged."""

    name: str
    seed: int | None
    """Of its run; None for a published checkpoint."""
    checkpoint: str
    """SHA-256 of its file."""
    net: nn.Module
    taxonomy: Taxonomy
    learnt_relabeled: bool
    """Whether it was trained on relabelled labels."""
    configs: tuple[InferConfig, ...]
    """How to segment: one for every shorter side."""

    @classmethod
    def load(cls, checkpoint: Path, asked: Asked) -> Judge:
        """Rebuild the network of a checkpoint, ours or a published one, on the CPU.

        Raises:
            DataError: the file is missing, damaged or of no known kind, its classes are unknown, or their number is
                not that of the network's.
            UsageError: a file without a head.
        """
        net, meta = load_any(checkpoint)
        taxonomy = own_classes(checkpoint, meta)
        if taxonomy is None:
            raise DataError(
                f"{checkpoint}: nothing says what its {meta['num_classes']} classes are; it cannot be judged"
            )
        recipe = meta.get("recipe")
        config = configured(
            checkpoint, net, meta, scales=asked.scales, n_scales=asked.n_scales, crop=asked.crop, flip=asked.flip
        )
        sides = [config.short_side] if asked.short_sides is None else dict.fromkeys(asked.short_sides)
        return cls(
            name=recipe["name"] if recipe else checkpoint.stem,
            seed=recipe["seed"] if recipe else None,
            checkpoint=file_sha256(checkpoint),
            net=net,
            taxonomy=taxonomy,
            learnt_relabeled=_learnt_relabeled(checkpoint, recipe),
            configs=tuple(dataclasses.replace(config, short_side=side) for side in sides),
        )


def _learnt_relabeled(checkpoint: Path, recipe: Mapping[str, Any] | None) -> bool:
    """A recipe says so; of MSeg's published files the name does, by their authors' own rule."""
    if recipe is not None:
        return bool(recipe["data"].get("taxonomy") == RELABELED)
    return "mseg" in checkpoint.stem and "unrelabeled" not in checkpoint.stem


@dataclass(frozen=True, slots=True, kw_only=True)
class Exam:
    """A shard set on which a model is judged, in one way or several."""

    url: str
    shards: ShardSet
    protocols: tuple[Protocol, ...]

    @classmethod
    def open(cls, judge: Judge, url: str, *, schemes: Sequence[Scheme], relabeled: bool | None) -> Exam:
        """Open a set and find out how this model is judged on it.

        Raises:
            DataError: the set is incomplete, has no labels, its images are not at native size, or its classes do not
                fit the model's.
        """
        shards = open_shards(url)
        manifest = shards.manifest
        if "native" not in manifest.members:
            raise DataError(f"{url}: images without labels, to predict; evaluation needs a set with labels")
        if manifest.split == "train":
            raise DataError(
                f"{url}: a training split, stored at a reduced size; evaluation is at native size: give a val or "
                f"test split"
            )
        if len(shards) == 0:
            raise DataError(f"{url}: nothing to evaluate: the set holds no sample; check its split and limit")
        try:
            found = protocols(
                judge.taxonomy,
                manifest.native,
                manifest.members,
                schemes=schemes,
                learnt_relabeled=judge.learnt_relabeled,
                relabeled=relabeled,
            )
        except DataError as error:
            raise DataError(f"{url}: {error}") from error
        return cls(url=url, shards=shards, protocols=found)

    @property
    def views(self) -> tuple[View, ...]:
        """The protocols as the model's room knows them."""
        return tuple(
            View(
                classes=p.taxonomy.classes,
                projection=None if _is_identity(p.matrix) else p.matrix,
                label=p.label,
                relabeled=RELABELED if p.relabeled else None,
            )
            for p in self.protocols
        )

    def sample(self, i: int) -> Sample:
        """Where a sample lies, its image, and the labels that the protocols need.

        Raises:
            DataError: it cannot be read or decoded.
        """
        where = f"{self.url}/{self.shards.entry(i).key}"
        members = dict.fromkeys(p.label for p in self.protocols) | dict.fromkeys(
            RELABELED for p in self.protocols if p.relabeled
        )
        image = decode_image(self.shards.read(i, "image"), where=where)
        return where, image, {name: decode_label(self.shards.read(i, name), where=where) for name in members}


def _is_identity(matrix: npt.NDArray[np.float32]) -> bool:
    return matrix.shape[0] == matrix.shape[1] and bool(np.array_equal(matrix, np.eye(len(matrix))))
