"""`segstream shard --relabel` as a user calls it."""

import json
from collections import Counter

from tests.shards.convert.test_relabel import bdd, record_file


def test_relabelling_is_summed_up_and_counted(here, tmp_path):
    case = bdd(tmp_path / "raw")
    command = ("shard", "bdd", "--split", "train", "--raw", case.raw, "--out", tmp_path, "--workers", 1)
    command += ("--relabel", record_file(tmp_path, case.rows))
    done = here(*command)
    assert done.code == 0, done.err
    assert "2 of 4 segments relabelled" in done.out
    assert "1 not: no such image in this split" in done.out
    (summary,) = json.loads(here(*command, "--json").out)
    assert (summary["relabel"]["applied"], summary["resumed_shards"]) == (2, 1)
    assert here("verify", tmp_path / "bdd/train", "--workers", 1).code == 0
    url = str(tmp_path / "bdd/train")
    table = json.loads(here("stats", url, "--member", "universal-relabeled", "--json").out)
    shown = {row["name"]: row["pixels"] for row in table[url] if row["pixels"]}
    assert shown | {"unlabeled": (case.truth == "unlabeled").sum()} == Counter(case.truth.ravel().tolist())


def test_records_with_a_bad_line_stop_it_before_any_work(here, tmp_path):
    raw = bdd(tmp_path / "raw").raw
    records = record_file(tmp_path, ["bdd,train,person,cyclist,train,a,11"])
    done = here("shard", "bdd", "--raw", raw, "--out", tmp_path / "out", "--relabel", records)
    assert done.code == 1
    assert done.err.count("\n") == 1
    assert "records.csv:2: bdd has no class 'cyclist' after relabelling; did you mean 'bicyclist'?" in done.err
    assert not (tmp_path / "out").exists()
