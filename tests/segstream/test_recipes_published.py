"""The published recipes against what was published: lengths, sizes and mixes."""

import re
from pathlib import Path

import pytest

from segstream.recipe import load_recipe, read_recipe, recipe_names, resolve
from segstream.shards.datasets.registry import registry
from segstream.shards.errors import DataError
from segstream.shards.taxonomy import load_taxonomy

RECIPES = Path("recipes").resolve()
PUBLISHED = [name for name in recipe_names() if re.search(r"-[13]m-\d+p$|-3m-\d+p$", name)]
TRAINING = ("ade20k-150", "bdd", "cityscapes-19", "coco-panoptic-133", "idd-39", "mapillary-public65", "sunrgbd-37")
NETS = ("pspnet50", "pspnet101", "hrnet-ocr")
ORACLES = ("voc2012", "pascal-context-60", "camvid-11", "kitti-19", "scannet-20")


def reference_steps(crops, batch, gpus, replicas):
    """As the reference counts: per-GPU batch, times the GPUs of a dataset, into the crops of a dataset."""
    return crops // (batch // gpus * replicas)


@pytest.mark.parametrize(
    ("recipe", "taxonomy", "crop", "crops", "batch", "gpus", "replicas", "steps"),
    [
        ("mseg-relabeled-1m-1080p", "universal-relabeled", 713, 1_000_000, 35, 7, 1, 200_000),
        ("mseg-relabeled-3m-1080p", "universal-relabeled", 713, 3_000_000, 35, 7, 1, 600_000),
        ("mseg-relabeled-3m-720p", "universal-relabeled", 593, 3_000_000, 49, 7, 1, 428_571),
        ("mseg-relabeled-3m-480p", "universal-relabeled", 473, 3_000_000, 84, 7, 1, 250_000),
        ("mseg-unrelabeled-1m-1080p", "universal", 713, 1_000_000, 35, 7, 1, 200_000),
        ("mseg-naive-1m-1080p", "naive", 713, 1_000_000, 28, 7, 1, 250_000),
        *((f"single-{d}-1m-480p", "universal", 473, 1_000_000, 32, 8, 8, 31_250) for d in TRAINING),
        *((f"single-{d}-1m-1080p", "universal", 713, 1_000_000, 32, 8, 8, 31_250) for d in TRAINING),
        *((f"oracle-{d}-1m-1080p", "native", 713, 1_000_000, 32, 8, 8, 31_250) for d in ORACLES),
        *((f"{net}-mseg-relabeled-1m-1080p", "universal-relabeled", 713, 1_000_000, 35, 7, 1, 200_000) for net in NETS),
        *((f"pspnet50-oracle-{d}-1m-1080p", "native", 713, 1_000_000, 32, 8, 8, 31_250) for d in ORACLES[:3:2]),
    ],
)
def test_sizes_and_steps_are_those_of_the_reference(recipe, taxonomy, crop, crops, batch, gpus, replicas, steps):
    found = load_recipe(recipe)
    assert (found.data.taxonomy, found.augment.crop, found.loader.batch) == (taxonomy, crop, batch)
    assert found.steps == steps == reference_steps(crops, batch, gpus, replicas)
    assert crops - batch < found.crops_per_dataset <= crops


def test_the_batch_of_the_configuration_file_makes_its_number_of_steps():
    """Where the published text says 35."""
    assert load_recipe("mseg-relabeled-1m-1080p", ["loader.batch=14"]).steps == reference_steps(1_000_000, 14, 7, 1)


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_all_published_recipes_share(name):
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
def test_mixes_are_of_known_training_sets_in_equal_shares(name):
    recipe = load_recipe(name)
    assert set(recipe.data.mix.values()) == {1}
    assert all(registry()[dataset].splits["train"] for dataset in recipe.data.mix)
    if len(recipe.data.mix) > 1:
        assert tuple(recipe.data.mix) == TRAINING
    else:
        (dataset,) = recipe.data.mix
        assert f"-{dataset}-" in name
        assert (registry()[dataset].role == "train") == (recipe.data.taxonomy == "universal")


INDUSTRIOUS, RATTLESNAKE, TURTLE, CHIHUAHUA = (
    "ocrnet.HRNet_industrious-chicken",
    "mapillary_ocrnet.HRNet_Mscale_fast-rattlesnake",
    "cityscapes_ocrnet.HRNet_Mscale_outstanding-turtle",
    "cityscapes_trainval_ocr.HRNet_Mscale_nimble-chihuahua",
)
IMAGENET, GTA5 = "hrnetv2_w48_imagenet_pretrained", ((1052, 1914), 6, 1e-2, 2.0, 175)


