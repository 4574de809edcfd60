"""Who is judged and on what: the network of a checkpoint, the labelled images of a shard set."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import nn

from cli.protocol import RELABELED, Protocol, Scheme, protocols
from model import InferConfig, load_net
from model.evaluate import View
from model.image import pick_device
from pipeline.decode import decode_image, decode_label
from shards.errors import DataError
from shards.reader import ShardSet, open_shards
from shards.schema import parse
from shards.taxonomy import Taxonomy

Sample = tuple[str, npt.NDArray[np.uint8], dict[str, npt.NDArray[np.uint8]]]
"""Where it lies, for errors; image (H, W, 3) RGB; label maps (H, W) by member."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """A network ready to be judged."""

    name: str
    seed: int
    checkpoint: str
    """SHA-256 of its file."""
    net: nn.Module
    taxonomy: Taxonomy
    learnt_relabeled: bool
    """Whether it was trained on relabelled labels."""
    configs: tuple[InferConfig, ...]
    """How to segment: one for every shorter side."""

    @classmethod
    def load(
        cls,
        checkpoint: Path,
        *,
        short_sides: Sequence[int | None] | None = None,
        scales: tuple[float, ...] | None = None,
        crop: int | None = None,
        flip: bool | None = None,
    ) -> Judge:
        """Rebuild the network of a checkpoint; None leaves what its recipe says.

        Args:
            short_sides: one configuration for each; a None among them is the images' own size.

        Raises:
            DataError: the file is missing, damaged, no checkpoint of ours, or has another number of classes than its
                taxonomy.
        """
        net, meta = load_net(str(checkpoint))
        recipe = meta["recipe"]
        stored = parse(InferConfig, recipe["eval"], at=f"{checkpoint}: recipe.eval")
        taxonomy = parse(Taxonomy, meta["taxonomy"], at=f"{checkpoint}: taxonomy")
        if meta["num_classes"] != taxonomy.num_classes:
            raise DataError(
                f"{checkpoint}: the network has {meta['num_classes']} classes, its taxonomy {taxonomy.name!r} has "
                f"{taxonomy.num_classes}; train again, or restore the file"
            )
        config = dataclasses.replace(
            stored,
            scales=stored.scales if scales is None else scales,
            crop=stored.crop if crop is None else crop,
            flip=stored.flip if flip is None else flip,
        )
        sides = [stored.short_side] if short_sides is None else dict.fromkeys(short_sides)
        with checkpoint.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return cls(
            name=recipe["name"],
            seed=recipe["seed"],
            checkpoint=sha256,
            net=net.to(pick_device(config.device)),
            taxonomy=taxonomy,
            learnt_relabeled=recipe["data"].get("taxonomy") == RELABELED,
            configs=tuple(dataclasses.replace(config, short_side=side) for side in sides),
        )


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
                projection=p.matrix,
                label=p.label,
                relabeled=RELABELED if p.relabeled else None,
            )
            for p in self.protocols
        )

    def sample(self, i: int) -> Sample:
        """Key, image and labels of a sample.

        Raises:
            DataError: it cannot be read or decoded.
        """
        key = self.shards.entry(i).key
        where = f"{self.url}/{key}"
        members = {name: None for view in self.views for name in (view.label, view.relabeled) if name is not None}
        image = decode_image(self.shards.read(i, "image"), where=where)
        return where, image, {name: decode_label(self.shards.read(i, name), where=where) for name in members}
