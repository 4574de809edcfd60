"""What `shard` tells a person."""

import json

import numpy as np
import pytest

from segstream.cli.commands.shard import shard as command
from segstream.shards.errors import DataError
from tests.shards import trees


def shard(raw, out, **options):
    given = {"dataset": "ade20k-150", "split": ["train"], "workers": 1, "short_side": None, "shard_samples": 2}
    command(**{**given, "relabel": None, "limit": None, "skip_bad": 0, "json": False, **options}, raw=raw, out=out)


def test_a_conversion_is_summed_up(tmp_path, capsys):
    raw, out = trees.ade20k(tmp_path / "raw"), str(tmp_path / "out")
    bad = raw / "annotations/training/ADE_train_00000002.png"
    bad.write_bytes(bad.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"1 of 5 samples cannot be used: .*00000002\.png: truncated PNG"):
        shard(raw, out)
    capsys.readouterr()
    shard(raw, out, skip_bad=1)
    said = capsys.readouterr()
    first, labels, second = said.out.splitlines()
    nowhere = "airplane; animal; apparel; and 142 more"
    assert labels == f"  8.3% of the pixels are ignored; 145 of 150 classes occur nowhere: {nowhere}"
    assert first.startswith(f"{out}/ade20k-150/train: 4 samples in 3 shards (3 kept from before), 0.0 MB, ")
    assert first.endswith(" images/s, 1 left out")
    assert second.startswith("  left out: annotations/training/ADE_train_00000002.png: truncated PNG")
    assert "shard ade20k-150 train: 5 of 5 images in " in said.err


def test_images_that_are_absent_are_named(tmp_path, capsys):
    raw = trees.kitti(tmp_path / "raw", count=2)
    shard(raw, str(tmp_path / "out"), dataset="kitti-19", split=["val"], json=True)
    said = capsys.readouterr()
    (summary,) = json.loads(said.out)
    assert (summary["samples"], summary["absent"], len(summary["first_absent"])) == (2, 48, 5)
    assert "48 images that the release lists are not in" in said.err
    assert f"{summary['first_absent'][0]}, " in said.err


def test_own_data_tell_what_is_ignored_what_is_left_out_and_what_cannot_be_learnt(tmp_path, capsys):
    for n in range(2):
        trees.save(tmp_path / f"images/{n}.png", np.full((8, 8, 3), n, np.uint8))
        trees.save(tmp_path / f"labels/{n}.png", np.full((8, 8), 255, np.uint8))
    (tmp_path / "images/b.jfif").touch()
    own = tmp_path / "own.yaml"
    own.write_text("name: mine\nsplits: {val: {images: images/*.png, labels: labels/*.png}}\nclasses: [{name: a}]\n")
    options = {"dataset": str(own), "split": ["val"]}
    shard(tmp_path, str(tmp_path / "out"), **options, json=True)
    said = capsys.readouterr()
    (summary,) = json.loads(said.out)
    beside = f"{own}.splits.val: no glob matches 1 other files there: 1 .jfif (images/b.jfif)"
    assert {key: summary[key] for key in ("pixels", "ignored", "alike", "notes")} == {
        "pixels": 128,
        "ignored": {"255": 128},
        "alike": ["native.png"],
        "notes": [beside],
    }
    nothing = "mine val: no pixel is labelled: there is nothing to learn, nor to evaluate by"
    alike = "mine val: all 2 samples have the same native.png"
    warned = [line.removeprefix("warning: ") for line in said.err.splitlines() if line.startswith("warning: ")]
    assert warned == [beside, nothing, alike]
    shard(tmp_path, str(tmp_path / "out"), **options)
    line = "  100.0% of the pixels are ignored (values in the label files: 255 on 128); 1 of 1 classes occur nowhere: a"
    assert line in capsys.readouterr().out.splitlines()


def test_optional_splits_are_converted_if_they_are_named(tmp_path, capsys):
    raw, out = trees.coarse(trees.cityscapes(tmp_path / "raw")), str(tmp_path / "out")
    shard(raw, out, dataset="cityscapes-19", split=None, json=True)
    assert [made["split"] for made in json.loads(capsys.readouterr().out)] == ["train", "val"]
    shard(raw, out, dataset="cityscapes-19", split=["train_extra", "train_coarse"], skip_bad=1, json=True)
    made = json.loads(capsys.readouterr().out)
    assert [(one["split"], one["samples"]) for one in made] == [("train_extra", 2), ("train_coarse", 1)]
    with pytest.raises(DataError, match="gtCoarse/val: no such folder"):
        shard(raw, out, dataset="cityscapes-19", split=["val_coarse"])
