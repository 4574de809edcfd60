"""`segstream shard --relabel` as a user calls it."""

import json
from pathlib import Path

import numpy as np

from tests.cli.conftest import Command
from tests.shards import trees

HEADER = "dataset,split,original_class,new_class,parent,image_stem,segment_id"


def photo(raw: Path) -> None:
    label = np.zeros((24, 32), np.uint8)
    label[4:12, 4:12] = 11
    trees.save(raw / "seg/images/train/a.jpg", trees.picture(np.random.default_rng(0)))
    trees.save(raw / "seg/labels/train/a_train_id.png", label)


def test_relabelling_is_summed_up_and_counted(segstream: Command, tmp_path: Path) -> None:
    photo(tmp_path / "raw")
    records = tmp_path / "records.csv"
    rows = ["bdd,train,person,bicyclist,train,a,11", "bdd,train,person,person,train,b,11"]
    records.write_text("\n".join([HEADER, *rows, ""]))
    command = ("shard", "bdd", "--split", "train", "--raw", tmp_path / "raw", "--out", tmp_path, "--workers", 1)
    done = segstream(*command, "--relabel", records)
    assert done.code == 0, done.err
    assert "1 of 2 segments relabelled" in done.out
    assert "1 not: no such image in this split" in done.out
    (summary,) = json.loads(segstream(*command, "--relabel", records, "--json").out)
    assert (summary["relabel"]["applied"], summary["resumed_shards"]) == (1, 1)
    assert segstream("verify", tmp_path / "bdd/train", "--workers", 1).code == 0
    url = str(tmp_path / "bdd/train")
    table = json.loads(segstream("stats", url, "--member", "universal-relabeled", "--json").out)
    shown = {row["name"]: row["pixels"] for row in table[url] if row["pixels"]}
    assert shown == {"road": 24 * 32 - 64, "bicyclist": 64}


def test_records_with_a_bad_line_stop_it_before_any_work(segstream: Command, tmp_path: Path) -> None:
    photo(tmp_path / "raw")
    records = tmp_path / "records.csv"
    records.write_text(f"{HEADER}\nbdd,train,person,cyclist,train,a,11\n")
    done = segstream("shard", "bdd", "--raw", tmp_path / "raw", "--out", tmp_path / "out", "--relabel", records)
    assert done.code == 1
    assert done.err.count("\n") == 1
    assert "records.csv:2: bdd has no class 'cyclist' after relabelling; did you mean 'bicyclist'?" in done.err
    assert not (tmp_path / "out").exists()
