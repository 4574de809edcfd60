"""Sampling by class, as far as the order needs to know it: centroids by class of the labels that are trained on."""

from collections.abc import Mapping
from fractions import Fraction

import numpy as np

from segstream.pipeline.config import ClassUniformConfig
from segstream.pipeline.decode import LabelView
from segstream.pipeline.order import ClassSlots
from segstream.shards.errors import DataError, did_you_mean, first_few
from segstream.shards.format.centroids import Centroids
from segstream.shards.format.reader import ShardSet


def class_slots(
    config: ClassUniformConfig, sets: Mapping[str, ShardSet], view: LabelView
) -> tuple[ClassSlots, list[str]]:
    """How a dataset is sampled by class, and where that does less than it says, one line each.

    Args:
        sets: by split.
        view: of the labels.

    Raises:
        DataError: a set has no centroids, or a class that is named does not exist.
    """
    parts, classes = [], view.taxonomy.classes
    for split, shard_set in sets.items():
        named = config.only.get(split, classes)
        if unknown := [name for name in named if name not in classes]:
            hint = did_you_mean(unknown[0], classes)
            raise DataError(f"data.class_uniform: only.{split}: {unknown[0]!r} is no class of the labels; {hint}")
        stored = shard_set.centroid_counts(view.member)
        came_from = view.ids[: stored.shape[1]] == np.arange(len(classes))[:, None]  # (classes, stored ids)
        parts.append(stored @ came_from.T * [name != "" and name in named for name in classes])
    slots = ClassSlots(share=Fraction(str(config.share)), counts=np.concatenate(parts))
    samples, totals = sum(len(s) for split, s in sets.items() if split not in config.only), slots.counts.sum(axis=0)
    nowhere = [name for name, total in zip(classes, totals, strict=True) if name and not total]
    few = f"a share of {config.share:g} of {samples} samples is less than one for each of {len(classes)} classes"
    said = {
        f"{len(nowhere)} of {len(classes)} classes have no centroid, plain samples come instead: "
        f"{first_few(nowhere)}": nowhere,
        f"{few}: only plain samples come; a share of 1 gives {samples // len(classes)} each": not slots.places(samples),
    }
    where = f"{shard_set.manifest.dataset} {'+'.join(sets)}, sampled by class"
    return slots, [f"{where}: {line}" for line, holds in said.items() if holds]


def find_centroid(centroids: Centroids, view: LabelView, class_id: int, nth: int) -> tuple[int, tuple[float, float]]:
    """(position in the shard, place (x, y) in the stored image) of a class's n-th centroid of a shard.

    Of stored classes that come out as one, the centroids of the first come first; in one tile they are not merged.
    """
    rows = np.concatenate([np.flatnonzero(centroids.class_id == i) for i in np.flatnonzero(view.ids == class_id)])
    x, y = centroids.xy[rows[nth]].tolist()
    return int(centroids.sample[rows[nth]]), (x, y)
