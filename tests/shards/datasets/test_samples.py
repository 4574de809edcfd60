"""Real released files, against histograms computed elsewhere from MSeg's rules."""

import csv
import io
import shutil

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
        rows = [r for r in csv.DictReader(file) if (r["sample"], r["taxonomy"]) == (sample, taxonomy)]
    assert rows
    return {r["name"]: int(r["pixels"]) for r in rows}


def released(raw, dataset, split):
    """The raw root of a release's one sample: `raw`, or where the samples lie."""
    if dataset == "ade20k-150":
        return SAMPLES / "ADE20K_test_data/ADEChallengeData2016"
    if dataset == "coco-panoptic-133":  # the samples hold no photographs
        shutil.copytree(SAMPLES / "COCOPanoptic_test_data", raw)
        sample, height = {"train": ("000000000009", 480), "val": ("000000000139", 426)}[split]
        trees.save(raw / f"images/{split}2017/{sample}.jpg", np.zeros((height, 640, 3), np.uint8))
    else:  # stage-1 maps, ids 0-36; SUN RGB-D's own are one higher with 0 for none
        part = {"train": "train", "val": "test"}[split]
        stage1 = np.asarray(Image.open(SAMPLES / f"SUNRGBD_test_data/semseg-label37/{part}/00000001.png"))
        trees.save(raw / f"label38/{part}/00000001.png", stage1 + np.uint8(1))
        (raw / f"image/{part}").mkdir(parents=True)
        shutil.copy(SAMPLES / f"SUNRGBD_test_data/image/{part}/img-000001.jpg", raw / f"image/{part}")
    return raw


def histogram(shards, member):
    """Pixels of the first sample's label, by class name."""
    taxonomy = shards.manifest.native if member == "native" else shards.manifest.universal
    label = np.asarray(Image.open(io.BytesIO(shards.read(0, member))))
    names = {**dict(enumerate(taxonomy.classes)), 255: "unlabeled"}
    return {names[i]: int(n) for i, n in zip(*np.unique(label, return_counts=True), strict=True)}


@pytest.mark.parametrize(
    ("dataset", "split", "sample"),
    [
        ("ade20k-150", "train", "ADE_train_00000001"),
        ("ade20k-150", "val", "ADE_val_00000001"),
        ("coco-panoptic-133", "train", "000000000009"),
        ("coco-panoptic-133", "val", "000000000139"),
        ("sunrgbd-37", "train", "sunrgbd train 00000001"),
        ("sunrgbd-37", "val", "sunrgbd test 00000001"),
    ],
)
def test_labels_have_the_published_pixels(tmp_path, dataset, split, sample):
    raw = released(tmp_path / "raw", dataset, split)
    with open_shards(convert(dataset=dataset, split=split, raw=raw, out=str(tmp_path / "out")).url) as shards:
        assert len(shards) == 1
        assert histogram(shards, "native") == expected(sample, dataset)
        assert histogram(shards, "universal") == expected(sample, "universal (unrelabeled)")
