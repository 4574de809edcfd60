"""A checkpoint meets shard sets: which labels, which classes, and the pictures of what it saw."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
from torch import nn

from cli.output import Report
from cli.pictures import colorize
from model import InferConfig, evaluate, load_net, predict
from pipeline.decode import decode_image, decode_label
from shards.errors import DataError
from shards.reader import ShardSet, open_shards
from shards.schema import parse
from shards.taxonomy import Taxonomy, counted_universal, load_taxonomy, projection


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How a model is judged on a data set: which labels, in which classes, and which of them count."""

    label: Literal["native", "universal"]
    taxonomy: Taxonomy
    matrix: npt.NDArray[np.float32]
    counted: tuple[int, ...]


def protocol(model: Taxonomy, native: Taxonomy) -> Protocol:
    """The rule of MSeg for a pair of model and data set.

    A universal model is judged on a training dataset in universal classes (those its class list reaches), and on
    any other dataset in that dataset's own classes; other models in the dataset's own classes.

    Raises:
        DataError: the model's classes say nothing about the dataset's.
    """
    if model.kind == "universal" and native.kind == "train":
        universal = load_taxonomy("universal")
        matrix = projection(model, universal)
        return Protocol(label="universal", taxonomy=universal, matrix=matrix, counted=counted_universal(native))
    counted = tuple(range(native.num_classes))
    return Protocol(label="native", taxonomy=native, matrix=projection(model, native), counted=counted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """A network ready to be judged."""

    name: str
    seed: int
    net: nn.Module
    taxonomy: Taxonomy
    config: InferConfig

    @classmethod
    def load(cls, checkpoint: Path, *, short_side: int | None, crop: int | None, flip: bool | None) -> Judge:
        """Rebuild the network of a checkpoint; None leaves what its recipe says.

        Raises:
            DataError: the file is missing, damaged or no checkpoint of ours.
        """
        net, meta = load_net(str(checkpoint))
        recipe = meta["recipe"]
        stored = parse(InferConfig, recipe["eval"], at=f"{checkpoint}: recipe.eval")
        config = dataclasses.replace(
            stored,
            short_side=stored.short_side if short_side is None else short_side,
            crop=stored.crop if crop is None else crop,
            flip=stored.flip if flip is None else flip,
        )
        taxonomy = parse(Taxonomy, meta["taxonomy"], at=f"{checkpoint}: taxonomy")
        return cls(name=recipe["name"], seed=recipe["seed"], net=net, taxonomy=taxonomy, config=config)

    def on(self, url: str, report: Report, *, pictures: Path | None, num_pictures: int) -> dict[str, Any]:
        """Judge on one shard set.

        Args:
            pictures: folder that gets `DATASET/N_image.jpg`, `N_label.png` and `N_pred.png` of the first images.

        Returns:
            The row of `segstream eval --json`.

        Raises:
            DataError: the set is incomplete, its images are not at native size, or its classes do not fit.
        """
        with open_shards(url) as shards:
            rule = protocol(self.taxonomy, shards.manifest.native)
            _check_judgeable(shards)
            score = evaluate(
                self.net,
                _samples(shards, rule.label),
                classes=rule.taxonomy.classes,
                projection=rule.matrix,
                counted=rule.counted,
                config=self.config,
                progress=lambda done: report(done, len(shards)),
            )
            if pictures is not None:
                self._draw(shards, rule, pictures / shards.manifest.dataset, num_pictures)
            return {
                "dataset": shards.manifest.dataset,
                "split": shards.manifest.split,
                "url": url,
                "taxonomy": rule.taxonomy.name,
                "miou": score.miou,
                "macc": score.macc,
                "acc": score.acc,
                "classes": [{"name": c.name, "iou": c.iou, "pixels": c.pixels} for c in score.classes],
                "images": score.images,
                "manifest": shards.manifest.digest,
                "seed": self.seed,
                "inference": dataclasses.asdict(self.config),
            }

    def _draw(self, shards: ShardSet, rule: Protocol, folder: Path, count: int) -> None:
        """Pictures of samples spread over the set: photograph, label and prediction."""
        folder.mkdir(parents=True, exist_ok=True)
        chosen = np.linspace(0, len(shards) - 1, min(count, len(shards))).astype(int)
        for key, image, label in _samples(shards, rule.label, [int(i) for i in chosen]):
            pred = predict(self.net, image, [rule.matrix], self.config)[0].argmax(dim=0).cpu().numpy()
            stem = folder / key.replace("/", "_")
            _write(f"{stem}_image.jpg", image)
            _write(f"{stem}_label.png", colorize(label, rule.taxonomy.num_classes))
            _write(f"{stem}_pred.png", colorize(pred, rule.taxonomy.num_classes))


def _check_judgeable(shards: ShardSet) -> None:
    if "native" not in shards.manifest.members:
        raise DataError(f"{shards.url}: images without labels, to predict; evaluation needs a set with labels")
    if shards.manifest.split == "train":
        raise DataError(
            f"{shards.url}: a training split, stored at a reduced size; evaluation is at native size: give a val or "
            f"test split"
        )


def _write(path: str, picture: npt.NDArray[np.uint8]) -> None:
    if not cv2.imwrite(path, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)):
        raise DataError(f"{path}: cannot be written; check the folder and free space")


def _samples(
    shards: ShardSet, label: str, chosen: Iterable[int] | None = None
) -> Iterator[tuple[str, npt.NDArray[np.uint8], npt.NDArray[np.uint8]]]:
    for i in range(len(shards)) if chosen is None else chosen:
        key = shards.entry(i).key
        where = f"{shards.url}/{key}"
        image = decode_image(shards.read(i, "image"), where=where)
        yield key, image, decode_label(shards.read(i, label), where=where)
