from collections import Counter
from fractions import Fraction
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest

from segstream.shards.checks.sampling import sampled_shares
from segstream.shards.convert.convert import convert
from segstream.shards.errors import DataError
from segstream.shards.format.centroids import Centroids, add_centroids
from segstream.shards.format.reader import open_shards
from tests.shards import trees


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """Thirty images of which many classes of eleven are in none."""
    folder = tmp_path_factory.mktemp("sampling")
    raw = trees.camvid(folder / "raw", count=30)
    return convert("camvid-11", split="val", raw=raw, out=folder, shard_samples=8).url


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_expectations_are_those_of_an_epoch_counted_slot_by_slot(url, share):
    with pytest.raises(DataError, match="stats") if share == 0 else open_shards(url):
        sampled_shares(open_shards(url), "native", share)
    add_centroids(url, tile=16, workers=1)
    shards = open_shards(url)
    images, classes, anchors = len(shards), 11, []
    for number in range(len(shards.manifest.shards)):
        found = shards.centroids(number, "native")
        anchors += [(c, 8 * number + s) for c, s in zip(found.class_id.tolist(), found.sample.tolist(), strict=True)]
    of_class, crops = Counter(c for c, _ in anchors), int(images * share / classes)
    slots = dict.fromkeys(range(images), Fraction(images - crops * len(of_class), images))
    for class_id, sample in anchors:
        slots[sample] += Fraction(crops, of_class[class_id])
    assert sum(slots.values()) == images
    shown = {(c, s) for c, s in anchors}
    plain = [Fraction(sum((c, s) in shown for s in slots), images) for c in range(classes)]
    chosen = [sum(n for s, n in slots.items() if (c, s) in shown) / images for c in range(classes)]
    found = sampled_shares(shards, "native", share)
    np.testing.assert_allclose(found, np.array([plain, chosen], float), rtol=1e-12)
    assert plain == [
        Fraction(row[1], images) for row in [shards.manifest.counts["native"].get(c, (0, 0)) for c in range(classes)]
    ]
    rare = min((c for c in of_class), key=lambda c: plain[c])
    assert (found[1, rare] > found[0, rare]) == (share > 0)


def test_a_share_is_the_decimal_that_it_is_written_as():
    one = np.arange(3, dtype=np.int32)  # class i has one centroid, in image i
    centroids = Centroids(one, one, 0 * one, np.zeros((3, 2), np.float32), np.ones(3, np.int64))
    shards = MagicMock(manifest=SimpleNamespace(shards=[SimpleNamespace(samples=90)]))
    shards.__len__.return_value, shards.centroid_counts.return_value = 90, np.ones((1, 3), int)
    shards.centroids.return_value = centroids
    found = sampled_shares(shards, "native", 0.7)
    assert int(90 * 0.7 / 3) == 20, "in floating point; 21 as decimals, which the order counts by"
    np.testing.assert_allclose(found, [[1 / 90] * 3, [(21 + 27 / 90) / 90] * 3])
