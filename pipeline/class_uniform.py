"""Sampling by class, as far as the order needs to know it: centroids by class of the labels that are trained on."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from segstream.pipeline.config import ClassUniformConfig
from segstream.pipeline.order import ClassSlots
from segstream.shards.errors import DataError, did_you_mean, first_few
from segstream.shards.format.centroids import Centroids
from segstream.shards.format.reader import ShardSet


def class_slots(
    config: ClassUniformConfig, sets: Mapping[str, ShardSet], member: str, ids: npt.NDArray[Any], classes: Sequence[str]
) -> tuple[ClassSlots, list[str]]:
    """How a dataset is sampled by class, and where that does less than it says, one line each.

    Args:
        sets: by split.
        member: the stored label.
        ids: (stored ids,): the class that comes out of each; what is none of `classes` counts for nothing.
        classes: of the labels that are trained on.

    Raises:
        DataError: a set has no centroids, or a class that is named does not exist.
    """
    parts, samples = [], 0
    for split, shard_set in sets.items():
        named = config.only.get(split, classes)
        if unknown := [name for name in named if name not in classes]:
            hint = did_you_mean(unknown[0], classes)
            raise DataError(f"data.class_uniform: only.{split}: {unknown[0]!r} is no class of the labels; {hint}")
        stored = shard_set.centroid_counts(member)
        counts = np.zeros((len(stored), len(classes)), np.int64)
        for i, target in enumerate(ids[: stored.shape[1]].tolist()):
            if target in range(len(classes)) and classes[target] in named:
                counts[:, target] += stored[:, i]
        parts.append(counts)
        samples += shard_set.manifest.samples
    slots = ClassSlots(share=Fraction(str(config.share)), counts=np.concatenate(parts))
    nowhere = [name for name, count in zip(classes, slots.counts.sum(axis=0).tolist(), strict=True) if not count]
    few = f"a share of {config.share:g} of {samples} samples is less than one for each of {len(classes)} classes"
    said = {
        f"{len(nowhere)} of {len(classes)} classes have no centroid, plain samples come instead: "
        f"{first_few(nowhere)}": nowhere,
        f"{few}: only plain samples come; raise data.class_uniform.share": not slots.places(samples),
    }
    where = f"{shard_set.manifest.dataset} {'+'.join(sets)}, sampled by class"
    return slots, [f"{where}: {line}" for line, holds in said.items() if holds]


def find_centroid(
    centroids: Centroids, ids: npt.NDArray[Any], class_id: int, nth: int
) -> tuple[int, tuple[float, float]]:
    """(position in the shard, place (x, y) in the stored image) of a class's n-th centroid of a shard.

    Of stored classes that come out as one, the centroids of the first come first; in one tile they are not merged.

    Raises:
        DataError: there are not so many.
    """
    for stored in np.flatnonzero(ids == class_id):
        first, end = np.searchsorted(centroids.class_id, (stored, stored + 1)).tolist()
        if nth < end - first:
            x, y = centroids.xy[first + nth].tolist()
            return int(centroids.sample[first + nth]), (x, y)
        nth -= end - first
    raise DataError(f"fewer centroids of class {class_id} than the summary counts; make them again")
