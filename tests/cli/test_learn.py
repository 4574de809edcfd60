"""A recipe that starts from weights."""

import hashlib
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from cli.learn import _train
from cli.recipe import Recipe, load_recipe
from model import build
from model.checkpoint import load_final
from shards.errors import DataError
from tests.model.toy import TINY, ToySource

RECIPE = f"""
data: {{shards: nowhere, mix: {{left: 1, right: 1}}}}
augment: {{short_side: 24, crop: 24}}
loader: {{batch: 4, threads: 1}}
model: {{arch: hrnet-tiny, options: {TINY}}}
train: {{steps: 1, lr: 1.0e-12, device: cpu, threads: 1}}
eval: {{crop: 24, device: cpu}}
"""


@pytest.fixture(autouse=True)
def toy_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.Loader", lambda *args, **kwargs: nullcontext(ToySource()))


def recipe(folder: Path, *overrides: str) -> Recipe:
    (folder / "toy.yaml").write_text(RECIPE)
    return load_recipe(str(folder / "toy.yaml"), overrides)


def file_of(folder: Path, classes: int = 3, seed: int = 9) -> Path:
    path = folder / f"{classes}-{seed}.pth"
    weights = build("hrnet-tiny", classes, seed=seed, **TINY).state_dict()
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in weights.items()}}, path)
    return path


def test_training_starts_from_the_file_and_the_run_knows_its_hash(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = file_of(tmp_path)
    final = load_final(_train(recipe(tmp_path, f"model.weights={path}"), tmp_path / "run", restart_changed=False))
    start = build("hrnet-tiny", 3, seed=9, **TINY)
    for name, weight in start.named_parameters():
        torch.testing.assert_close(final.weights[name], weight.detach(), rtol=0, atol=1e-8)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert final.identity["network"]["weights"] == {"sha256": digest, "fresh": []}
    assert f"toy: starting from MSeg checkpoint {path}\n" in capsys.readouterr().err
    other = recipe(tmp_path, f"model.weights={file_of(tmp_path, seed=8)}")
    with pytest.raises(DataError, match=rf"belongs to another run: network.weights.sha256 is '{digest[:20]}"):
        _train(other, tmp_path / "run", restart_changed=False)


def test_a_run_without_weights_says_nothing_of_them(tmp_path: Path) -> None:
    final = load_final(_train(recipe(tmp_path), tmp_path / "run", restart_changed=False))
    assert "weights" not in final.identity["network"]


def test_parts_may_be_left_freshly_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = f"model.weights={file_of(tmp_path, classes=5)}"
    with pytest.raises(DataError, match=r"2 wrongly shaped \(last_layer.3.weight"):
        _train(recipe(tmp_path, weights), tmp_path / "run", restart_changed=False)
    chosen = recipe(tmp_path, weights, "model.fresh=[last_layer.3]")
    final = load_final(_train(chosen, tmp_path / "run", restart_changed=False))
    assert final.identity["network"]["weights"]["fresh"] == ["last_layer.3"]
    assert "freshly drawn: 2 tensors" in capsys.readouterr().err


def test_fresh_parts_without_a_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"model: fresh: \['last_layer'\]; without `weights` everything is"):
        recipe(tmp_path, "model.fresh=[last_layer]")
