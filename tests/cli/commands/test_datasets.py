"""The `datasets` command as a person and as a machine use it."""

import json
from contextlib import nullcontext

import pytest
from typer.testing import CliRunner

from segstream.cli.main import app
from segstream.shards.datasets.layout import split_list
from segstream.shards.datasets.registry import registry


def run(*args):
    return CliRunner().invoke(app, ["datasets", *map(str, args)])


@pytest.fixture
def kitti(tmp_path):
    for stem in (stem for split in ("train", "val") for stem in split_list("kitti-19", split)):
        for folder in ("image_2", "semantic"):
            path = tmp_path / f"training/{folder}/{stem}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    return tmp_path


def test_one_dataset_for_people():
    shown = run("cityscapes-19").stdout
    for text in (
        "role: train",
        "images: train:2975, val:500",
        "licence: Cityscapes terms",
        "get it from: https://www.cityscapes-dataset.com; with registration",
        "taxonomy: cityscapes-19, 19 classes",
        "universal classes: labels become 19 of them",
        "gtFine_trainvaltest.zip  241 MB  md5:4237c19de34c8a376e9ba46b495d6f66",
        "gtFine/{train,val}/CITY/*_gtFine_labelIds.png  (labels)",
        "18 bicycle",
    ):
        assert text in shown
    assert "held out; predictions of 12 of them count" in run("camvid-11").stdout
    assert "no labels are published" in run("bravo").stdout


def test_own_data_for_people(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("{name: own, splits: {train: {list: a}}, classes: [{name: a, universal: sky}, {name: b}]}")
    shown = run(path).stdout
    assert "images: train:?" in shown
    assert "universal classes: labels become 1 of them" in shown


def test_the_table_and_json_have_every_dataset_and_the_keys_that_machines_read():
    lines = run().stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["dataset", *registry()]
    assert "train:118287 val:5000" in next(line for line in lines if line.startswith("coco"))
    listed = json.loads(run("--json").stdout)
    keys = {"name", "role", "taxonomy", "classes", "splits", "to_universal", "from_universal", "to_naive"}
    assert all(keys <= known.keys() for known in listed)
    (one,) = (known for known in listed if known["name"] == "bdd-relabeled")
    assert one == json.loads(run("bdd-relabeled", "--json").stdout)


def test_check_tells_by_its_exit_code(kitti):
    done = run("kitti-19", "--check", kitti)
    assert (done.exit_code, "complete" in done.stdout) == (0, True)
    assert "val: 50 of 50 images, 50 of 50 labels" in done.stdout
    gone = kitti / f"training/semantic/{split_list('kitti-19', 'val')[0]}.png"
    gone.unlink()
    done = run("kitti-19", "--check", kitti)
    assert (done.exit_code, "NOT complete" in done.stdout) == (1, True)
    assert f"missing: {gone.relative_to(kitti)}" in done.stdout
    found = json.loads(run("kitti-19", "--check", kitti, "--json").stdout)
    assert found["ok"] is False
    assert found["splits"][1]["missing_labels"] == 1


def test_check_tells_a_wrong_version(tmp_path):
    (tmp_path / "panoptic.json").touch()
    done = run("wilddash-19", "--check", tmp_path)
    assert done.exit_code == 1
    assert "problem: this is WildDash 2" in done.stdout


def test_download_unpacks_and_checks(tmp_path, kitti, monkeypatch):
    asked = []

    def download(name, folder, *, watch):
        asked.append((name, folder))
        with watch("download a.zip", "MB") as report:
            report(1, 1)
        assert watch is not nullcontext

    monkeypatch.setattr("segstream.shards.datasets.download.download", download)
    done = run("kitti-19", "--download", kitti)
    assert asked == [("kitti-19", kitti)]
    assert done.exit_code == 0
    assert "val: 50 of 50 images" in done.stdout
    assert run("camvid-11", "--download", tmp_path / "x").exit_code == 1


def test_options_that_need_a_name():
    for option in ("--check", "--download"):
        error = run(option, "x").exception
        assert f"{option} needs the name of a dataset" in str(error)
