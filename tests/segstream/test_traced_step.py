"""How many modules a training step passes through, from the recipe's file to the updated weights."""

import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from segstream.model.training.train_state import TrainState
from segstream.recipe import load_recipe
from segstream.shards.convert.convert import convert
from segstream.training import train
from tests.pipeline.fakes import textured

STEP = (
    "pipeline.config",
    "model.config",
    "model.distributed",
    "pipeline.loader",
    "pipeline.samples",
    "pipeline.order",
    "pipeline.decode",
    "model.networks.build",
    "model.networks.hrnet",
    "model.networks.blocks",
    "model.training.trainer",
    "model.checkpoint",
    "model.training.train_state",
    "model.losses.loss",
    "pipeline.geometry",
    "pipeline.augment_opencv",
    "model.losses.pixel_loss",
    "model.networks.upsample",
)  # in the order in which they are met; docs/architecture.md names them
JOINS = {"segstream.recipe", "segstream.training", "segstream.callbacks", "segstream.run_metadata"}
ROOMS = ("segstream.pipeline.", "segstream.model.", "segstream.cli.")


class EnoughError(Exception):
    pass


@pytest.fixture
def recipe(tmp_path):
    for i in range(6):
        image, label = textured(np.random.default_rng(i), (48, 64), 2)
        for part, array in (("images", image), ("labels", label)):
            (tmp_path / "raw" / part).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(tmp_path / "raw" / part / f"{i}.{'jpg' if part == 'images' else 'png'}"), array)
    dataset = {
        "name": "yard",
        "root": str(tmp_path / "raw"),
        "splits": {"train": {"images": "images/*.jpg", "labels": "labels/*.png"}},
        "classes": [{"name": "ground", "universal": "terrain"}, {"name": "tree", "universal": "vegetation"}],
    }
    (tmp_path / "yard.yaml").write_text(yaml.safe_dump(dataset))
    convert(dataset=str(tmp_path / "yard.yaml"), split="train", out=str(tmp_path / "shards"))
    values = {
        "data": {"shards": str(tmp_path / "shards"), "mix": {"yard": 1}},
        "augment": {"short_side": 48, "crop": 33},
        "loader": {"batch": 4, "threads": 2},
        "model": {"arch": "hrnet-tiny"},
        "train": {"steps": 2, "lr": 0.01, "device": "cpu"},
        "eval": {"crop": 33},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(values))
    return str(tmp_path / "recipe.yaml")


def test_a_step_enters_at_most_18_modules(recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU by one process; all threads are seen. What reads shards, and what joins the rooms, is not counted."""
    seen: set[str] = set()

    def note(frame, event, _):
        if event == "call" and frame.f_code.co_filename.endswith(".py"):
            seen.add(str(frame.f_globals.get("__name__")))

    def update(self, *args, make=TrainState.update):
        make(self, *args)
        sys.setprofile(None)
        raise EnoughError

    monkeypatch.setattr(TrainState, "update", update)
    threading.setprofile(note)
    sys.setprofile(note)
    try:
        with pytest.raises(EnoughError):
            train(load_recipe(recipe), tmp_path / "run")
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    assert {name for name in seen if name.startswith(ROOMS)} == {f"segstream.{name}" for name in STEP}
    assert len(STEP) <= 18
    others = {name for name in seen if name.startswith("segstream.") and not name.startswith(ROOMS)}
    assert {name for name in others if not name.startswith("segstream.shards.")} == JOINS
