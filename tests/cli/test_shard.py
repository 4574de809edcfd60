"""What `shard` tells a person, and that sets without labels are not judged on."""

import json

import numpy as np
import pytest

from cli import data
from cli.evaluation import _check_judgeable
from shards.convert import ConvertRequest, convert
from shards.errors import DataError
from shards.reader import open_shards
from tests.shards import trees


def shard(raw, out, **options):
    given = {"dataset": "ade20k-150", "split": ["train"], "workers": 1, "short_side": None, "shard_samples": 2}
    data.shard(**{**given, "relabel": None, "limit": None, "skip_bad": 0, "json": False, **options}, raw=raw, out=out)


def test_a_conversion_is_summed_up(tmp_path, capsys):
    raw, out = trees.ade20k(tmp_path / "raw"), str(tmp_path / "out")
    bad = raw / "annotations/training/ADE_train_00000002.png"
    bad.write_bytes(bad.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"1 of 5 samples cannot be used: .*00000002\.png: truncated PNG"):
        shard(raw, out)
    capsys.readouterr()
    shard(raw, out, skip_bad=1)
    said = capsys.readouterr()
    first, second = said.out.splitlines()
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


def test_sets_without_labels_are_not_judged_on(tmp_path):
    trees.save(tmp_path / "raw/bravo_ACDC/a.png", trees.picture(np.random.default_rng(0)))
    convert(ConvertRequest(dataset="bravo", split="test", raw=tmp_path / "raw", out=str(tmp_path / "out")))
    with open_shards(tmp_path / "out/bravo/test") as shards, pytest.raises(DataError, match="images without labels"):
        _check_judgeable(shards)
