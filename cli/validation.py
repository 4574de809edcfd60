"""Validation while a run trains: the weights so far on named shard sets, shared out among the processes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from cli.protocol import Protocol, protocols
from cli.validation_config import ValidateConfig
from model import InferConfig, Ranks, evaluate
from model.evaluate import Score, score
from pipeline.decode import decode_image, decode_label
from shards.errors import DataError
from shards.reader import ShardSet, open_shards
from shards.taxonomy import Taxonomy

Sample = tuple[str, npt.NDArray[np.uint8], npt.NDArray[Any]]


class Validation:
    """The shard sets of a recipe's `validate.data`, opened once. A context manager.

    Each process segments its share of the images; what is added up are whole numbers of pixels, so the scores are
    those of one process, whatever the number of processes.
    """

    def __init__(self, config: ValidateConfig, infer: InferConfig, model: Taxonomy, ranks: Ranks) -> None:
        """Open the sets and find the rule by which each is judged.

        Raises:
            DataError: a set is incomplete, has no labels, or the model's classes say nothing about its own.
        """
        self._ranks = ranks
        self._infer = infer if config.short_side is None else dataclasses.replace(infer, short_side=config.short_side)
        self._open = ExitStack()
        self._sets: dict[str, tuple[ShardSet, Protocol, Sequence[int]]] = {}
        try:
            for url in config.data:
                shards = self._open.enter_context(open_shards(url))
                if "native" not in shards.manifest.members:
                    raise DataError(f"validate.data: {url}: images without labels; name a set with labels")
                (rule,) = protocols(model, shards.manifest.native, shards.manifest.members)
                self._sets[_name(shards, self._sets)] = (shards, rule, spread(len(shards), config.limit))
        except BaseException:
            self._open.close()
            raise

    def __enter__(self) -> Validation:
        return self

    def __exit__(self, *raised: object) -> None:
        self._open.close()

    def scores(self, net: nn.Module) -> dict[str, Score]:
        """Score the network on every set; every process calls this and gets the same.

        Args:
            net: in eval mode; it is not changed.
        """
        return {name: self._score(net, *entry) for name, entry in self._sets.items()}

    def _score(self, net: nn.Module, shards: ShardSet, rule: Protocol, chosen: Sequence[int]) -> Score:
        classes = rule.taxonomy.classes
        share = chosen[self._ranks.rank :: self._ranks.world_size]
        total = np.zeros((len(classes), len(classes)), np.int64)
        if share:
            judged = evaluate(
                net,
                samples(shards, rule.label, share),
                classes=classes,
                projection=rule.matrix,
                counted=rule.counted,
                config=self._infer,
            )
            total = judged.confusion
        summed = self._ranks.sum_(torch.from_numpy(total)).numpy()
        return score(summed, classes=classes, counted=rule.counted, images=len(chosen))


def spread(size: int, limit: int | None) -> Sequence[int]:
    """Numbers of at most `limit` of `size` samples, evenly spread over the set, ascending, each once."""
    if limit is None or limit >= size:
        return range(size)
    return [i * size // limit for i in range(limit)]


def samples(shards: ShardSet, label: str, chosen: Sequence[int]) -> Iterator[Sample]:
    """(key, image (H, W, 3) uint8 RGB, label (H, W)) of the chosen samples, one at a time."""
    for i in chosen:
        key = shards.entry(i).key
        where = f"{shards.url}/{key}"
        yield key, decode_image(shards.read(i, "image"), where=where), decode_label(shards.read(i, label), where=where)


def headline(scores: Mapping[str, Score]) -> dict[str, float]:
    """By curve, `val/DATASET/miou` and so on, the figures of a validation; shares in 0..1."""
    return {f"val/{name}/{kind}": getattr(s, kind) for name, s in scores.items() for kind in ("miou", "macc", "acc")}


def _name(shards: ShardSet, taken: Mapping[str, Any]) -> str:
    """A set's name in curves: its dataset's; with its split where that is taken."""
    dataset, split = shards.manifest.dataset, shards.manifest.split
    name = dataset if dataset not in taken else f"{dataset}-{split}"
    if name in taken:
        raise DataError(f"validate.data: {shards.url}: a set of {name} is named twice; remove one")
    return name
