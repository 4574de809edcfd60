"""Hierarchical multi-scale attention trained as it was published, on drawn data with a narrow trunk."""

import random
import re

import pytest
import torch
import yaml

from segstream import training
from segstream.model.checkpoint import load_final
from segstream.recipe import load_recipe
from segstream.shards.format.reader import open_shards
from tests.cli.test_kills import killed_starts, undisturbed
from tests.model.plain import HMSA
from tests.model.processes import together
from tests.model.toy import frozen, save_published

PUBLISHED = {
    "augment": {"short_side": 48, "crop": [33, 41], "rotate_p": 0.0, "blur_p": 0.0},
    "train": {"epochs": {"sunrgbd-37": 4}, "schedule_per": "epoch", "power": 2, "lr": 0.02, "loss": "rmi"},
}


@pytest.fixture(scope="module")
def recipe(place, tmp_path_factory):
    """Path of a recipe: RMI, both scales supervised, from weights for five classes, freezing the stem."""
    folder = tmp_path_factory.mktemp("hmsa")
    weights = save_published(folder / "w.pth", 5, arch="hmsa", seed=3, **HMSA)
    own = {
        "data": {"shards": str(place / "shards"), "mix": {"ade20k-150": 1, "sunrgbd-37": 2}},
        "loader": {"batch": 3, "threads": 1},
        "model": {"arch": "hmsa", "options": HMSA | {"scale_weight": 0.05}, "weights": str(weights), "fresh": "auto"},
        "train": {
            "freeze": ["backbone.conv1", "backbone.bn1"],
            "checkpoint_every": 1,
            "log_every": 1,
            "validate_every": 3,
        }
        | {"device": "cpu", "threads": 1, "keep": 1},
        "validate": {"data": [str(place / "shards/camvid-11/val")], "best": "miou", "pictures": 0, "limit": 1},
        "eval": {"crop": 49, "short_side": 48, "device": "cpu", "flip": False},
    }
    merged = {key: {**own.get(key, {}), **PUBLISHED.get(key, {})} for key in own | PUBLISHED}
    (folder / "narrow.yaml").write_text(yaml.safe_dump(merged))
    return str(folder / "narrow.yaml")


def samples(recipe):
    """Of the dataset whose epochs count."""
    with open_shards(load_recipe(recipe).data.url("sunrgbd-37")) as shards:
        return shards.manifest.samples


def length(recipe):
    """Steps: four epochs, by two crops of a step."""
    return 4 * samples(recipe) // 2


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
    steps = length(recipe)
    assert len(re.findall(rf"step \d+ of {steps}, ", told)) == 2 * steps
    rng, done = random.Random(kills), 0
    while done < kills:
        moments = iter([*(rng.uniform(0, lasts_s) for _ in range(min(kills - done, 5))), None])
        run = tmp_path / f"run-{done}"
        done += max(killed_starts(lambda out: ["train", recipe, "--run", str(out)], run, tmp_path / "log", moments), 1)
        assert bits(run) == expected


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
    rows = [torch.tensor(torch.load(tmp_path / f"{name}.pt")) for name in "12"]
    torch.testing.assert_close(rows[1], rows[0], rtol=1e-4, atol=1e-6, equal_nan=True)
    done = [2 * step // samples(recipe) for step in range(length(recipe))]  # 2 of 3 slots are of that dataset
    assert rows[0][:, 1].tolist() == pytest.approx([0.02 * (1 - epochs / 4) ** 2 for epochs in done])
