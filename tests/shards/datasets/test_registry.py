import csv
import json
import pickle
import re
from collections import defaultdict
from pathlib import Path

import pytest

from segstream.shards.datasets.layout import folder_of
from segstream.shards.datasets.registry import dataset, dataset_names, describe, registry
from segstream.shards.errors import UsageError
from segstream.shards.schema import read_yaml
from segstream.shards.taxonomy import load_taxonomy
from tests.shards.shared import SHARED, TAXONOMY, needs_mseg

EXTRAS = {"gta5-19", "shift-19", "mapillary-19", "bdd100k-19", "idd-19", "wilddash2-19", "bravo"}


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
    assert set(dataset_names()) == train.keys() | test.keys() | EXTRAS
    naive = {r["name"]: int(r["naive_id"]) for r in rows("naive.csv")}
    for name in train.keys() | test.keys():
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
        assert found["licence"]


@needs_mseg
def test_images_per_split_are_msegs():
    with (SHARED / "mseg/splits/list_files.csv").open(newline="") as file:
        counts = {(r["taxonomy"], r["list"]): int(r["distinct_images"]) for r in csv.DictReader(file)}
    for name in set(dataset_names()) - EXTRAS:
        for split, images in describe(name)["splits"].items():
            whole = name.startswith("coco-panoptic-133") and split == "train"
            assert images == (118287 if whole else counts[name, split]), (name, split)


def test_other_releases_are_in_the_classes_of_cityscapes():
    for name in EXTRAS:
        found = describe(name)
        assert (found["role"], found["taxonomy"]) == ("extra", "cityscapes-19")
        assert found["to_universal"] == describe("cityscapes-19")["to_universal"]
        assert found["labels"] == (name != "bravo")


@pytest.mark.parametrize("name", registry())
def test_every_dataset_can_be_read(name):
    data = dataset(name)
    assert data.taxonomy == load_taxonomy("cityscapes-19" if name in EXTRAS else name)
    assert (data.remap is None) == (name == "bravo")
    assert data.splits == registry()[name].splits
    assert pickle.loads(pickle.dumps(data)).taxonomy == data.taxonomy


def test_a_dataset_reads_no_other_folder_than_its_own_and_its_bases():
    """A stage of a pipeline depends on the folders of its dataset and of the one on which it builds."""
    folders = {folder_of(name): name for name in registry()}
    for folder, name in folders.items():
        stated = read_yaml(folder / "dataset.yaml")
        imported = re.findall(
            r"segstream\.shards\.datasets\.(\w+)\.source", "".join(map(Path.read_text, folder.glob("*.py")))
        )
        assert {folders[folder.parent / other] for other in imported} <= {stated.get("base")}, name


def test_unknown_names():
    for look_up in (describe, dataset):
        with pytest.raises(UsageError, match="dataset 'cityscape-19' is unknown; did you mean 'cityscapes-19'"):
            look_up("cityscape-19")
    with pytest.raises(UsageError, match="'bdd-relabeled' is a taxonomy of bdd, not a dataset; take 'bdd'"):
        dataset("bdd-relabeled")


def test_own_data_is_described_too(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("{name: own, splits: {train: {list: a}}, classes: [{name: a, universal: sky}, {name: b}]}")
    found = describe(str(path))
    assert (found["name"], found["role"], found["splits"]) == ("own", "extra", {"train": None})
    assert found["to_universal"] == {"0": load_taxonomy("universal").classes.index("sky"), "1": 255}
