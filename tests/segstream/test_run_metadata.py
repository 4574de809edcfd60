"""The account of a run: every start of it, how each ended, and that a refused start writes nothing."""

import json
import subprocess
from contextlib import suppress

import pytest
import torch

from segstream import run_metadata
from segstream.model.training.trainer import Stopped
from segstream.run_metadata import run_metadata as account_of
from segstream.shards.errors import DataError
from segstream.training import train
from tests.model.toy import ToySource
from tests.segstream.recipes import toy

pytestmark = pytest.mark.usefixtures("toy_batches")


def account(run):
    return json.loads((run / "run.json").read_text())


def test_it_says_what_ran_on_what_with_which_versions(tmp_path):
    run = tmp_path / "run"
    train(toy(tmp_path, "seed=7", "train.precision=tf32"), run, given=("toy.yaml", "seed=7"))
    content = account(run)
    assert content["recipe"]["train"]["steps"] == 6
    assert (content["seed"], content["data"]) == (7, ToySource().fingerprint)
    assert content["versions"]["torch"] == torch.__version__
    (start,) = content["starts"]
    assert {*start} >= {"at", "ended", "host"}
    assert {name: value for name, value in start.items() if name not in ("at", "ended", "host")} == {
        **{"step": 0, "given": ["toy.yaml", "seed=7"], "world_size": 1, "device": "cpu"},
        **{"precision": "fp32", "engine": "engine toy", "outcome": "finished"},
    }


def test_every_start_is_kept_and_how_it_ended(tmp_path):
    recipe = toy(tmp_path)
    for step, error in ((0, Stopped("stop")), (3, DataError("disk")), (4, KeyboardInterrupt()), (5, None)):
        with suppress(DataError, KeyboardInterrupt), account_of(tmp_path, recipe, {}, world_size=2) as begin:
            begin(step)
            if error is not None:
                raise error
    starts = account(tmp_path)["starts"]
    assert [s["step"] for s in starts] == [0, 3, 4, 5]
    assert [s["outcome"] for s in starts] == ["stopped", "failed", "interrupted", "finished"]


def test_a_start_that_is_refused_or_has_nothing_to_do_leaves_the_account_alone(tmp_path):
    run = tmp_path / "run"
    train(toy(tmp_path), run)
    before = (run / "run.json").read_bytes()
    train(toy(tmp_path), run)
    with pytest.raises(DataError, match="another run"):
        train(toy(tmp_path, "train.lr=0.5"), run)
    assert (run / "run.json").read_bytes() == before


def test_no_revision_is_claimed_where_the_code_lies_in_no_repository_of_its_own(tmp_path, monkeypatch):
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)  # somebody else's; the code is installed below it
    (tmp_path / "site-packages").mkdir()
    monkeypatch.setattr(run_metadata, "SOURCE", tmp_path / "site-packages")
    assert run_metadata._revision() == {"git": None, "git_dirty": None}
