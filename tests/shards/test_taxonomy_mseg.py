"""Every label map against MSeg's own files, read here line by line: master table, class-name tables, class lists.

Each id of each release, those that become "ignored", both directions of every mapping, and the published counts.
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

PLAIN = (*TRAINING_TAXONOMIES, "cityscapes-34")
RELABELED = tuple(f"{name}-relabeled" for name in PLAIN)
HELD_OUT = ("camvid-11", "kitti-19", "pascal-context-60", "scannet-20", "voc2012", "wilddash-19")
RELEASES = {  # native taxonomy -> (class list of the release, its ids that carry no class)
    "ade20k-150": ("ade20k-151", [0]),
    "bdd": ("bdd", []),
    "camvid-11": ("camvid-32", None),
    "cityscapes-19": ("cityscapes-34", [*range(7), 9, 10, 14, 15, 16, 18, 29, 30]),
    "cityscapes-34": ("cityscapes-34", []),
    "idd-39": ("idd-40", [35]),
    "kitti-19": ("kitti-34", [*range(7), 9, 10, 14, 15, 16, 18, 29, 30]),
    "mapillary-public65": ("mapillary-public66", [65]),
    "pascal-context-60": ("pascal-context-460", []),
    "scannet-20": ("scannet-41", None),
    "sunrgbd-37": ("sunrgbd-38", [0]),
    "voc2012": ("voc2012", []),
    "wilddash-19": ("wilddash-34", [*range(7), 9, 10, 14, 15, 16, 18, 29, 30]),
}
COUNTS = {  # classes of the release, of the taxonomy, ignored ones of the release
    "ade20k-150": (151, 150, 1), "bdd": (19, 19, 0), "camvid-11": (32, 11, 21), "cityscapes-19": (34, 19, 15),
    "cityscapes-34": (34, 34, 0), "idd-39": (40, 39, 1), "kitti-19": (34, 19, 15), "mapillary-public65": (66, 65, 1),
    "pascal-context-60": (460, 60, 0), "scannet-20": (41, 20, 21), "sunrgbd-37": (38, 37, 1), "voc2012": (21, 21, 0),
    "wilddash-19": (34, 19, 15),
}  # fmt: skip
REACHED = {  # universal classes reached, and after relabelling
    "ade20k-150": (117, 141), "bdd": (19, 21), "cityscapes-19": (19, 21), "cityscapes-34": (24, 26),
    "coco-panoptic-133": (122, 155), "idd-39": (25, 30), "mapillary-public65": (44, 51), "sunrgbd-37": (37, 48),
}  # fmt: skip
RECEIVED = {  # universal classes that some class of a held-out taxonomy receives
    "camvid-11": 12, "kitti-19": 22, "wilddash-19": 23, "scannet-20": 37, "voc2012": 194, "pascal-context-60": 194,
}  # fmt: skip
VARIANTS = {  # releases in the 19 Cityscapes classes -> their names in the table of the BRAVO work
    "bdd100k-19": "bdd100k",
    "gta5-19": "gta5",
    "idd-19": "idd (csTrainId)",
    "mapillary-19": "mapillary-vistas-1.2",
    "shift-19": "shift",
    "wilddash2-19": "wilddash2",
}


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


def master():
    with (TAXONOMY / "MSeg_master.tsv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def universal_id(row):
    return IGNORE_INDEX if row == 194 else row


def cell(text):
    """`` -> [], `a` -> [a], `{a, b}` -> [a, b]."""
    return [part.strip() for part in text.strip("{}").split(",")] if text else []


def look(remap, ids):
    """The table through the function that labels go through."""
    return remap_label(np.array([ids]), remap, where="label")[0].tolist()


def test_the_master_table_has_194_classes_and_unlabelled():
    rows = [row["universal"] for row in master()]
    assert rows == [*load_taxonomy("universal").classes, "unlabeled"]
    assert len(rows) == 195


@pytest.mark.parametrize("name", [*PLAIN, *RELABELED])
def test_every_class_of_a_training_taxonomy_becomes_what_the_master_table_says(name):
    expected = {c: universal_id(u) for u, row in enumerate(master()) for c in cell(row[name])}
    classes = names(name)
    remap = universal_remap(load_taxonomy(name))
    assert list(load_taxonomy(name).classes) == classes
    assert sorted(expected) == sorted(classes)  # each exactly once
    assert look(remap, range(len(classes))) == [expected[c] for c in classes]
    assert look(remap, [IGNORE_INDEX]) == [IGNORE_INDEX]
    for beyond in {len(classes), 254}:
        with pytest.raises(DataError, match=rf"ids \[{beyond}\]"):
            look(remap, [beyond])


@pytest.mark.parametrize("name", PLAIN)
def test_the_direct_map_equals_the_way_through_the_relabelled_taxonomy(name):
    relabeled = f"{name}-relabeled"
    classes, through = names(relabeled), table(name, relabeled)
    by_universal = {c: i for i, c in enumerate(load_taxonomy("universal").classes)}
    expected = [by_universal.get(through[c], IGNORE_INDEX) for c in names(name)]
    assert {c for c in through.values() if c != "unlabeled"} <= set(classes)
    assert look(universal_remap(load_taxonomy(name)), range(len(expected))) == expected
    assert look(universal_remap(load_taxonomy(relabeled)), range(len(classes))) == [by_universal[c] for c in classes]


@pytest.mark.parametrize("name", PLAIN)
def test_universal_classes_reached_are_as_many_as_published(name):
    plain, relabeled = load_taxonomy(name), load_taxonomy(f"{name}-relabeled")
    reached = set(plain.to_universal) - {IGNORE_INDEX}
    assert (len(reached), relabeled.num_classes) == REACHED[name]
    assert IGNORE_INDEX not in relabeled.to_universal
    assert reached <= set(relabeled.to_universal)


def test_relabelled_taxonomies_together_cover_the_universal_one():
    assert {u for name in RELABELED for u in load_taxonomy(name).to_universal} == set(range(194))


def test_riders_and_animals_have_the_published_defaults():
    universal = load_taxonomy("universal").classes
    for name, native, expected in (
        ("bdd", "rider", "rider_other"),
        ("cityscapes-19", "rider", "bicyclist"),
        ("idd-39", "rider", "motorcyclist"),
        ("mapillary-public65", "Ground Animal", "dog"),
    ):
        taxonomy = load_taxonomy(name)
        assert universal[taxonomy.to_universal[taxonomy.classes.index(native)]] == expected


@pytest.mark.parametrize("name", RELEASES)
def test_every_id_of_a_release_by_name(name):
    release, void = RELEASES[name]
    listed, through = names(release), table(release, name)
    ids = {c: i for i, c in enumerate(names(name))} | ({} if name == release else {"unlabeled": IGNORE_INDEX})
    expected = [ids[through[c]] for c in listed]
    remap = release_remap(name)
    assert look(remap, range(len(listed))) == expected
    ignored = [i for i, v in enumerate(expected) if v == IGNORE_INDEX]
    assert void in (None, ignored)
    assert (len(listed), len(ids.keys() - {"unlabeled"} if name != release else ids), len(ignored)) == COUNTS[name]


@pytest.mark.parametrize("name", RELEASES)
def test_ids_beyond_a_release_are_errors_but_255_of_eight_bits_is_ignored(name):
    remap, count = release_remap(name), len(names(RELEASES[name][0]))
    for beyond in range(count, 600):
        if beyond == IGNORE_INDEX:
            assert look(remap, [beyond]) == [IGNORE_INDEX]
        else:
            with pytest.raises(DataError, match=rf"ids \[{beyond}\]"):
                look(remap, [beyond])


def test_coco_has_133_categories_and_its_68_gaps_carry_no_class():
    listed, through = names("coco-panoptic-201"), table("coco-panoptic-201", "coco-panoptic-133")
    ids = {c: i for i, c in enumerate(names("coco-panoptic-133"))}
    remap = release_remap("coco-panoptic-133")
    gaps = [i for i, c in enumerate(listed) if c == "unlabeled"]
    real = [i for i in range(201) if i not in gaps]
    assert (len(real), len(gaps)) == (133, 68)
    assert look(remap, real) == [ids[through[listed[i]]] for i in real]
    assert look(remap, gaps) == [IGNORE_INDEX] * 68


def test_ade20k_is_alphabetical_and_sunrgbd_and_mapillary_are_not_reordered():
    for name in ("ade20k-150", "scannet-20", "pascal-context-60"):
        assert list(load_taxonomy(name).classes) == sorted(load_taxonomy(name).classes)
    assert look(release_remap("ade20k-150"), [1]) == [144]  # `wall`, and not 0
    assert look(release_remap("sunrgbd-37"), range(1, 38)) == list(range(37))
    assert look(release_remap("mapillary-public65"), range(65)) == list(range(65))
    assert look(release_remap("idd-39"), range(36, 40)) == list(range(35, 39))
    assert load_taxonomy("coco-panoptic-133").classes[:3] == ("banner", "blanket", "bridge")


@pytest.mark.parametrize("name", HELD_OUT)
def test_the_matrix_from_universal_to_a_held_out_taxonomy(name):
    classes = names(name)
    expected = np.zeros((len(classes), 194))
    for u, row in enumerate(master()[:194]):
        for c in cell(row[name]):
            expected[classes.index(c), u] = 1
    matrix = projection(load_taxonomy("universal"), load_taxonomy(name))
    assert np.array_equal(matrix, expected)
    assert matrix.sum() == RECEIVED[name]
    assert matrix.sum(0).max() == 1
    empty = [c for c, row in zip(classes, matrix, strict=True) if not row.any()]
    assert empty == (["flower", "wood"] if name == "pascal-context-60" else [])
    background = {"voc2012": 167, "pascal-context-60": 94}.get(name)
    assert background is None or matrix[classes.index("background")].sum() == background


@pytest.mark.parametrize("name", [*HELD_OUT, *TRAINING_TAXONOMIES])
def test_the_matrix_from_naive_to_a_dataset_is_equality_of_lower_case_names(name):
    naive, classes = [""] * 316, names(name)
    with (TAXONOMY / "derived/naive.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            naive[int(row["naive_id"])] = row["name"]
    expected = np.array([[n == c.lower() for n in naive] for c in classes], float)
    matrix = projection(load_taxonomy("naive"), load_taxonomy(name))
    assert np.array_equal(matrix, expected)
    unmatched = {c for c, row in zip(classes, matrix, strict=True) if not row.any()}
    assert unmatched == {
        "camvid-11": {"SignSymbol", "Pedestrian", "Column_Pole"},
        "pascal-context-60": {
            "aeroplane", "background", "bedclothes", "cloth", "ground", "motorbike", "pottedplant", "sign", "track",
            "tvmonitor", "wood",
        },
        "scannet-20": {"otherfurniture"},
        "voc2012": {"background", "aeroplane", "diningtable", "motorbike", "pottedplant", "tvmonitor"},
    }.get(name, set())  # fmt: skip


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
    with (TAXONOMY / "derived/cityscapes19_variants.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["dataset"] == VARIANTS[name]]
    expected = {int(r["native_id"]): int(r["cityscapes_train_id"]) for r in rows}
    assert len(expected) == {"gta5": 34, "shift": 23, "wilddash2": 81}.get(VARIANTS[name], len(rows))
    assert look(release_remap(name), [*expected]) == list(expected.values())
    assert [n for n, _ in release_classes(name)] == [r["native_name"] for r in rows if r["native_id"] != "255"]
    assert native_taxonomy(name) is load_taxonomy("cityscapes-19")
    beyond = max(i for i in expected if i != IGNORE_INDEX) + 1
    with pytest.raises(DataError, match=rf"ids \[{beyond}\]"):
        look(release_remap(name), [beyond])
