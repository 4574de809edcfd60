"""Hierarchical multi-scale attention trained as it was published, on drawn data with a narrow trunk."""

import copy
import random
import re
from contextlib import closing

import pytest
import torch
import yaml

from segstream import training
from segstream.model.checkpoint import load_final
from segstream.pipeline.samples import Samples
from segstream.recipe import load_recipe
from segstream.shards.convert.convert import convert
from segstream.shards.synthetic import draw
from tests.cli.test_kills import killed_starts, undisturbed
from tests.model.plain import HMSA
from tests.model.processes import together
from tests.model.toy import frozen, save_published
from tests.shards.synthetic.truth import tiny

RECIPE = {
    "data": {"mix": {"cityscapes-19": 1}, "taxonomy": "native", "class_uniform": {"share": 0.5}},
    "augment": {"short_side": 48, "crop": [33, 41], "rotate_p": 0.0, "blur_p": 1.0, "blur_sigma": [0.15, 1.3]}
    | {"color_jitter": 0.25, "fill": "black"},
    "loader": {"batch": 8, "threads": 1},
    "model": {"arch": "hmsa", "options": HMSA | {"scale_weight": 0.05}, "fresh": "auto"},
    "train": {"epochs": {"cityscapes-19": 2}, "schedule_per": "epoch", "power": 2, "lr": 0.02, "loss": "rmi"}
    | {"freeze": ["backbone.conv1", "backbone.bn1"], "device": "cpu", "threads": 1}
    | {"checkpoint_every": 1, "keep": 1, "log_every": 1, "validate_every": 3},
    "validate": {"best": "miou", "pictures": 0},
    "eval": {"crop": 49, "short_side": 48, "device": "cpu", "flip": False},
}
IMAGES, STEPS = 40, 10  # each of 19 classes has one slot of an epoch


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """Its path: sampled by class, coloured and blurred, from weights for five classes, the stem frozen."""
    folder = tmp_path_factory.mktemp("hmsa")
    with tiny():
        draw(folder, "cityscapes-19", train=IMAGES, val=1, seed=3, workers=1)
    for split in ("train", "val"):
        raw, out = folder / "cityscapes-19", folder / "shards"
        convert("cityscapes-19", split=split, raw=raw, out=out, centroids=split == "train")
    filled = copy.deepcopy(RECIPE)
    filled["data"]["shards"] = str(folder / "shards")
    filled["validate"]["data"] = [str(folder / "shards/cityscapes-19/val")]
    filled["model"]["weights"] = str(save_published(folder / "w.pth", 5, arch="hmsa", seed=3, **HMSA))
    (folder / "narrow.yaml").write_text(yaml.safe_dump(filled))
    return str(folder / "narrow.yaml")


def bits(run):
    """By file, what it publishes."""
    files = {name: load_final(run / name) for name in ("final.pt", "best.pt")}
    return {
        name: (file.step, file.meta.get("score"), {key: t.numpy().tobytes() for key, t in file.weights.items()})
        for name, file in files.items()
    }


@pytest.mark.parametrize("kills", [3, pytest.param(100, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])])
def test_killed_anywhere_it_ends_in_the_same_bits(recipe, tmp_path, kills, monkeypatch):
    monkeypatch.setattr("tests.cli.test_kills.content", lambda name, out: bits(out))
    expected, lasts_s = undisturbed("hmsa", lambda out: ["train", recipe, "--run", str(out)], tmp_path)
    told = (tmp_path / "calm.log").read_text()
    assert re.search(r"starting from HMSA checkpoint .*: \d+ tensors kept; 4 freshly drawn \(ocr\.cls_head", told)
    assert len(re.findall(rf"step \d+ of {STEPS}, ", told)) == 2 * STEPS
    rng, done = random.Random(kills), 0
    while done < kills:
        moments = iter([*(rng.uniform(0, lasts_s) for _ in range(min(kills - done, 5))), None])
        run = tmp_path / f"run-{done}"
        done += max(killed_starts(lambda out: ["train", recipe, "--run", str(out)], run, tmp_path / "log", moments), 1)
        assert bits(run) == expected


def test_its_crops_are_sampled_by_class_and_coloured(recipe):
    """So that the other tests here are about a run that does all of it."""
    chosen = load_recipe(recipe)
    with closing(Samples(chosen.data, chosen.augment, seed=0, batch=8)) as samples:
        found = [samples.find(step, slot) for step in range(5) for slot in range(8)]
    by_class = [sample.pick.class_id for sample in found if sample.pick.class_id is not None]
    assert 10 <= len(by_class) == len(set(by_class)) <= 19
    assert all(sample.draw.jitter and sample.draw.blur_sigma for sample in found)


def _train(group, recipe, folder):
    """Batch norms and dropout as when frozen: on a CPU each process has its own statistics."""
    training.distributed.start, training.distributed.stop = lambda: group, lambda: None
    made = training.open_network
    training.open_network = lambda *args: (frozen(made(*args)[0]), None)
    rows = []
    training.train(load_recipe(recipe), f"{folder}/{group.world_size}", on_log=rows.append)
    if group.is_main:
        torch.save([(row.loss, row.lr, *row.losses.values()) for row in rows], f"{folder}/{group.world_size}.pt")


def test_two_processes_train_what_one_does(recipe, tmp_path):
    for world_size in (1, 2):
        together(_train, recipe, str(tmp_path), world_size=world_size)
    one, two = (load_final(tmp_path / name / "final.pt").weights for name in "12")
    torch.testing.assert_close(two, one, rtol=1e-4, atol=2e-6)
    scores = [load_final(tmp_path / name / "best.pt").meta["score"] for name in "12"]
    assert scores[1] == pytest.approx(scores[0], abs=0.01)
    rows = [torch.tensor(torch.load(tmp_path / f"{name}.pt")) for name in "12"]
    torch.testing.assert_close(rows[1], rows[0], rtol=1e-4, atol=1e-6, equal_nan=True)
    assert rows[0][:, 1].tolist() == pytest.approx([0.02] * 5 + [0.005] * 5)
