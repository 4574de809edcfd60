import csv
import hashlib

import pytest

from segstream.shards.datasets.layout import split_list
from tests.shards.shared import SHARED, needs_mseg

LISTS = [  # taxonomy; that of the published list
    *(("camvid-11", "camvid-32", split) for split in ("train", "val", "test")),
    *((name, other, s) for name, other in (("kitti-19", "kitti-34"), ("voc2012", "voc2012")) for s in ("train", "val")),
    *(("pascal-context-60", "pascal-context-60", split) for split in ("train", "val")),
    *(("sunrgbd-37", "sunrgbd-38", "val"), ("wilddash-19", "wilddash-34", "val")),
]


@needs_mseg
@pytest.mark.parametrize(("ours", "published", "split"), LISTS)
def test_every_line_is_in_the_published_list(ours, published, split):
    """By its checksum: our stems, put in the paths of the list's first pair."""
    with (SHARED / "mseg/splits/list_files.csv").open(newline="") as file:
        row = next(r for r in csv.DictReader(file) if (r["taxonomy"], r["list"]) == (published, split))
    assert len(split_list(ours, split)) == int(row["distinct_images"])
    spell = {"sunrgbd-37": lambda stem: stem.removeprefix("img-").zfill(8)}.get(ours, str)
    first = split_list(ours, split)[0]
    image, label = row["first_image"].replace(first, "{}"), row["first_label"].replace(spell(first), "{}")
    lines = sorted(f"{image.format(stem)} {label.format(spell(stem))}\n" for stem in split_list(ours, split))
    assert hashlib.sha256("".join(lines).encode()).hexdigest() == row["sha256_sorted_unique_lines"]


def test_train_and_val_share_no_image():
    for dataset in ("camvid-11", "kitti-19", "voc2012"):
        assert not set(split_list(dataset, "train")) & set(split_list(dataset, "val"))


def test_a_list_that_is_not_carried():
    assert split_list("kitti-19", "valid") is None
