"""Every dataset from its native layout to shards, against the scenes that were drawn."""

import io
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segstream.shards.checks.verify import verify
from segstream.shards.convert.convert import convert
from segstream.shards.datasets.check import check_release
from segstream.shards.datasets.registry import registry
from segstream.shards.format.reader import open_shards
from segstream.shards.synthetic import DATASETS, draw
from segstream.shards.taxonomy import native_taxonomy
from tests.shards.synthetic.truth import expected_pixels, image_path, tiny

SEED, TRAIN, VAL = 4, 2, 3
LABELLED = [name for name in DATASETS if name != "bravo"]


def decoded(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def universal(dataset: str) -> np.ndarray:
    """(256,) universal id by native id, 255 for none."""
    table = np.full(256, 255)
    ids = native_taxonomy(dataset).to_universal
    assert ids is not None
    table[: len(ids)] = ids
    return table


def converted(tmp_path: Path, dataset: str, split: str) -> str:
    return convert(dataset=dataset, split=split, raw=tmp_path / dataset, out=str(tmp_path / "out")).url


@pytest.mark.parametrize("dataset", LABELLED)
def test_labels_are_what_was_drawn(tmp_path: Path, dataset: str) -> None:
    with tiny():
        draw(tmp_path, dataset, train=TRAIN, val=VAL, seed=SEED, workers=1)
        truth = {
            (split, image_path(dataset, split, i)): expected_pixels(dataset, split, i, SEED)
            for split, count in (("train", TRAIN), ("val", VAL))
            if split in registry()[dataset].splits
            for i in range(count)
        }
    checked = check_release(dataset, tmp_path / dataset)
    assert not [problem for problem in checked.problems if "images in all" not in problem]
    drawn = Counter(split for split, _ in truth)  # GTA5's test split names the pictures of val once more
    assert {s.split: (s.images, s.labels) for s in checked.splits if s.split in drawn} == {
        split: (n, n) for split, n in drawn.items()
    }
    native = native_taxonomy(dataset)
    seen: set[int] = set()
    for split in sorted({split for split, _ in truth}):
        url = converted(tmp_path, dataset, split)
        assert verify(url, workers=1).ok
        pixels: Counter[int] = Counter()
        with open_shards(url) as shards:
            assert shards.manifest.native.name == native.name
            assert ("universal" in shards.manifest.members) == (native.to_universal is not None)
            for i in range(len(shards)):
                image = json.loads(shards.read(i, "json"))["image"]
                expected = truth.pop((split, image))
                pixels.update(expected.ravel().tolist())
                label = decoded(shards.read(i, "native"))
                assert label.dtype == np.uint8
                np.testing.assert_array_equal(label, expected, err_msg=image)
                if native.to_universal is not None:
                    np.testing.assert_array_equal(decoded(shards.read(i, "universal")), universal(dataset)[expected])
                assert decoded(shards.read(i, "image")).shape == (*expected.shape, 3)
            assert {c: n for c, (n, _) in shards.manifest.counts["native"].items()} == {
                c: n for c, n in pixels.items() if c != 255
            }
        seen |= set(pixels)
    assert not truth, "every picture became a sample"
    assert len(seen - {255}) >= 4


def test_bravo_is_pictures_alone(tmp_path: Path) -> None:
    with tiny():
        draw(tmp_path, "bravo", train=5, val=6, seed=SEED, workers=1)
        paths = {image_path("bravo", "val", i) for i in range(6)}
    assert {Path(path).suffix for path in paths} == {".png", ".jpg"}
    url = converted(tmp_path, "bravo", "test")
    assert verify(url, workers=1).ok
    with open_shards(url) as shards:
        assert set(shards.manifest.members) == {"image", "json"}
        assert {json.loads(shards.read(i, "json"))["image"] for i in range(len(shards))} == paths
        assert {decoded(shards.read(i, "image")).shape for i in range(len(shards))} == {(47, 65, 3)}


def test_every_dataset_is_drawn() -> None:
    assert set(DATASETS) == set(registry())
