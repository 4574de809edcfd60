"""What becomes of every id of a label, against MSeg's own files, read here line by line.

That the tables themselves equal MSeg's, name by name, is tested with the program that compares them
(tests/reference/test_check_mseg.py); here they go through the functions that labels and predictions go through.
"""

import csv

import numpy as np
import pytest

from segstream.shards.errors import DataError
from segstream.shards.taxonomy import (
    IGNORE_INDEX,
    TRAINING_TAXONOMIES,
    load_taxonomy,
    naive_remap,
    native_taxonomy,
    projection,
    release_classes,
    release_remap,
    remap_label,
    universal_remap,
)
from tests.shards.shared import TAXONOMY, needs_mseg

pytestmark = needs_mseg

TRAINING = [f"{name}{more}" for name in (*TRAINING_TAXONOMIES, "cityscapes-34") for more in ("", "-relabeled")]
HELD_OUT = ("camvid-11", "kitti-19", "pascal-context-60", "scannet-20", "voc2012", "wilddash-19")
RELEASES = {  # native taxonomy -> class list of the release
    "ade20k-150": "ade20k-151", "bdd": "bdd", "camvid-11": "camvid-32", "cityscapes-19": "cityscapes-34",
    "cityscapes-34": "cityscapes-34", "coco-panoptic-133": "coco-panoptic-201", "idd-39": "idd-40",
    "kitti-19": "kitti-34", "mapillary-public65": "mapillary-public66", "pascal-context-60": "pascal-context-460",
    "scannet-20": "scannet-41", "sunrgbd-37": "sunrgbd-38", "voc2012": "voc2012", "wilddash-19": "wilddash-34",
}  # fmt: skip
VARIANTS = {  # releases in the 19 Cityscapes classes -> their names in the table of the BRAVO work, and how many ids
    "bdd100k-19": ("bdd100k", 20), "gta5-19": ("gta5", 34), "idd-19": ("idd (csTrainId)", 40),
    "mapillary-19": ("mapillary-vistas-1.2", 66), "shift-19": ("shift", 23), "wilddash2-19": ("wilddash2", 81),
}  # fmt: skip


def names(taxonomy):
    return (TAXONOMY / f"{taxonomy}_names.txt").read_text().splitlines()


def table(source, target):
    """Class name -> class name of a table `source_to_target.tsv`; by itself where there is none."""
    path = TAXONOMY / f"{source}_to_{target}.tsv"
    if not path.exists():
        assert source == target
        return {name: name for name in names(source)}
    header, *rows = [line.split("\t") for line in path.read_text().splitlines()]
    assert header[:2] == [source, target]
    return {row[0]: row[1] for row in rows}


def rows(name, **options):
    with (TAXONOMY / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, **options))


def universal(taxonomy):
    """(universal id, class of the taxonomy) wherever the master table says so; `{a, b}` are two classes."""
    found = enumerate(row[taxonomy].strip("{}") for row in rows("MSeg_master.tsv", delimiter="\t"))
    return [(IGNORE_INDEX if u == 194 else u, c.strip()) for u, text in found if text for c in text.split(",")]


def look(remap, ids):
    """The table through the function that labels go through."""
    return remap_label(np.array([ids]), remap, where="label")[0].tolist()


def refused(remap, beyond):
    with pytest.raises(DataError, match=rf"ids \[{beyond}\]"):
        look(remap, [beyond])


@pytest.mark.parametrize("name", TRAINING)
def test_every_class_of_a_training_taxonomy_becomes_what_the_master_table_says(name):
    expected, classes = {c: u for u, c in universal(name)}, names(name)
    remap = universal_remap(load_taxonomy(name))
    assert sorted(expected) == sorted(classes)  # each exactly once
    assert look(remap, range(len(classes))) == [expected[c] for c in classes]
    assert look(remap, [IGNORE_INDEX]) == [IGNORE_INDEX]
    for beyond in {len(classes), 254}:
        refused(remap, beyond)


@pytest.mark.parametrize("name", RELEASES)
def test_every_id_of_a_release_by_name_and_those_beyond_it(name):
    listed, through = names(RELEASES[name]), table(RELEASES[name], name)
    ids = {c: i for i, c in enumerate(names(name))} | ({} if name == RELEASES[name] else {"unlabeled": IGNORE_INDEX})
    remap = release_remap(name)
    assert look(remap, range(len(listed))) == [ids[through[c]] for c in listed]
    for beyond in range(len(listed), 600):
        if beyond == IGNORE_INDEX:
            assert look(remap, [beyond]) == [IGNORE_INDEX]
        else:
            refused(remap, beyond)


@pytest.mark.parametrize("name", HELD_OUT)
def test_the_matrix_from_universal_to_a_held_out_taxonomy(name):
    classes = names(name)
    expected = np.zeros((len(classes), 194))
    for u, c in universal(name):
        if u != IGNORE_INDEX:
            expected[classes.index(c), u] = 1
    matrix = projection(load_taxonomy("universal"), load_taxonomy(name))
    assert np.array_equal(matrix, expected)
    assert matrix.sum(0).max() == 1
    empty = [c for c, row in zip(classes, matrix, strict=True) if not row.any()]
    assert empty == (["flower", "wood"] if name == "pascal-context-60" else [])


@pytest.mark.parametrize("name", [*HELD_OUT, *TRAINING_TAXONOMIES])
def test_the_matrix_from_naive_to_a_dataset_is_equality_of_lower_case_names(name):
    naive = {int(row["naive_id"]): row["name"] for row in rows("derived/naive.csv")}
    expected = np.array([[naive.get(i) == c.lower() for i in range(316)] for c in names(name)], float)
    assert np.array_equal(projection(load_taxonomy("naive"), load_taxonomy(name)), expected)


def test_naive_ids_are_counted_through_the_datasets_and_skip_255():
    ids, new = {}, []
    for name in TRAINING_TAXONOMIES:
        before = len(ids)
        for c in names(name):
            ids.setdefault(c.lower(), len(ids) + (len(ids) >= IGNORE_INDEX))
        new.append(len(ids) - before)
    assert new == [150, 6, 0, 95, 19, 30, 15]
    for name in TRAINING_TAXONOMIES:
        remap = naive_remap(load_taxonomy(name))
        assert look(remap, range(len(names(name)))) == [ids[c.lower()] for c in names(name)]
        assert look(remap, [IGNORE_INDEX]) == [IGNORE_INDEX]
    assert load_taxonomy("naive").num_classes == 316


@pytest.mark.parametrize("name", VARIANTS)
def test_every_id_of_the_other_releases_in_cityscapes_classes(name):
    listed, count = VARIANTS[name]
    stated = [row for row in rows("derived/cityscapes19_variants.csv") if row["dataset"] == listed]
    expected = {int(r["native_id"]): int(r["cityscapes_train_id"]) for r in stated}
    assert len(expected) == count
    assert look(release_remap(name), [*expected]) == list(expected.values())
    assert [n for n, _ in release_classes(name)] == [r["native_name"] for r in stated if r["native_id"] != "255"]
    assert native_taxonomy(name) is load_taxonomy("cityscapes-19")
    refused(release_remap(name), max(i for i in expected if i != IGNORE_INDEX) + 1)
