import csv
import json
import pickle
import re
from pathlib import Path

import pytest

from segstream.shards.datasets.layout import folder_of
from segstream.shards.datasets.registry import dataset, dataset_names, describe, registry
from segstream.shards.errors import UsageError
from segstream.shards.schema import read_yaml
from segstream.shards.taxonomy import TRAINING_TAXONOMIES, load_taxonomy, naive_remap
from tests.shards.shared import SHARED, needs_mseg

EXTRAS = {"gta5-19", "shift-19", "mapillary-19", "bdd100k-19", "idd-19", "wilddash2-19", "bravo"}


def test_every_variant_is_described():
    names = {*TRAINING_TAXONOMIES, "cityscapes-34"}
    names |= {f"{name}-relabeled" for name in names}
    for name in set(dataset_names()) - EXTRAS:
        found, taxonomy = json.loads(json.dumps(describe(name))), load_taxonomy(name)
        assert (found["name"], found["taxonomy"], found["classes"]) == (name, name, list(taxonomy.classes))
        assert found["role"] == ("train" if name in names else "test")
        ids = {str(i): u for i, u in enumerate(taxonomy.to_universal)} if name in names else None
        assert found["to_universal"] == ids
        assert found["from_universal"] == ([list(pair) for pair in taxonomy.from_universal] if ids is None else None)
        naive = (
            {str(i): int(naive_remap(taxonomy).table[i]) for i in range(taxonomy.num_classes)}
            if name in TRAINING_TAXONOMIES
            else None
        )
        assert found["to_naive"] == naive
        assert found["licence"]
    assert names < set(dataset_names())


@needs_mseg
def test_images_per_split_are_msegs():
    with (SHARED / "mseg/splits/list_files.csv").open(newline="") as file:
        counts = {(r["taxonomy"], r["list"]): int(r["distinct_images"]) for r in csv.DictReader(file)}
    for name in set(dataset_names()) - EXTRAS:
        told = describe(name)
        for split, images in told["splits"].items():
            if split in told["optional"]:  # which MSeg does not have
                continue
            whole = name.startswith("coco-panoptic-133") and split == "train"
            assert images == (118287 if whole else counts[name, split]), (name, split)


def test_other_releases_are_in_the_classes_of_cityscapes():
    for name in EXTRAS:
        found = describe(name)
        assert (found["role"], found["taxonomy"]) == ("extra", "cityscapes-19")
        assert found["to_universal"] == describe("cityscapes-19")["to_universal"]
        assert found["labels"] == (name != "bravo")


@pytest.mark.parametrize("name", registry())
def test_archives_that_can_be_had_say_what_they_lie_in_and_where_their_members_go(name):
    archives = registry()[name].archives
    names = {archive.name for archive in archives}
    for archive in archives:
        assert archive.inside is None or archive.inside in names
        assert archive.unpack or not (archive.url or archive.inside)


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
