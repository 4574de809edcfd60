"""Real released files, against histograms computed elsewhere from MSeg's rules."""

import csv
import io
import shutil
from collections import Counter, defaultdict

import numpy as np
import pytest
from PIL import Image

from segstream.shards.convert.convert import convert
from segstream.shards.format.reader import open_shards
from tests.shards import trees
from tests.shards.shared import SAMPLES, needs_mseg

pytestmark = needs_mseg


def expected(sample, taxonomy):
    with (SAMPLES.parent / "expected_pixels.csv").open(newline="") as file:
        found = {
            r["name"]: int(r["pixels"])
            for r in csv.DictReader(file)
            if (r["sample"], r["taxonomy"]) == (sample, taxonomy)
        }
    assert found
    return found


def converted(tmp_path, dataset, raw, split):
    summary = convert(dataset=dataset, split=split, raw=raw, out=str(tmp_path / "out"))
    shards = open_shards(summary.url)
    assert len(shards) == 1
    histograms = defaultdict(Counter)
    for member, taxonomy in (("native", shards.manifest.native), ("universal", shards.manifest.universal)):
        label = np.asarray(Image.open(io.BytesIO(shards.read(0, member))))
        for i, n in zip(*np.unique(label, return_counts=True), strict=True):
            histograms[member]["unlabeled" if i == 255 else taxonomy.classes[i]] = int(n)
    return histograms


def check(histograms, sample, dataset):
    assert histograms["native"] == expected(sample, dataset)
    assert histograms["universal"] == expected(sample, "universal (unrelabeled)")


@pytest.mark.parametrize(("split", "sample"), [("train", "ADE_train_00000001"), ("val", "ADE_val_00000001")])
def test_ade20k(tmp_path, split, sample):
    raw = SAMPLES / "ADE20K_test_data/ADEChallengeData2016"
    check(converted(tmp_path, "ade20k-150", raw, split), sample, "ade20k-150")


@pytest.mark.parametrize(
    ("split", "sample", "size_hw"), [("train", "000000000009", (480, 640)), ("val", "000000000139", (426, 640))]
)
def test_coco(tmp_path, split, sample, size_hw):
    raw = tmp_path / "coco"
    shutil.copytree(SAMPLES / "COCOPanoptic_test_data", raw)  # the samples hold no photographs
    trees.save(raw / f"images/{split}2017/{sample}.jpg", np.zeros((*size_hw, 3), np.uint8))
    check(converted(tmp_path, "coco-panoptic-133", raw, split), sample, "coco-panoptic-133")


@pytest.mark.parametrize(("split", "part"), [("train", "train"), ("val", "test")])
def test_sunrgbd(tmp_path, split, part):
    """The samples are stage-1 maps, ids 0-36; the release's own are one higher with 0 for none."""
    raw = tmp_path / "sun"
    stage1 = np.asarray(Image.open(SAMPLES / f"SUNRGBD_test_data/semseg-label37/{part}/00000001.png"))
    trees.save(raw / f"label38/{part}/00000001.png", stage1 + np.uint8(1))
    image = SAMPLES / f"SUNRGBD_test_data/image/{part}/img-000001.jpg"
    (raw / f"image/{part}").mkdir(parents=True)
    shutil.copy(image, raw / f"image/{part}")
    check(converted(tmp_path, "sunrgbd-37", raw, split), f"sunrgbd {part} 00000001", "sunrgbd-37")
