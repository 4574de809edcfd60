"""Every recipe as `--dry-run` has it: on a tiny world with tiny networks, and the published one without any data."""

import json
import shutil

import numpy as np
import pytest

from segstream.cli.commands.train import train
from segstream.cli.run import dry_run as plans
from segstream.cli.run.dry_run import dry_run, make_plan
from segstream.model.training.memory import StepMemory, estimate_step
from segstream.pipeline.loader import Loader
from segstream.recipe import load_recipe, recipe_names, resolve
from segstream.shards.convert.convert import convert
from segstream.shards.errors import DataError
from segstream.shards.format.centroids import add_centroids
from segstream.shards.synthetic import draw
from segstream.shards.taxonomy import load_taxonomy
from tests.commands import ROOT
from tests.shards import trees
from tests.shards.convert.test_relabel import record_file
from tests.shards.synthetic.truth import tiny

HRNET = "stem: 4, widths: [4, 4, 4, 4], stage1_width: 4, blocks: 1, modules: 1, stage1_blocks: 1"
TINY = {  # by architecture: the same made small
    "hrnet-ocr": [f"model.options={{{HRNET}, ocr_width: 4, ocr_key_width: 4}}"],
    "hmsa": [f"model.options={{{HRNET}, ocr_width: 4, ocr_key_width: 4, attention_width: 4, scale_weight: 0.05}}"],
    "pspnet-50": ["model.options={width: 4, blocks: 1}"],
    "pspnet-101": ["model.options={width: 4, blocks: 1}"],
}
TINY_HRNET = ["model.arch=hrnet-tiny", f"model.options={{{HRNET}}}"]


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """Shards of one or two pictures of every dataset that a recipe trains on, relabelled labels included."""
    folder = tmp_path_factory.mktemp("plans")
    one = {name: load_taxonomy(f"{name}-relabeled").classes[0] for name in load_recipe("mseg-mgda-1m-1080p").data.mix}
    # Records of pictures that are not drawn: labels stay as they are, but are written.
    records = record_file(folder, [f"{name},val,{c},{c},nowhere,none,1" for name, c in one.items()])
    for name in sorted({dataset for recipe in recipe_names() for dataset in load_recipe(recipe).data.mix}):
        dataset, raw = name, folder / name
        if name == "camvid-street":
            dataset = str(ROOT / "examples" / "camvid.yaml")
            trees.save(raw / "images/train/a.jpg", np.full((48, 64, 3), 3, np.uint8))
            trees.save(raw / "labels/train/a.png", np.full((48, 64), 3, np.uint8))
        else:
            with tiny():
                draw(folder, name, train=1, val=0, seed=3, workers=1)
            if name == "cityscapes-19":
                coarse(raw)
        relabel = records if name in one else None
        for split in ("train", "train_extra") if name == "cityscapes-19" else ("train",):
            url = convert(dataset=dataset, split=split, raw=raw, out=str(folder / "shards"), relabel=relabel).url
            add_centroids(url, tile=16, workers=1)
        shutil.rmtree(raw)
    return folder / "shards"


def coarse(raw):
    """The fine label once more, as the coarse label of another image."""
    for kind, where in (("leftImg8bit", "leftImg8bit"), ("gtFine_labelIds", "gtCoarse")):
        for file in sorted(raw.glob(f"{kind.split('_')[0]}/train/*/*_{kind}.png")):
            copy = raw / where / "train_extra" / file.parent.name / file.name.replace("gtFine", "gtCoarse")
            copy.parent.mkdir(parents=True)
            shutil.copy(file, copy)


@pytest.fixture(scope="module")
def estimates():
    """By network and step, memory that a test has estimated already: most recipes differ in their data alone."""
    return {}


