import pytest

from segstream.model.config import ModelConfig, TrainConfig
from segstream.shards.errors import DataError


def test_settings_that_exclude_each_other_are_refused():
    with pytest.raises(DataError, match=r"class_balance: 0.5; loss rmi has no place for it"):
        TrainConfig(steps=1, lr=0.1, loss="rmi", class_balance=0.5)
    with pytest.raises(DataError, match=r"fresh: \['last_layer'\]; without `weights` everything is"):
        ModelConfig(arch="hrnet-tiny", fresh=("last_layer",))
    assert ModelConfig(arch="hrnet-tiny", weights="a.pth", fresh=("last_layer",)).fresh == ("last_layer",)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"accumulate": 0}, "accumulate: 0; must be at least 1"),
        ({"keep": 0}, "keep: 0; must be at least 1"),
        ({"validate_every": 0}, "validate_every: 0; must be at least 1"),
        ({"clip_norm": 0.0}, "clip_norm: 0.0; must be above 0, or null for none"),
        ({"ema": 1.0}, "ema: 1.0; must be between 0 and 1, or null for none"),
        ({"mgda": True, "precision": "fp16"}, "precision: fp16 scales losses, which mgda compares"),
    ],
)
def test_values_that_mean_nothing_are_refused(changes, text):
    with pytest.raises(DataError, match=text):
        TrainConfig(steps=1, lr=0.1, **changes)