@pytest.mark.parametrize(
    ("name", "values", "weights", "images", "steps"),
    [
        ("cityscapes-19", ((1024, 2048), 8, 5e-3, 2.0, 175), INDUSTRIOUS, 2975, 65_078),
        ("cityscapes-19-sota", ((1024, 2048), 16, 1e-2, 2.0, 175), INDUSTRIOUS, 2975, 32_539),
        ("mapillary-public65", ((1024, 1024), 16, 5e-3, 1.0, 200), IMAGENET, 18_000, 225_000),
        ("gta5-19", GTA5, RATTLESNAKE, 12, 350),
        ("shift-19", GTA5, RATTLESNAKE, 12, 350),
        ("mapillary-19", GTA5, RATTLESNAKE, 18_000, 525_000),
        ("bdd100k-19", GTA5, INDUSTRIOUS, 7000, 204_166),
        ("idd-19", GTA5, TURTLE, 14_027, 409_120),
        ("wilddash2-19", GTA5, CHIHUAHUA, 12, 350),
    ],
)
def test_models_of_multi_scale_attention_are_those_of_its_scripts(name, values, weights, images, steps):
    recipe = read_recipe(f"hmsa-{name}")
    augment, train, (dataset,) = recipe.augment, recipe.train, recipe.data.mix
    assert (augment.crop, recipe.loader.batch, train.lr, train.power, train.epochs) == values
    assert resolve(recipe, {dataset: images}).steps == steps
    assert recipe.model.weights == f"weights/{weights}.pth"
    published = "https://github.com/NVIDIA/semantic-segmentation#download-weights"
    assert (recipe.model.fresh, recipe.model.published) == ("auto", published)
    mapillary = name == "mapillary-public65"
    assert recipe.model.options == ({} if mapillary else {"scale_weight": 0.05})
    assert (train.loss, train.schedule, train.schedule_per, train.aux_rmi) == ("rmi", "poly", "epoch", False)
    assert (train.optimizer, train.momentum, train.weight_decay) == ("sgd", 0.9, 1e-4)
    assert (augment.scale, augment.rotate_p, augment.flip_p, augment.color_jitter) == ((0.5, 2.0), 0, 0.5, 0.25)
    assert (augment.fill, augment.short_side) == ("black", None)
    blurred = (2177, 1, (0.15, 1.3)) if mapillary else (None, 0, None)
    assert (augment.long_side, augment.blur_p, augment.blur_sigma) == blurred
    assert recipe.data.sampling[dataset].share == 0.5
    scales = ((0.25, 0.5, 1.0, 2.0), True, 2177) if mapillary else ((0.5, 1.0, 2.0), False, None)
    assert (recipe.eval.n_scales, recipe.eval.flip, recipe.eval.long_side) == scales


def test_coarse_images_come_in_by_the_classes_that_gain_by_them():
    recipe = read_recipe("hmsa-cityscapes-19-sota")
    classes = load_taxonomy("cityscapes-19").classes
    boosted = recipe.data.sampling["cityscapes-19"].only["train_extra"]
    assert [classes.index(name) for name in boosted] == [3, 4, 6, 7, 9, 11, 12, 13, 14, 15, 16, 17, 18]
    assert recipe.data.splits == ("train", "train_extra")


def test_the_baseline_of_domain_generalisation():
    recipe = load_recipe("ccsa-pspnet101-coco-mapillary-ade20k")
    assert recipe.data.mix == {"coco-panoptic-133": 1, "mapillary-public65": 1, "ade20k-150": 1}
    assert (recipe.data.taxonomy, recipe.model.arch, recipe.loader.batch) == ("universal", "pspnet-101", 128)
    assert (recipe.augment.short_side, recipe.augment.crop, recipe.augment.rotate_p) == (240, 201, 0.5)
    ccsa = recipe.train.ccsa
    assert (ccsa.alpha, ccsa.positives, ccsa.negatives_per_positive, ccsa.margin) == (0.25, 100, 3, 1.0)
    assert (recipe.train.lr, recipe.train.power, recipe.steps) == (0.01, 0.9, 23_437)


def test_unequal_shares_move_crops_between_datasets_but_leave_the_length_alone():
    equal = load_recipe("union-universal", ["train.crops=1000", "loader.batch=8"])
    shifted = load_recipe("union-universal", ["train.crops=1000", "loader.batch=8", "data.mix.sunrgbd-37=1/3"])
    assert equal.steps == shifted.steps == 500
    assert shifted.crops_per_dataset == 1000


def test_crops_or_steps_whichever_was_said_last():
    assert load_recipe("mseg-relabeled-1m-1080p", ["train.steps=5"]).steps == 5
    assert load_recipe("union-universal", ["train.steps=5", "train.crops=60"]).steps == 10
    assert load_recipe("union-universal", ["train.crops=60", "train.steps=5"]).steps == 5


def test_a_length_that_cannot_be_is_an_error(tmp_path):
    file = tmp_path / "own.yaml"
    for asked, message in (
        ("crops: 1", "1 of each of 4 datasets do not fill a batch of 24"),
        ("steps: 1, crops: 100", "steps and crops given"),
        ("steps: null", "none given"),
        ("crops: 0", "crops: 0; must be at least 1"),
    ):
        file.write_text(f"extends: {RECIPES / 'union-universal.yaml'}\ntrain: {{{asked}}}\n")
        with pytest.raises(DataError, match=message):
            load_recipe(str(file))
