"""Validation while a run trains: the weights so far on named shard sets, shared out among the processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn

from segstream.eval_sets import Exam, Judge
from segstream.model.distributed import ProcessGroup
from segstream.model.evaluation.evaluate import Score, score, tally
from segstream.recipe import ValidateConfig
from segstream.shards.errors import DataError


class Validation:
    """The shard sets of a recipe's `validate.data`, opened once. A context manager.

    Each process segments its share of the images; what is added up are whole numbers of pixels, so the scores are
    those of one process, whatever the number of processes.
    """

    def __init__(self, config: ValidateConfig, judge: Judge, ranks: ProcessGroup) -> None:
        """Open the sets and find the rule by which each is judged.

        Args:
            judge: whose classes are judged, and how images are segmented; its network is not used.

        Raises:
            DataError: a set is incomplete, has no labels, or the model's classes say nothing about its own.
        """
        self._ranks = ranks
        self._config = judge.configs[0]
        self._open = ExitStack()
        self._sets: dict[str, tuple[Exam, Sequence[int]]] = {}
        try:
            for url in config.data:
                exam = Exam.open(judge, url, schemes=("auto",), relabeled=None)
                self._open.callback(exam.shards.close)
                self._sets[_name(exam, self._sets)] = exam, spread(len(exam.shards), config.limit)
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

    def _score(self, net: nn.Module, exam: Exam, chosen: Sequence[int]) -> Score:
        (view,) = exam.views
        total = view.zeros()
        for i in chosen[self._ranks.rank :: self._ranks.world_size]:
            where, image, labels = exam.sample(i)
            total += tally(net, image, labels, [view], self._config, key=where)[0]
        summed = self._ranks.sum_(torch.from_numpy(total)).numpy()
        return score(summed, classes=view.classes, counted=exam.protocols[0].counted, images=len(chosen))


def spread(size: int, limit: int | None) -> Sequence[int]:
    """Numbers of at most `limit` of `size` samples, evenly spread over the set, ascending, each once."""
    if limit is None or limit >= size:
        return range(size)
    return [i * size // limit for i in range(limit)]


def headline(scores: Mapping[str, Score]) -> dict[str, float]:
    """By curve, `val/DATASET/miou` and so on, the figures of a validation; shares in 0..1."""
    return {f"val/{name}/{kind}": getattr(s, kind) for name, s in scores.items() for kind in ("miou", "macc", "acc")}


def _name(exam: Exam, taken: Mapping[str, Any]) -> str:
    """A set's name in curves: its dataset's; with its split where that is taken."""
    dataset, split = exam.shards.manifest.dataset, exam.shards.manifest.split
    name = dataset if dataset not in taken else f"{dataset}-{split}"
    if name in taken:
        raise DataError(f"validate.data: {exam.url}: a set of {name} is named twice; remove one")
    return name
