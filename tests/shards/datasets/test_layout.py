import csv
import hashlib

import pytest

from segstream.shards.datasets.layout import split_list
from tests.shards.shared import SHARED, needs_mseg

LISTS = {
    ("camvid-11", "train"): ("camvid-32", "train"),
    ("camvid-11", "val"): ("camvid-32", "val"),
    ("camvid-11", "test"): ("camvid-32", "test"),
    ("kitti-19", "train"): ("kitti-34", "train"),
    ("kitti-19", "val"): ("kitti-34", "val"),
    ("voc2012", "train"): ("voc2012", "train"),
    ("voc2012", "val"): ("voc2012", "val"),
    ("sunrgbd-37", "val"): ("sunrgbd-38", "val"),
    ("wilddash-19", "val"): ("wilddash-34", "val"),
}


@needs_mseg
@pytest.mark.parametrize(("ours", "published"), LISTS.items())
def test_every_line_is_in_the_published_list(ours, published):
    """By its checksum: our stems, put in the paths of the list's first pair."""
    with (SHARED / "mseg/splits/list_files.csv").open(newline="") as file:
        row = next(r for r in csv.DictReader(file) if (r["taxonomy"], r["list"]) == published)
    assert len(split_list(*ours)) == int(row["distinct_images"])
    spell = {"sunrgbd-37": lambda stem: stem.removeprefix("img-").zfill(8)}.get(ours[0], str)
    first = split_list(*ours)[0]
    image, label = row["first_image"].replace(first, "{}"), row["first_label"].replace(spell(first), "{}")
    lines = sorted(f"{image.format(stem)} {label.format(spell(stem))}\n" for stem in split_list(*ours))
    assert hashlib.sha256("".join(lines).encode()).hexdigest() == row["sha256_sorted_unique_lines"]


def test_train_and_val_share_no_image():
    for dataset in ("camvid-11", "kitti-19", "voc2012"):
        assert not set(split_list(dataset, "train")) & set(split_list(dataset, "val"))


def test_a_list_that_is_not_carried():
    assert split_list("kitti-19", "valid") is None