def tiny_overrides(name, shards):
    recipe = load_recipe(name)
    batch = max(2, len(recipe.data.mix))
    sizes = [f"data.shards={shards}", f"loader.batch={batch}", "augment.short_side=48", "augment.crop=33"]
    sizes += ["augment.long_side=null", "model.fresh=[]", "model.weights=null", "train.precision=fp32"]
    return [*sizes, "loader.threads=1", "train.device=cpu", "train.threads=1", *TINY.get(recipe.model.arch, TINY_HRNET)]


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_makes_one_step(name, world, estimates, capsys, monkeypatch):
    def estimate(model, num_classes, train, **step):
        key = repr((model, num_classes, train.mgda, step))
        if key not in estimates:
            estimates[key] = estimate_step(model, num_classes, train, **step)
        return estimates[key]

    monkeypatch.setattr(plans, "estimate_step", estimate)
    recipe = load_recipe(name, tiny_overrides(name, world))
    steps = resolve(recipe, dict.fromkeys(recipe.data.mix, 1)).steps
    dry_run(recipe, json=True)
    found = json.loads(capsys.readouterr().out)
    assert (found["recipe"], found["missing"], found["fits"], found["steps"]) == (name, [], True, steps)
    assert (-100 if recipe.train.loss == "rmi" else 0) < found["step"]["loss"] < 100  # a determinant's logarithm
    assert [(part["dataset"], part["images"]) for part in found["mix"]] == [(mixed, 1) for mixed in recipe.data.mix]
    assert found["mix"][0]["epochs"] == pytest.approx(steps * recipe.loader.batch / len(found["mix"]))


def test_the_plan_for_people(world, capsys):
    name = "mseg-mgda-1m-1080p"
    train(name, tiny_overrides(name, world), dry_run=True)
    out = capsys.readouterr().out
    assert "hrnet-tiny, 194 classes (universal-relabeled)" in out
    assert "1,000,000 steps of 7 crops: 7,000,000, 1,000,000 a dataset" in out
    assert "one step    loss " in out
    assert "model.weights=FILE" in out


@pytest.mark.parametrize(
    ("name", "classes"), [("mseg-naive-1m-1080p", 316), ("oracle-voc2012-1m-1080p", 21), ("mseg-mgda-1m-1080p", 194)]
)
def test_without_data_the_registry_says_what_to_expect(name, classes, tmp_path, capsys):
    recipe = load_recipe(name, tiny_overrides(name, tmp_path / "none"))
    with pytest.raises(DataError, match=r"of \d shard sets are missing, see above"):
        dry_run(recipe, json=True)
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["classes"] == classes
    assert found["step"] is None
    first = found["mix"][0]
    assert first["images"] == {"ade20k-150": 20_210, "voc2012": 10_582}[first["dataset"]]
    relabel = " --relabel RECORDS" if name == "mseg-mgda-1m-1080p" else ""
    how = f"segstream shard {first['dataset']} --raw RAW --split train --short-side 48{relabel} --out"
    assert how in first["missing"]
    assert how in err


