"""A recipe is trained: from the weights it names, and ignores signals once it was stopped."""

import hashlib
import json
import signal

import pytest
import torch

from segstream.model.checkpoint import load_final
from segstream.model.networks.build import build
from segstream.model.training.trainer import SIGNALS, Stopped
from segstream.shards.errors import DataError
from segstream.shards.taxonomy import Taxonomy
from segstream.training import _ignore_signals_once_stopped, train
from tests.model.toy import TINY, save_net, save_published
from tests.segstream.recipes import toy

pytestmark = pytest.mark.usefixtures("toy_batches")


def recipe(folder, *overrides):
    """One step that changes the weights by next to nothing."""
    return toy(folder, "train.steps=1", "train.lr=1.0e-12", *overrides)


def file_of(folder, classes=3, seed=9):
    return save_published(folder / f"{classes}-{seed}.pth", classes, seed=seed, **TINY)


def test_training_starts_from_the_file_and_the_run_knows_its_hash(tmp_path):
    path, notes = file_of(tmp_path), []
    final = load_final(train(recipe(tmp_path, f"model.weights={path}"), tmp_path / "run", on_note=notes.append))
    start = build("hrnet-tiny", 3, seed=9, **TINY)
    for name, weight in start.named_parameters():
        torch.testing.assert_close(final.weights[name], weight.detach(), rtol=0, atol=1e-8)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert final.identity["network"]["weights"] == {"sha256": digest, "fresh": []}
    kept = f"{len(final.weights)} tensors kept"
    assert f"starting from MSeg checkpoint {path} ('state_dict', names after 'module.'): {kept}" in notes
    other = recipe(tmp_path, f"model.weights={file_of(tmp_path, seed=8)}")
    with pytest.raises(DataError, match=rf"belongs to another run: network.weights.sha256 is '{digest[:20]}"):
        train(other, tmp_path / "run")


def test_a_missing_file_of_weights_is_told_with_where_it_is_published(tmp_path):
    """The recipe's own, whatever file is asked for."""
    for path in ("weights/theirs.pth", tmp_path / "mine.pth"):
        with pytest.raises(DataError) as told:
            train(recipe(tmp_path, f"model.weights={path}", "model.published=https://somewhere"), tmp_path / "run")
        where = "that of the recipe is published at https://somewhere; or model.weights=FILE"
        assert str(told.value) == f"model.weights: {path}: no such file; {where}"
    with pytest.raises(DataError, match=r"model.weights: w.pth: no such file; model.weights=FILE$"):
        train(recipe(tmp_path, "model.weights=w.pth"), tmp_path / "run")


def test_a_staged_run_goes_on_beside_its_folder_and_appears_whole(tmp_path):
    chosen = toy(tmp_path, "train.steps=4", "train.checkpoint_every=1", "train.log_every=1")

    def stop(row):
        if row.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(chosen, tmp_path / "runs/toy", staged=True, on_log=stop)
    assert not (tmp_path / "runs/toy").exists()
    notes = []
    assert train(chosen, tmp_path / "runs/toy", staged=True, on_note=notes.append) == tmp_path / "runs/toy/final.pt"
    assert "warning: toy train: only one class occurs" in notes
    assert any("/.partial/toy/checkpoints/step-00000002.pt at step 2 of 4" in note for note in notes), notes
    assert (tmp_path / "runs/toy/final.pt").exists()
    assert not (tmp_path / "runs/.partial").exists()


def test_parts_may_be_left_freshly_drawn(tmp_path):
    weights = f"model.weights={file_of(tmp_path, classes=5)}"
    with pytest.raises(DataError, match=r"2 wrongly shaped \(last_layer.3.weight"):
        train(recipe(tmp_path, weights), tmp_path / "run")
    chosen, notes = recipe(tmp_path, weights, "model.fresh=[last_layer.3]"), []
    final = load_final(train(chosen, tmp_path / "run", on_note=notes.append))
    assert final.identity["network"]["weights"]["fresh"] == ["last_layer.3"]
    assert "weights" not in load_final(train(recipe(tmp_path), tmp_path / "plain")).identity["network"]
    told = "; 2 freshly drawn (last_layer.3.weight, last_layer.3.bias)"
    assert any(note.endswith(told) for note in notes)
    chosen = recipe(tmp_path, weights, "model.fresh=auto")
    auto = load_final(train(chosen, tmp_path / "auto", on_note=notes.append))
    assert auto.identity["network"]["weights"]["fresh"] == "auto"
    assert all(torch.equal(auto.weights[name], tensor) for name, tensor in final.weights.items())
    assert notes[-1].endswith(f"{told}; 2 of the file left out (last_layer.3.weight, last_layer.3.bias)")


@pytest.mark.parametrize(("classes", "told"), [(("sky", "road", "tree"), 0), (("road", "sky", "tree"), 1)])
def test_a_head_of_other_classes_is_warned_of(tmp_path, classes, told):
    taxonomy, notes = Taxonomy(name="other", kind="own", classes=classes), []
    path = save_net(tmp_path / "other.pt", build("hrnet-tiny", 3, **TINY), taxonomy=taxonomy)
    for fresh, warnings in ((), told), (["last_layer.3"], 0), (["last_layer.0", "layer1"], told):
        chosen = recipe(tmp_path, f"model.weights={path}", f"model.fresh={list(fresh)}")
        train(chosen, tmp_path / f"run-{len(fresh)}", on_note=notes.append)
        text = f"warning: {path}: as many classes as the labels have, but others, or in another order; name the"
        assert sum(note.startswith(text) for note in notes) == warnings
        notes.clear()


def test_a_length_in_epochs_is_that_of_the_samples(tmp_path):
    chosen = toy(tmp_path, "train.epochs={right: 2}", "train.schedule_per=epoch", "train.power=1")
    rows = []
    path = train(chosen, tmp_path / "run", on_log=rows.append)
    assert [(row.step, row.lr) for row in rows] == [(2, 0.05), (4, 0.05), (6, 0.025), (7, 0.025)]  # 2 x 7 of half
    known = load_final(path)
    assert known.step == known.meta["recipe"]["train"]["steps"] == 7
    assert json.loads((tmp_path / "run/run.json").read_text())["recipe"]["train"]["steps"] == 7


def test_a_process_that_stops_cannot_be_told_again():
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        with pytest.raises(Stopped), _ignore_signals_once_stopped():
            raise Stopped("told to stop")
        assert {signal.getsignal(number) for number in SIGNALS} == {signal.SIG_IGN}
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    with pytest.raises(DataError), _ignore_signals_once_stopped():
        raise DataError("failed")
    assert {number: signal.getsignal(number) for number in SIGNALS} == before
