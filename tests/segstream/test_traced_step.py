"""How many modules a training step passes through, from the recipe's file to the updated weights."""

import sys

import pytest

from segstream.model.training.train_state import TrainState
from segstream.recipe import load_recipe
from segstream.training import train
from tests.segstream.recipes import modules_entered

STEP = """
pipeline.config model.config model.distributed pipeline.loader pipeline.samples pipeline.order pipeline.decode
model.networks.build model.networks.hrnet model.networks.blocks model.training.trainer model.checkpoint
model.training.train_state model.losses.loss pipeline.geometry pipeline.augment_opencv model.losses.pixel_loss
model.networks.upsample
"""  # in the order in which they are met; docs/architecture.md names them
JOINS = {"recipe", "training", "callbacks", "run_metadata"}


class EnoughError(Exception):
    pass


def test_a_step_enters_at_most_18_modules(place, tmp_path, monkeypatch):
    """On a CPU by one process; all threads are seen. What reads shards, and what joins the rooms, is not counted."""

    def update(self, *args, make=TrainState.update):
        make(self, *args)
        sys.setprofile(None)
        raise EnoughError

    monkeypatch.setattr(TrainState, "update", update)
    with modules_entered() as seen, pytest.raises(EnoughError):
        train(load_recipe(str(place / "recipe.yaml")), tmp_path / "run")
    assert {name for name in seen if name.startswith(("pipeline.", "model.", "cli."))} == set(STEP.split())
    assert len(STEP.split()) <= 18
    assert {name for name in seen if "." not in name} == JOINS
