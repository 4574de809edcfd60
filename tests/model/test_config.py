import pytest

from model import ModelConfig, TrainConfig
from shards.errors import DataError


def test_settings_that_exclude_each_other_are_refused():
    with pytest.raises(DataError, match=r"class_balance: 0.5; loss rmi has no place for it"):
        TrainConfig(steps=1, lr=0.1, loss="rmi", class_balance=0.5)
    with pytest.raises(DataError, match=r"fresh: \['last_layer'\]; without `weights` everything is"):
        ModelConfig(arch="hrnet-tiny", fresh=("last_layer",))
    assert ModelConfig(arch="hrnet-tiny", weights="a.pth", fresh=("last_layer",)).fresh == ("last_layer",)
