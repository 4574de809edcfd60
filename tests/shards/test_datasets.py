import csv
import json
from collections import defaultdict
from importlib import import_module

import pytest

from shards.datasets import check_raw, dataset, dataset_names, describe
from shards.errors import UsageError
from shards.taxonomy import load_taxonomy
from tests.shards import trees
from tests.shards.shared import SHARED, TAXONOMY, needs_mseg

CONVERTIBLE = {"ade20k-150", "coco-panoptic-133", "cityscapes-19", "sunrgbd-37", "voc2012", "camvid-11", "kitti-19"}


def rows(name):
    with (TAXONOMY / "derived" / name).open(newline="") as file:
        return list(csv.DictReader(file))


@needs_mseg
def test_every_variant_is_described_as_mseg_has_it():
    train, test = defaultdict(dict), defaultdict(list)
    for row in rows("train_to_universal.csv"):
        train[row["taxonomy"]][row["id"]] = int(row["universal_id"])
    for row in rows("universal_to_test.csv"):
        if row["test_id"]:
            test[row["test_taxonomy"]].append([int(row["universal_id"]), int(row["test_id"])])
    assert set(dataset_names()) == train.keys() | test.keys()
    naive = {r["name"]: int(r["naive_id"]) for r in rows("naive.csv")}
    for name in dataset_names():
        found = json.loads(json.dumps(describe(name)))
        assert found["name"] == found["taxonomy"] == name
        assert found["classes"] == (TAXONOMY / f"{name}_names.txt").read_text().splitlines()
        assert found["role"] == ("train" if name in train else "test")
        assert found["to_universal"] == train.get(name)
        assert (sorted(found["from_universal"]) if name in test else found["from_universal"]) == (
            sorted(test[name]) if name in test else None
        )
        if found["to_naive"] is not None:
            assert found["to_naive"] == {str(i): naive[c.lower()] for i, c in enumerate(found["classes"])}
        assert (found["to_naive"] is None) == (name.endswith("-relabeled") or name in test or name == "cityscapes-34")
        assert found["convertible"] == (name in CONVERTIBLE)
        assert found["licence"]


@needs_mseg
def test_images_per_split_are_msegs():
    with (SHARED / "mseg/splits/list_files.csv").open(newline="") as file:
        counts = {(r["taxonomy"], r["list"]): int(r["distinct_images"]) for r in csv.DictReader(file)}
    for name in dataset_names():
        for split, images in describe(name)["splits"].items():
            if (name, split) == ("coco-panoptic-133", "train") or (name, split) == (
                "coco-panoptic-133-relabeled",
                "train",
            ):
                assert images == 118287
            else:
                assert images == counts[name, split], (name, split)


@pytest.mark.parametrize("name", sorted(CONVERTIBLE))
def test_every_convertible_dataset_has_its_source(name):
    data = dataset(name)
    assert data.source.native == load_taxonomy(name)
    module = import_module(f"shards.sources.{name.replace('-', '_')}")
    assert data.source.find is module.source().find


def test_sources_do_not_import_one_another():
    from tests.test_imports import ROOT, imported

    files = [f for f in (ROOT / "shards/sources").glob("*.py") if f.stem not in ("__init__", "common")]
    assert len(files) == 8
    for file in files:
        names = {name for _, name in imported(file) if name.startswith("shards.sources")}
        assert names <= {"shards.sources.common"}, file


def test_unknown_names():
    with pytest.raises(UsageError, match="dataset 'cityscape-19' is unknown; did you mean 'cityscapes-19'"):
        describe("cityscape-19")


def test_own_data_is_described_too(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("{name: own, splits: {train: {list: a}}, classes: [{name: a, universal: sky}, {name: b}]}")
    found = describe(str(path))
    assert (found["name"], found["role"], found["splits"]) == ("own", "extra", {"train": None})
    assert found["to_universal"] == {"0": load_taxonomy("universal").classes.index("sky"), "1": 255}


def test_a_raw_folder_is_compared_with_the_release(tmp_path):
    raw = trees.ade20k(tmp_path)
    (raw / "annotations/training/ADE_train_00000002.png").unlink()
    (raw / "images/training/ADE_train_00000003.jpg").unlink()
    train, val = check_raw("ade20k-150", raw)
    assert (train["split"], train["expected"], train["images"], train["missing"]) == ("train", 20210, 4, 20208)
    assert train["first_missing"] == [
        "annotations/training/ADE_train_00000002.png",
        "image of annotations/training/ADE_train_00000003.png",
    ]
    assert train["problem"] == "20208 files are missing"
    assert (val["images"], val["missing"], val["problem"]) == (2, 1998, "1998 files are missing")
    (nowhere, _) = check_raw("ade20k-150", tmp_path / "x")
    assert "no such folder" in nowhere["problem"]


def test_listed_images_that_are_absent_are_named(tmp_path):
    _, val = check_raw("kitti-19", trees.kitti(tmp_path, count=49))
    assert (val["images"], val["missing"], val["problem"]) == (49, 1, "1 files are missing")
    assert len(val["first_missing"]) == 1
    _, val = check_raw("kitti-19", trees.kitti(tmp_path, count=50))
    assert (val["images"], val["missing"], val["problem"]) == (50, 0, None)