@pytest.mark.parametrize(("epochs", "steps"), [("3", 3 * 2 // 2), ("{ade20k-150: 4}", 4 * 2 // 2)])
def test_a_length_in_epochs_is_that_of_the_shards_or_of_the_release(world, tmp_path, capsys, epochs, steps):
    mix = "data.mix={ade20k-150: 1, sunrgbd-37: 1}"
    asked = [f"train.epochs={epochs}", mix, "loader.batch=2", "train.schedule_per=epoch"]
    recipe = load_recipe("union-universal", [*tiny_overrides("union-universal", world), *asked])
    plan = make_plan(recipe)
    assert (plan["steps"], plan["crops_total"], plan["mix"][0]["epochs"]) == (steps, 2 * steps, steps)
    without = [*tiny_overrides("union-universal", tmp_path / "none"), *asked]
    released = (3 * (20_210 + 5_285)) // 2 if epochs == "3" else 4 * 20_210
    assert make_plan(load_recipe("union-universal", without))["steps"] == released
    own = load_recipe("union-universal", [*without, "data.mix={own: 1, ade20k-150: 1}", "train.epochs=3"])
    with pytest.raises(DataError, match="2 of 2 shard sets are missing"):
        dry_run(own, json=False)
    assert "length      steps are known once the sets are there" in capsys.readouterr().out
    own = load_recipe("oracle-camvid", [f"data.shards={tmp_path}", "train.epochs=3"])
    with pytest.raises(
        DataError, match=r"camvid-street: no shards at .*; make them with `segstream shard camvid-street --raw RAW"
    ):
        dry_run(own, json=False)  # not even how many classes there are is known


def test_labels_of_one_class_are_warned_of(world, capsys):
    recipe = load_recipe("oracle-camvid", tiny_overrides("oracle-camvid", world))
    dry_run(recipe, json=True)
    told = "camvid-street train: only one class occurs, Road: there is nothing to tell it apart from"
    out, err = capsys.readouterr()
    assert told in json.loads(out)["warnings"]
    assert f"warning: {told}\n" in err
    with Loader(recipe.data, recipe.augment, recipe.loader, seed=0) as loader:
        assert told in loader.warnings


def test_shards_without_relabelled_labels_are_told(world, capsys):
    name = "oracle-voc2012-1m-1080p"
    recipe = load_recipe(name, [*tiny_overrides(name, world), "data.taxonomy=universal-relabeled"])
    with pytest.raises(DataError, match="1 of 1 shard sets"):
        dry_run(recipe, json=True)
    assert "no universal labels" in capsys.readouterr().err


def test_the_published_recipe_is_planned_without_its_memory(tmp_path):
    plan = make_plan(load_recipe("mseg-relabeled-3m-1080p", [f"data.shards={tmp_path}", "train.device=cpu"]))
    assert plan["memory"]["parameters"] == 65_985_554
    assert plan["memory"]["activations"] > 35 * 10**9
    assert (plan["steps"], plan["crops_total"]) == (600_000, 21_000_000)
    assert plan["disk"] > 3 * 2 * 4 * 65_985_554
    kept = ["validate.data=[v]", "validate.best=miou", "train.validate_every=9", f"data.shards={tmp_path}"]
    best = make_plan(load_recipe("mseg-relabeled-3m-1080p", [*kept, "train.device=cpu"]))
    assert best["disk"] - plan["disk"] == 2 * plan["memory"]["weights"]  # best.pt and the next of it
    epochs = {row["dataset"]: row["epochs"] for row in plan["mix"]}
    # The reference rounds the length of its epochs down, and their number up.
    for dataset, theirs in {"ade20k-150": 149, "bdd": 429, "coco-panoptic-133": 26, "sunrgbd-37": 568}.items():
        assert theirs - 1.5 < (epochs[dataset] or 0) <= theirs
    assert plan["lr_end"] == pytest.approx(0.01 * (1 / 600_000) ** 0.9)


def test_a_step_that_does_not_fit_is_not_made(world, capsys, monkeypatch):
    large = StepMemory(parameters=1, weights=1, gradients=1, optimizer=1, activations=2**50)
    monkeypatch.setattr(plans, "estimate_step", lambda *args, **step: large)
    monkeypatch.setattr(plans, "one_step", lambda recipe: pytest.fail("made a step"))
    monkeypatch.setattr(plans, "_free", lambda device: 2**50)  # holds 10 of 14 crops, and what a CPU adds to each
    name = "mseg-relabeled-1m-1080p"
    recipe = load_recipe(name, [*tiny_overrides(name, world), "loader.batch=14"])
    dry_run(recipe, json=False)
    err = capsys.readouterr().err
    assert "no step is made: it needs about 1363149.0 GiB and 1048576.0 GiB are free" in err
    assert "train.accumulate=2 would fit, or 2 processes" in err
    monkeypatch.setattr(plans, "_free", lambda device: 2**46)
    dry_run(recipe, json=True)
    out, err = capsys.readouterr()
    assert (json.loads(out)["fits"], json.loads(out)["step"]) == (False, None)
    assert "too little for a single crop" in err
