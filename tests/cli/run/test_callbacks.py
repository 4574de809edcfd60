"""What a person sees of a run: figures, curves that stand once, scores, pictures; and that looking changes nothing."""

import dataclasses
import io
import json
from contextlib import nullcontext
from pathlib import Path

import cv2
import pytest
import torch
from rich.console import Console

from segstream.cli.commands.train import _train
from segstream.cli.run import callbacks as observe_module
from segstream.cli.run.callbacks import curve_values, duration, figures, training_line, write_scores
from segstream.cli.run.curves import open_curves
from segstream.model.checkpoint import load_final
from segstream.model.evaluation.evaluate import score
from segstream.model.training.metrics_log import LogRow
from segstream.recipe import Recipe, load_recipe
from segstream.shards.errors import DataError
from tests.cli.commands.test_train import RECIPE
from tests.model.toy import ToySource

ROW = LogRow(
    step=40,
    steps=800,
    loss=1.23456,
    lr=0.00123456,
    crops_per_s=1234.5,
    data_wait=0.014,
    eta_s=754.2,
    losses={"left": 1.5, "right": float("nan")},
    memory_mib=20480,
    skipped=0,
)


def toy(folder: Path, *overrides: str) -> Recipe:
    (folder / "toy.yaml").write_text(RECIPE)
    return load_recipe(str(folder / "toy.yaml"), ("train.lr=0.05", "train.steps=6", "train.log_every=2", *overrides))


@pytest.fixture
def toy_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segstream.pipeline.Loader", lambda *args, **kwargs: nullcontext(ToySource()))


def test_figures_are_for_people() -> None:
    assert figures(ROW) == "loss 1.235, lr 0.001235, 1234 crops/s, data wait 1%, 20.0 GiB, 12 min 34 s to go"
    odd = dataclasses.replace(ROW, skipped=3, memory_mib=float("nan"), crops_per_s=0.256)
    assert figures(odd) == "loss 1.235, lr 0.001235, 0.26 crops/s, data wait 1%, 3 steps skipped, 12 min 34 s to go"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (3599, "59 min 59 s"),
        (7260, "2 h 01 min"),
        (180000, "2 d 02 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_loss_of_no_pixel_leaves_a_gap_in_its_curve() -> None:
    values = curve_values(ROW)
    assert set(values) == {"loss", "lr", "crops_per_s", "data_wait", "memory_mib", "loss_on/left"}
    assert values["loss_on/left"] == 1.5


def test_a_terminal_gets_one_line_that_changes_and_others_a_line_for_every_row(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with training_line("toy") as line:
        line(ROW)
    assert capsys.readouterr().err == f"toy: step 40 of 800, {figures(ROW)}\n"
    screen = io.StringIO()
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr(
        observe_module, "Console", lambda **_: Console(file=screen, force_terminal=True, width=200, _environ={})
    )
    with training_line("toy") as line:
        line(ROW)
        line(dataclasses.replace(ROW, step=80))
    assert "80/800" in screen.getvalue()
    assert figures(ROW) in screen.getvalue()


def points(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Curves as TensorBoard's own reader sees them."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    read = accumulator.EventAccumulator(str(folder))
    read.Reload()
    return {tag: [(e.step, e.value) for e in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def test_points_that_a_resumed_run_makes_again_stand_once(tmp_path: Path) -> None:
    for steps, value in (((2, 4, 6), 1.0), ((4, 6, 8), 2.0)):
        with open_curves(tmp_path, tensorboard=True) as curves:
            for step in steps:
                for one in curves:
                    one.log(step, {"loss": value, "val/camvid-11/miou": value})
    expected = [(2, 1.0), (4, 2.0), (6, 2.0), (8, 2.0)]
    assert points(tmp_path / "tensorboard")["loss"] == expected
    for name in ("loss", "val/camvid-11/miou"):
        lines = (tmp_path / f"dvclive/plots/metrics/{name}.tsv").read_text().splitlines()[1:]
        assert [(int(a), float(b)) for a, b in (line.split("\t") for line in lines)] == expected


@pytest.mark.usefixtures("toy_batches")
def test_looking_changes_no_weight_and_leaves_pictures_of_the_same_crops(tmp_path: Path) -> None:
    plain = _train(toy(tmp_path), tmp_path / "plain")
    looked_at = _train(
        toy(tmp_path, "train.validate_every=2", "validate.pictures=3"), tmp_path / "looked", tensorboard=True
    )
    expected, found = load_final(plain).weights, load_final(looked_at).weights
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []
    pictures = [cv2.imread(str(tmp_path / f"looked/pictures/step-{step}.jpg")) for step in (2, 4, 6)]
    assert [picture.shape for picture in pictures] == [(3 * 24 + 2 * 4, 3 * 24 + 2 * 4, 3)] * 3
    assert (pictures[0][:, :48] == pictures[2][:, :48]).all()  # the same crops and labels, other predictions
    assert not (tmp_path / "plain" / "pictures").exists()
    assert [step for step, _ in points(tmp_path / "looked" / "tensorboard")["loss"]] == [2, 4, 6]


def test_scores_of_repeated_steps_give_way(tmp_path: Path) -> None:
    torch_free = score(torch.eye(3, dtype=torch.int64).numpy() * 5, classes="abc", counted=(0, 1), images=2)
    path = tmp_path / "validation.json"
    for step in (2, 4, 4):
        write_scores(path, step, {"camvid-11": torch_free})
    rows = json.loads(path.read_text())
    assert [row["step"] for row in rows] == [2, 4]
    only = rows[1]["sets"]["camvid-11"]
    assert (only["images"], [c["name"] for c in only["classes"]]) == (2, ["a", "b"])
    assert only["miou"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("validate.limit=0", "validate: limit: 0; must be at least 1"),
        ("validate.pictures=99", "pictures: 99; must be from 0 to 64"),
        ("validate.data=[a, a]", "a set is named twice"),
        ("validate.every=5", "validate.every: unknown key"),
    ],
)
def test_bad_sections_are_refused(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        toy(tmp_path, override)
