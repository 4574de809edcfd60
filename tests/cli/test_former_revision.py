"""A shard set, a run and its results as revision 1600adb wrote them: later code reads them and goes on from them."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from segstream.model.checkpoint import load_final
from segstream.shards.format.reader import open_shards

MADE = Path(__file__).parents[1] / "data/revision-1600adb"


@pytest.fixture(autouse=True)
def copy(tmp_path, monkeypatch):
    """What that revision left, as the current folder."""
    shutil.copytree(MADE, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_its_shards_are_sound(here):
    done = here("verify", "shards/ade20k-150/train", "shards/ade20k-150/val")
    assert done.code == 0, done.out


def test_its_model_scores_the_same(here):
    done = here("eval", "run/final.pt", "--data", "shards/ade20k-150/val", "--json")
    expected = json.loads((MADE / "expected/eval.json").read_text())
    assert done.code == 0, done.err
    (row,) = json.loads(done.out)
    assert {key: row[key] for key in expected} == pytest.approx(expected, abs=1e-4)  # other processors round otherwise


def test_its_model_predicts_the_same(here, copy):
    (copy / "photos").mkdir()
    with open_shards("shards/ade20k-150/val") as shards:
        for i in range(len(shards)):
            (copy / "photos" / f"{shards.entry(i).key}.jpg").write_bytes(shards.read(i, "image"))
    assert here("predict", "photos", "--checkpoint", "run/final.pt", "--out", "out").code == 0
    for path in sorted((MADE / "expected").glob("*.png")):
        ids, expected = (cv2.imread(str(p), cv2.IMREAD_UNCHANGED) for p in (copy / "out/labels" / path.name, path))
        assert (ids == expected).mean() > 0.99, path.name
        assert len(np.unique(expected)) > 1


def test_its_finished_run_is_known_and_goes_on_from_its_checkpoint_and_ends_as_it_did(here, copy):
    final = (copy / "run/final.pt").read_bytes()
    done, other = here("train", "tiny.yaml", "--run", "run"), here("train", "tiny.yaml", "train.lr=0.5", "--run", "run")
    assert (done.code, other.code) == (0, 1)
    assert "already finished" in done.err
    assert "train.lr" in other.err
    assert (copy / "run/final.pt").read_bytes() == final
    (copy / "run/final.pt").unlink()
    done = here("train", "tiny.yaml", "--run", "run")
    assert done.code == 0, done.err
    assert "going on from run/checkpoints/step-00000040.pt at step 40 of 60" in done.err
    ours, theirs = load_final("run/final.pt"), load_final(MADE / "run/final.pt")
    assert (ours.identity, ours.step) == (theirs.identity, theirs.step)
    torch.testing.assert_close(ours.weights, theirs.weights, rtol=1e-3, atol=1e-4)
    curve = (copy / "run/dvclive/plots/metrics/loss.tsv").read_text().splitlines()
    assert [line.split("\t")[0] for line in curve] == ["step", "20", "40", "60"]
