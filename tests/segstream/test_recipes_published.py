"""The published recipes against what was published: lengths, sizes and mixes."""

import re
from pathlib import Path

import pytest

from segstream.recipe import load_recipe, recipe_names
from segstream.shards.datasets.registry import registry
from segstream.shards.errors import DataError

FACTS = Path(__file__).parents[3] / "shared/mseg/training-facts.md"
PUBLISHED = [name for name in recipe_names() if re.search(r"-[13]m-\d+p$|-3m-\d+p$", name)]
TRAINING = (
    "ade20k-150",
    "bdd",
    "cityscapes-19",
    "coco-panoptic-133",
    "idd-39",
    "mapillary-public65",
    "sunrgbd-37",
)
ORACLES = ("voc2012", "pascal-context-60", "camvid-11", "kitti-19", "scannet-20")
# Configuration -> (recipe, taxonomy), as the table of configurations names them.
CONFIGS = {
    "1080/mseg-relabeled-3m": ("mseg-relabeled-3m-1080p", "universal-relabeled"),
    "1080/mseg-unrelabeled": ("mseg-unrelabeled-1m-1080p", "universal"),
    "1080/mseg-naive-baseline": ("mseg-naive-1m-1080p", "naive"),
    "1080/mseg-mgda": ("mseg-mgda-1m-1080p", "universal-relabeled"),
    "480/mseg-3m": ("mseg-relabeled-3m-480p", "universal-relabeled"),
    "720/mseg-3m": ("mseg-relabeled-3m-720p", "universal-relabeled"),
}
CONFIGS_OF_ONE = {
    "1080/single_universal": ([f"single-{d}-1m-1080p" for d in TRAINING], "universal"),
    "1080/single_oracle": ([f"oracle-{d}-1m-1080p" for d in ORACLES], "native"),
}


def reference_steps(crops: int, batch: int, gpus: int, replicas: int) -> int:
    """As the reference counts: per-GPU batch, times the GPUs of a dataset, into the crops of a dataset."""
    return crops // (batch // gpus * replicas)


@pytest.mark.parametrize(
    ("recipe", "overrides", "crops", "batch", "gpus", "replicas", "steps"),
    [
        ("mseg-relabeled-1m-1080p", [], 1_000_000, 35, 7, 1, 200_000),  # the text
        ("mseg-relabeled-1m-1080p", ["loader.batch=14"], 1_000_000, 14, 7, 1, 500_000),  # the configuration file
        ("mseg-relabeled-3m-1080p", [], 3_000_000, 35, 7, 1, 600_000),
        ("mseg-relabeled-3m-720p", [], 3_000_000, 49, 7, 1, 428_571),
        ("mseg-relabeled-3m-480p", [], 3_000_000, 84, 7, 1, 250_000),
        ("mseg-unrelabeled-1m-1080p", [], 1_000_000, 35, 7, 1, 200_000),
        ("mseg-naive-1m-1080p", [], 1_000_000, 28, 7, 1, 250_000),
        *((f"single-{d}-1m-{p}", [], 1_000_000, 32, 8, 8, 31_250) for d in TRAINING for p in ("480p", "1080p")),
        *((f"oracle-{d}-1m-1080p", [], 1_000_000, 32, 8, 8, 31_250) for d in ORACLES),
        ("pspnet50-mseg-relabeled-1m-1080p", [], 1_000_000, 35, 7, 1, 200_000),
        ("pspnet101-mseg-relabeled-1m-1080p", [], 1_000_000, 35, 7, 1, 200_000),
        ("hrnet-ocr-mseg-relabeled-1m-1080p", [], 1_000_000, 35, 7, 1, 200_000),
        ("pspnet50-oracle-voc2012-1m-1080p", [], 1_000_000, 32, 8, 8, 31_250),
        ("pspnet50-oracle-camvid-11-1m-1080p", [], 1_000_000, 32, 8, 8, 31_250),
    ],
)
def test_steps_are_those_of_the_reference(
    recipe: str, overrides: list[str], crops: int, batch: int, gpus: int, replicas: int, steps: int
) -> None:
    found = load_recipe(recipe, overrides)
    assert found.steps == steps == reference_steps(crops, batch, gpus, replicas)
    assert crops - found.loader.batch < found.crops_per_dataset <= crops


