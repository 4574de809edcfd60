"""Which sets can be evaluated on: those whose images have their native size, also training splits."""

import numpy as np
import pytest
from PIL import Image

from segstream.pipeline.eval_images import EvalImages
from segstream.shards.convert.convert import convert
from segstream.shards.errors import DataError
from tests.shards import trees


def test_training_splits_of_full_size_are_evaluated_on_and_reduced_ones_are_not(tmp_path):
    raw = trees.ade20k(tmp_path / "raw")  # images of 24 x 32

    def stored(short_side):
        made = convert("ade20k-150", split="train", raw=raw, out=tmp_path / str(short_side), short_side=short_side)
        return made.url

    for short_side in (None, 25):
        with EvalImages(stored(short_side)) as images:
            _, image, labels = images.at(0, ["native"])
            assert np.array_equal(image, Image.open(raw / "images/training/ADE_train_00000001.jpg"))
            assert labels["native"].shape == (24, 32)
    with pytest.raises(DataError, match=r"a training split, .* reduced size \(--short-side 12\)"):
        EvalImages(stored(12))
