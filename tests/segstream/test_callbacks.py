"""What a run leaves of itself: curves that stand once, scores, pictures; and that looking changes nothing."""

import json
import shutil

import cv2
import numpy as np
import pytest
import torch

from segstream import callbacks
from segstream.callbacks import GAP, WIDEST, Curves, crop_panel, curve_values, forget_later, write_jpeg, write_scores
from segstream.model.checkpoint import load_final
from segstream.model.config import InferConfig
from segstream.model.evaluation.metrics import ClassResult, EvalResult
from segstream.pipeline.loader import Batch
from segstream.shards.errors import DataError
from segstream.shards.files import write_text
from segstream.training import train
from tests.cli.run.test_training_line import ROW
from tests.segstream.recipes import toy


def points(folder):
    """Curves as TensorBoard's own reader sees them."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    read = accumulator.EventAccumulator(str(folder))
    read.Reload()
    return {tag: [(e.step, e.value) for e in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def test_points_that_a_resumed_run_makes_again_stand_once(tmp_path):
    for start, value in ((0, 1.0), (2, 2.0)):
        curves = Curves(tmp_path, tensorboard=True)
        curves.begin(start)
        for step in range(start + 2, start + 7, 2):
            curves.log(step, {"loss": value, "val/camvid-11/miou": value})
        curves.close()
        (tmp_path / "dvclive/plots/metrics/loss.tsv").open("a").write("1")  # killed while it wrote
    curves = Curves(tmp_path, tensorboard=False)
    curves.begin(8)
    expected = [(2, 1.0), (4, 2.0), (6, 2.0), (8, 2.0)]
    values = curve_values(ROW)  # a loss of no pixel leaves a gap
    assert set(values) == {"loss", "lr", "crops_per_s", "data_wait", "memory_mib", "loss_on/left"}
    assert values["loss_on/left"] == 1.5
    assert points(tmp_path / "tensorboard")["loss"] == expected
    for name in ("loss", "val/camvid-11/miou"):
        lines = (tmp_path / f"dvclive/plots/metrics/{name}.tsv").read_text().splitlines()[1:]
        assert [(int(a), float(b)) for a, b in (line.split("\t") for line in lines)] == expected
    curves.log(10, {"lr": 0.5})
    latest = {"loss": 2.0, "val": {"camvid-11": {"miou": 2.0}}, "lr": 0.5, "step": 10}
    assert json.loads((tmp_path / "dvclive/metrics.json").read_text()) == latest


@pytest.mark.usefixtures("toy_batches")
def test_looking_changes_no_weight_and_leaves_pictures_of_the_same_crops(tmp_path):
    plain = train(toy(tmp_path), tmp_path / "plain")
    recipe = toy(tmp_path, "train.validate_every=2", "validate.pictures=3")
    looked_at = train(recipe, tmp_path / "looked", tensorboard=True)
    expected, found = load_final(plain).weights, load_final(looked_at).weights
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []
    pictures = [cv2.imread(str(tmp_path / f"looked/pictures/step-{step}.jpg")) for step in (2, 4, 6)]
    assert [picture.shape for picture in pictures] == [(3 * 24 + 2 * GAP, 3 * 24 + 2 * GAP, 3)] * 3
    assert (pictures[0][:, :48] == pictures[2][:, :48]).all()  # the same crops and labels, other predictions
    assert not (tmp_path / "plain" / "pictures").exists()
    assert [step for step, _ in points(tmp_path / "looked" / "tensorboard")["loss"]] == [2, 4, 6]


def test_scores_of_repeated_steps_give_way(tmp_path):
    classes = tuple(ClassResult(name=name, iou=1.0, pixels=5) for name in "ab")
    one = EvalResult(dataset="camvid-11", taxonomy="toy", miou=1, macc=1, acc=1, classes=classes, images=2)
    path = tmp_path / "validation.json"
    for step in (2, 4, 4):
        write_scores(path, step, {"camvid-11": one})
    rows = json.loads(path.read_text())
    assert [row["step"] for row in rows] == [2, 4]
    only = rows[1]["sets"]["camvid-11"]
    assert (only["images"], [c["name"] for c in only["classes"]]) == (2, ["a", "b"])
    assert only["miou"] == pytest.approx(1)


@pytest.mark.parametrize("side", [8, 2 * WIDEST])
def test_a_panel_has_rows_of_image_label_and_prediction(side, monkeypatch):
    labels = torch.zeros((3, side, side), dtype=torch.uint8)
    labels[:, : side // 2] = 255  # ignored
    images = torch.full((3, 3, side, side), 77, dtype=torch.uint8)
    batch = Batch(step=0, images=images, labels=labels, dataset_ids=torch.zeros(3, dtype=torch.int64), keys=("a",) * 3)
    answer = np.ones((side, side), np.uint8)  # class 1 everywhere
    configs = []
    monkeypatch.setattr(callbacks, "segment", lambda *args: configs.append(args[-1]) or [[answer]])
    colors = np.array([[255, 0, 0], [0, 0, 255]], np.uint8)
    drawn = crop_panel(torch.nn.Identity(), batch, 2, colors, InferConfig(crop=side, long_side=99))
    assert configs == [InferConfig(crop=side)] * 2  # at the size that the network learns from
    shown = min(side, WIDEST)
    assert drawn.shape == (2 * shown + GAP, 3 * shown + 2 * GAP, 3)
    lower = drawn[shown + GAP :]
    middles = [(q, shown // 2 + column * (shown + GAP)) for q in (1, -2) for column in range(3)]
    black, blue = [0, 0, 0], [0, 0, 255]
    assert [lower[at].tolist() for at in middles] == [[77] * 3, black, blue, [77] * 3, [255, 0, 0], blue]
    assert (drawn[shown : shown + GAP] == 255).all()
    assert (drawn[:, shown : shown + GAP] == 255).all()


def test_a_picture_is_written_whole_in_its_colours_or_an_error(tmp_path):
    picture = np.full((16, 16, 3), (200, 30, 30), np.uint8)
    write_jpeg(tmp_path / "deep" / "a.jpg", picture)
    blue, _, red = cv2.imread(str(tmp_path / "deep" / "a.jpg"))[8, 8]
    assert red > 150 > 60 > blue
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        write_jpeg(tmp_path / "file" / "a.jpg", picture)


@pytest.mark.usefixtures("toy_batches")
@pytest.mark.parametrize("link", ["hardlink_to", "symlink_to"])
def test_a_run_that_starts_over_leaves_nothing_of_the_former_and_a_cache_alone(tmp_path, link):
    run, cache = tmp_path / "run", tmp_path / "cache"
    often = ("train.log_every=1", "train.validate_every=1", "validate.pictures=1")
    train(toy(tmp_path, *often), run, tensorboard=True)
    write_text(run / "validation.json", '[{"step": 5, "sets": {}}]')
    write_text(run / "pictures/step-by-step.jpg", "not ours")
    shutil.copytree(run, cache)
    for file in (file for file in run.rglob("*") if file.is_file()):
        file.unlink()
        getattr(file, link)(cache / file.relative_to(run))
    before = {file: file.read_bytes() for file in cache.rglob("*") if file.is_file()}
    train(toy(tmp_path, *often), run)  # finished
    seldom = ("seed=8", "train.log_every=3", "train.validate_every=6", "validate.pictures=1")
    train(toy(tmp_path, *seldom), run, tensorboard=True, restart_changed=True)
    assert {file: file.read_bytes() for file in before} == before
    assert [step for step, _ in points(run / "tensorboard")["loss"]] == [3, 6]
    assert [line.split("\t")[0] for line in (run / "dvclive/plots/metrics/loss.tsv").open()] == ["step", "3", "6"]
    assert sorted(file.name for file in (run / "pictures").iterdir()) == ["step-6.jpg", "step-by-step.jpg"]
    assert json.loads((run / "validation.json").read_text()) == []
    assert len(json.loads((run / "run.json").read_text())["starts"]) == 1


@pytest.mark.parametrize("name", ["validation.json", "dvclive", "dvclive/metrics.json"])
def test_what_cannot_be_read_or_written_is_named(tmp_path, name):
    write_text(tmp_path / name, "{}") if name == "dvclive" else (tmp_path / name).mkdir(parents=True)
    curves = Curves(tmp_path, tensorboard=False)
    with pytest.raises(DataError, match=f"/{name}"):
        forget_later(tmp_path, 0) if name == "validation.json" else curves.log(1, {"loss": 1.0})
