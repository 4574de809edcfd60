"""What sampling by class does to the classes of a shard set, from its centroids."""

from fractions import Fraction

import numpy as np
import numpy.typing as npt

from segstream.shards.format.reader import ShardSet


def sampled_shares(shards: ShardSet, member: str, share: float) -> npt.NDArray[np.float64]:
    """How often each class is in the image that a crop is taken from: exact expectations over an epoch.

    Plain sampling takes each of n images once. Sampling by class takes int(n x share / classes) crops for each class
    that has centroids, every centroid of the class as often as any other, and images at random for the rest. How much
    of the class the crop itself shows is not in these figures.

    Args:
        share: of the crops that are taken by class, 0 to 1.

    Returns:
        (2, classes) in 0..1: plain, and by class.

    Raises:
        DataError: see `ShardSet.centroids`.
    """
    images, classes, first = len(shards), shards.centroid_counts(member).shape[1], 0
    counts = np.zeros((images, classes), np.int32)  # of centroids
    for number, shard in enumerate(shards.manifest.shards):
        found = shards.centroids(number, member)
        np.add.at(counts, (first + found.sample, found.class_id), 1)
        first += shard.samples
    present, crops = counts[:, counts.any(axis=0)], int(images * Fraction(str(share)) / classes)
    taken = (present / present.sum(axis=0)).sum(axis=1) * crops + 1 - crops * present.shape[1] / images
    return np.stack([np.ones(images), taken]) @ (counts > 0) / images
