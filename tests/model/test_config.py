import pytest

from segstream.model.config import CCSAConfig, ModelConfig, TrainConfig
from segstream.shards.errors import DataError

NEEDED = {TrainConfig: {"steps": 1, "lr": 0.1}, ModelConfig: {"arch": "hrnet-tiny"}}


@pytest.mark.parametrize(
    ("config", "changes", "text"),
    [
        (TrainConfig, {"accumulate": 0}, "accumulate: 0; must be at least 1"),
        (TrainConfig, {"keep": 0}, "keep: 0; must be at least 1"),
        (TrainConfig, {"validate_every": 0}, "validate_every: 0; must be at least 1"),
        (TrainConfig, {"clip_norm": 0.0}, "clip_norm: 0.0; must be above 0, or null for none"),
        (TrainConfig, {"ema": 1.0}, "ema: 1.0; must be between 0 and 1, or null for none"),
        (TrainConfig, {"mgda": True, "precision": "fp16"}, "precision: fp16 scales losses, which mgda compares"),
        (TrainConfig, {"loss": "rmi", "class_balance": 0.5}, "class_balance: 0.5; loss rmi has no place for it"),
        (
            TrainConfig,
            {"loss": "relaxed", "class_balance": 0.5},
            "class_balance: 0.5; loss relaxed has no place for it",
        ),
        (TrainConfig, {"aux_rmi": True}, "aux_rmi: true; loss ce has no regions"),
        (
            TrainConfig,
            {"ccsa": CCSAConfig(), "accumulate": 2},
            "accumulate: 2; ccsa compares places of the whole batch",
        ),
        (TrainConfig, {"ccsa": CCSAConfig(), "mgda": True}, "mgda: true; ccsa compares places of the whole batch"),
        (CCSAConfig, {"alpha": 1.5}, r"alpha: 1.5; must be in \[0, 1\]"),
        (CCSAConfig, {"margin": 0.0}, "margin: 0.0; must be above 0"),
        (CCSAConfig, {"positives": 0}, "positives: 0; must be at least 1"),
        (TrainConfig, {"epochs": 3.0}, "steps, crops, epochs: steps and epochs given; a run has one length"),
        (TrainConfig, {"steps": None, "epochs": 0.0}, "epochs: 0.0; must be above 0"),
        (TrainConfig, {"steps": None, "epochs": {"a": 1.0, "b": 2.0}}, r"epochs: .*; must be above 0, of one dataset"),
        (TrainConfig, {"schedule_per": "epoch"}, "schedule_per: epoch; what an epoch is follows from train.epochs"),
        (TrainConfig, {"warmup_steps": -1}, "warmup_steps: -1; must be 0 or above"),
        (ModelConfig, {"fresh": "auto"}, "fresh: auto; without `weights` everything is"),
        (ModelConfig, {"fresh": ("last_layer",)}, r"fresh: \('last_layer',\); without `weights` everything is"),
    ],
)
def test_values_that_mean_nothing_are_refused(config, changes, text):
    with pytest.raises(DataError, match=text):
        config(**NEEDED.get(config, {}) | changes)
