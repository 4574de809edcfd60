"""A recipe that starts from weights."""

import hashlib
import signal
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
import typer

from segstream.cli.commands.train import _deaf_once_stopped, _train, train
from segstream.model.checkpoint import load_final
from segstream.model.networks.build import build
from segstream.model.training.trainer import SIGNALS, Stopped
from segstream.recipe import Recipe, load_recipe
from segstream.shards.errors import DataError
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
    monkeypatch.setattr("segstream.pipeline.Loader", lambda *args, **kwargs: nullcontext(ToySource()))


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


def test_a_mistake_in_a_recipe_is_told_by_one_process_of_a_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe(tmp_path)
    asked = (str(tmp_path / "toy.yaml"), ["train.stepz=1"])
    monkeypatch.setenv("LOCAL_RANK", "0")
    with pytest.raises(DataError, match="stepz"):
        train(*asked)
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(typer.Exit) as ended:
        train(*asked)
    assert ended.value.exit_code == 2


def test_of_many_processes_the_first_makes_the_dry_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe(tmp_path)
    monkeypatch.setenv("RANK", "1")
    train(str(tmp_path / "toy.yaml"), dry_run=True)
    assert capsys.readouterr() == ("", "")


def test_a_process_that_stops_cannot_be_told_again() -> None:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        with pytest.raises(Stopped), _deaf_once_stopped():
            raise Stopped("told to stop")
        assert {signal.getsignal(number) for number in SIGNALS} == {signal.SIG_IGN}
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    with pytest.raises(DataError), _deaf_once_stopped():
        raise DataError("failed")
    assert {number: signal.getsignal(number) for number in SIGNALS} == before