@pytest.mark.skipif(not FACTS.exists(), reason=f"no {FACTS}")
def test_sizes_are_those_of_the_configurations() -> None:
    lines = [line.strip("|").split("|") for line in FACTS.read_text().split("### 1.3")[1].split("###")[0].splitlines()]
    rows = {cells[0].strip(): [cell.strip() for cell in cells] for cells in lines if len(cells) == 10}
    cases = [(config, name, view) for config, (name, view) in CONFIGS.items() if name in recipe_names()]
    cases += [(config, name, view) for config, (names, view) in CONFIGS_OF_ONE.items() for name in names]
    for config, name, view in cases:
        _, _, crop, side, crops, _, batch, steps, *_ = rows[config]
        recipe = load_recipe(name)
        assert recipe.augment.crop == int(crop), name
        assert recipe.augment.short_side == int(side), name
        assert recipe.loader.batch == int(batch.split()[0]), name
        assert recipe.steps == int(steps.replace(",", "")), name
        assert recipe.crops_per_dataset // 10_000 == int(crops.split()[0]) * 100 - (recipe.steps == 428_571), name
        assert recipe.data.taxonomy == view, name


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_all_published_recipes_share(name: str) -> None:
    recipe = load_recipe(name)
    augment = recipe.augment
    assert (augment.scale, augment.rotate_deg) == ((0.5, 2.0), (-10.0, 10.0))
    assert (augment.rotate_p, augment.blur_p, augment.flip_p) == (0.5, 0.5, 0.5)
    train = recipe.train
    assert (train.optimizer, train.lr, train.power, train.momentum, train.weight_decay) == ("sgd", 0.01, 0.9, 0.9, 1e-4)
    assert (train.precision, train.loss, train.class_balance) == ("fp32", "ce", 0.0)
    assert (recipe.model.weights, recipe.model.options) == (None, {})
    assert (recipe.eval.crop, recipe.eval.flip, recipe.eval.scales) == (713, True, (1.0,))
    assert recipe.eval.short_side == augment.short_side
    assert name.endswith(f"-{augment.short_side}p")
    assert (augment.crop_hw[0] - 1) % 8 == 0  # corners of the network's grid lie on those of the crop


@pytest.mark.parametrize("name", PUBLISHED)
def test_mixes_are_of_known_training_sets_in_equal_shares(name: str) -> None:
    recipe = load_recipe(name)
    assert set(recipe.data.mix.values()) == {1}
    assert all(registry()[dataset].splits["train"] for dataset in recipe.data.mix)
    if len(recipe.data.mix) > 1:
        assert tuple(recipe.data.mix) == TRAINING
    else:
        (dataset,) = recipe.data.mix
        assert f"-{dataset}-" in name
        assert (registry()[dataset].role == "train") == (recipe.data.taxonomy == "universal")


def test_unequal_shares_move_crops_between_datasets_but_leave_the_length_alone() -> None:
    equal = load_recipe("union-universal", ["train.crops=1000", "loader.batch=8"])
    shifted = load_recipe("union-universal", ["train.crops=1000", "loader.batch=8", "data.mix.sunrgbd-37=1/3"])
    assert equal.steps == shifted.steps == 500
    assert shifted.crops_per_dataset == 1000


def test_crops_or_steps_whichever_was_said_last() -> None:
    assert load_recipe("mseg-relabeled-1m-1080p", ["train.steps=5"]).steps == 5
    assert load_recipe("union-universal", ["train.steps=5", "train.crops=60"]).steps == 10
    assert load_recipe("union-universal", ["train.crops=60", "train.steps=5"]).steps == 5


def test_a_length_that_cannot_be_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="1 of each of 4 datasets do not fill a batch of 24"):
        load_recipe("union-universal", ["train.crops=1"])
    base = Path("recipes/union-universal.yaml").resolve()
    (tmp_path / "both.yaml").write_text(f"extends: {base}\ntrain: {{steps: 1, crops: 100}}\n")
    with pytest.raises(DataError, match="both are given"):
        load_recipe(str(tmp_path / "both.yaml"))
    (tmp_path / "none.yaml").write_text(f"extends: {base}\ntrain: {{steps: null}}\n")
    with pytest.raises(DataError, match="neither is given"):
        load_recipe(str(tmp_path / "none.yaml"))
    with pytest.raises(DataError, match="crops: 0; must be at least 1"):
        load_recipe("union-universal", ["train.crops=0"])
