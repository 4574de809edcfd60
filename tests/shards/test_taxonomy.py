import csv
from collections import defaultdict

import numpy as np
import pytest

from segstream.shards.errors import DataError, UsageError
from segstream.shards.taxonomy import (
    UNMAPPED,
    Remap,
    Taxonomy,
    build_remap,
    counted_universal,
    load_taxonomy,
    naive_remap,
    native_taxonomy,
    projection,
    release_classes,
    release_remap,
    remap_label,
    taxonomy_names,
    universal_ids,
    universal_remap,
)
from tests.shards.shared import TAXONOMY, needs_mseg

SWAP = build_remap("toy", "two", {3: 7, 7: 3})


def test_each_id_is_remapped_exactly_once():
    label = np.array([[3, 7], [255, 3]], np.uint8)
    assert remap_label(label, SWAP, where="k").tolist() == [[7, 3], [255, 7]]
    assert label.tolist() == [[3, 7], [255, 3]]  # the input is not ours to change


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint16])
def test_an_unmapped_id_is_named_with_its_place_and_pixel_count(dtype):
    with pytest.raises(DataError, match=r"^val/k: 2 of 4 pixels carry ids \[0, 9\], which toy does not have"):
        remap_label(np.array([[9, 3], [7, 0]], dtype), SWAP, where="val/k")


@pytest.mark.parametrize("beyond", [259, -1])
def test_an_id_beyond_the_table_is_an_error_not_a_wrap(beyond):
    every = build_remap("toy", "all", {i: i for i in range(256)})  # 3 = 259 % 256 and 0 are mapped
    with pytest.raises(DataError, match=rf"1 of 2 pixels carry ids \[{beyond}\]"):
        remap_label(np.array([[beyond, 3]], np.int32), every, where="k")


def test_naive_labels_are_wide_enough_for_their_ids():
    native = load_taxonomy("sunrgbd-37")
    label = np.arange(37, dtype=np.uint8)[None]
    naive = remap_label(label, naive_remap(native), where="k")
    assert naive.dtype == np.int16
    classes = load_taxonomy("naive").classes
    assert [classes[i] for i in naive[0]] == [c.lower() for c in native.classes]


@needs_mseg
@pytest.mark.parametrize(
    ("name", "release"),
    [("camvid-11", "camvid-32"), ("mapillary-public65", "mapillary-public66"), ("idd-39", "idd-40")],
)
def test_names_of_released_ids(name, release):
    assert [n for n, _ in release_classes(name)] == (TAXONOMY / f"{release}_names.txt").read_text().splitlines()


VARIANTS = {"gta5-19": 34, "shift-19": 23, "mapillary-19": 66, "bdd100k-19": 19, "idd-19": 40, "wilddash2-19": 81}


@pytest.mark.parametrize("name", VARIANTS)
def test_other_releases_mix_with_cityscapes(name):
    assert native_taxonomy(name) is load_taxonomy("cityscapes-19")
    assert release_remap(name).target == "cityscapes-19"
    assert len(release_classes(name)) == VARIANTS[name]
    assert name not in taxonomy_names()


def test_native_taxonomy_of_a_dataset_of_its_own_and_of_none():
    assert native_taxonomy("voc2012") is load_taxonomy("voc2012")
    with pytest.raises(UsageError, match="did you mean 'idd-39'"):
        native_taxonomy("idd-38")


@needs_mseg
def test_counted_classes_are_all_but_msegs_excluded_ones():
    excluded = defaultdict(set)
    with (TAXONOMY / "derived/excluded_universal_ids.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            excluded[row["eval_dataset"]].add(int(row["universal_id"]))
    assert excluded
    for name, ids in excluded.items():
        assert set(counted_universal(load_taxonomy(name))) == set(range(194)) - ids, name


def test_projection_sums_probability_not_copies_it():
    matrix = projection(load_taxonomy("universal"), load_taxonomy("camvid-11"))
    assert matrix.shape == (11, 194)
    assert matrix.sum(0).max() == 1  # no universal class counts twice
    assert matrix.sum() == 12


def test_projection_refuses_what_has_no_meaning():
    own = Taxonomy(name="own", kind="own", classes=("a", "b"))
    with pytest.raises(DataError, match="cannot be scored in 'own'"):
        projection(load_taxonomy("universal"), own)
    assert projection(own, own).tolist() == [[1, 0], [0, 1]]


def test_labels_of_held_out_data_are_never_mapped():
    with pytest.raises(DataError, match="voc2012"):
        universal_remap(load_taxonomy("voc2012"))


def test_unknown_names_come_with_a_suggestion():
    with pytest.raises(UsageError, match="did you mean 'ade20k-150'"):
        load_taxonomy("ade20k-15")
    with pytest.raises(
        DataError, match=r"x\.yaml: 'sidewalk' is not a universal class; did you mean 'sidewalk_pavement'"
    ):
        universal_ids(["road", "sidewalk"], at="x.yaml")


def test_digest_follows_content_and_every_table_loads():
    digests = {name: load_taxonomy(name).digest for name in taxonomy_names()}
    assert len(set(digests.values())) == len(digests)
    one = Taxonomy(name="t", kind="own", classes=("a", "b"))
    assert one.digest != Taxonomy(name="t", kind="own", classes=("b", "a")).digest


def test_remap_table_is_the_only_truth():
    table = np.full(256, UNMAPPED, np.int32)
    table[1] = 2
    with pytest.raises(DataError):  # 255 too must be mapped to pass
        remap_label(np.array([[255]]), Remap(source="s", target="t", table=table), where="k")


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"to_universal": (0,)}, "classes that there are not"),
        ({"to_universal": (0, 194)}, "classes that there are not"),
        ({"from_universal": ((255, 1),)}, "classes that there are not"),
        ({"from_universal": ((0, 2),)}, "classes that there are not"),
        ({"classes": ("x",) * 5000}, "5000 classes; at most 4096 can be counted"),
    ],
)
def test_mappings_stay_within_the_classes(mapping, message):
    with pytest.raises(DataError, match=f"taxonomy 'two': .*{message}"):
        Taxonomy(**{"name": "two", "kind": "own", "classes": ("a", "b")} | mapping)
