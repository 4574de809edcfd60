"""Commands that are killed at random moments and repeated end in the bytes of the undisturbed ones."""

import json
import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from segstream.model.checkpoint import load_final
from tests.cli import forked

MANY = 170  # six commands: a thousand
Run = Callable[[Path], list[str]]
SPEED = {"images_per_s", "seconds"}


@pytest.fixture(scope="module")
def commands(place: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """By name, the arguments of a command that writes to a folder."""
    folder = tmp_path_factory.mktemp("killed")
    final, sets = place / "runs/recipe/final.pt", place / "shards"
    pictures = folder / "pictures"
    pictures.mkdir()
    for n, path in enumerate(sorted((place / "world").rglob("*.jpg"))):
        shutil.copy(path, pictures / f"{n}.jpg")
    logits = [folder / "logits-a", folder / "logits-b"]
    for at, out in zip((48, 32), logits, strict=True):
        run(
            [*f"predict {pictures} --checkpoint {final} --out {out} --logits --short-side {at}".split()], folder / "log"
        )
    grid = {
        "models": {"tiny": str(final)},
        "data": [f"{sets}/{name}" for name in ("camvid-11/val", "ade20k-150/val")],
        "short_sides": [32, 48],
    }
    (folder / "grid.yaml").write_text(yaml.safe_dump(grid))
    raw = place / "world/ade20k-150"
    steps = ["train.steps=20", "train.checkpoint_every=1"]
    data = ["--data", f"{sets}/camvid-11/val", "--data", f"{sets}/ade20k-150/val", "--data", f"{sets}/sunrgbd-37/val"]
    return {
        "shard": lambda out: ["shard", "ade20k-150", "--raw", f"{raw}", "--out", f"{out}", "--workers", "1",
                              "--short-side", "64", "--shard-samples", "1", "--split", "train", "--split", "val"],
        "train": lambda out: ["train", f"{place}/recipe.yaml", "--run", f"{out}", *steps],
        "eval": lambda out: ["eval", f"{final}", *data, "--short-side", "32,48,64", "--out", f"{out}/result.json"],
        "predict": lambda out: ["predict", f"{pictures}", "--checkpoint", f"{final}", "--out", f"{out}"],
        "ensemble": lambda out: ["ensemble", *map(str, logits), "--out", f"{out}"],
        "grid": lambda out: ["eval", "--grid", f"{folder}/grid.yaml", "--out", f"{out}", "--retries", "0"],
    }  # fmt: skip


def without_speed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_speed(inner) for key, inner in value.items() if key not in SPEED}
    return [without_speed(inner) for inner in value] if isinstance(value, list) else value


def content(name: str, out: Path) -> dict[str, Any]:
    """What a command leaves, by path; of a run the weights, for its account tells of every start."""
    if name == "train":
        return {key: value.numpy().tobytes() for key, value in load_final(out / "final.pt").weights.items()}
    files = {str(path.relative_to(out)): path for path in sorted(out.rglob("*")) if path.is_file()}
    return {
        key: without_speed(json.loads(path.read_text())) if path.suffix == ".json" else path.read_bytes()
        for key, path in files.items()
        if path.suffix != ".log"
    }


def run(arguments: list[str], log: Path) -> None:
    """The command to its end."""
    process = forked.start_command(arguments, log)
    process.join()
    assert process.exitcode == 0, log.read_text()


def undisturbed(name: str, command: Run, place: Path) -> tuple[dict[str, Any], float]:
    """What it leaves, and the seconds that it takes: the second time, for the first waits for the fork server."""
    for calm in (place / "calm-1", place / "calm-2"):
        began = time.monotonic()
        run(command(calm), place / "calm.log")
    return content(name, calm), time.monotonic() - began


def killed_starts(command: Run, out: Path, log: Path, moments: Iterator[float | None]) -> int:
    """Start a command until it ends by itself; how often it was killed before."""
    kills = 0
    while True:
        process = forked.start_command(command(out), log)
        process.join(next(moments))
        if process.exitcode is None:
            forked.kill(process)
            kills += 1
        elif process.exitcode == 0:
            return kills
        else:
            raise AssertionError(f"exit code {process.exitcode} after {kills} kills: {log.read_text()[-2000:]}")


SOAK = [pytest.mark.soak, pytest.mark.timeout(3600)]
FEW = [(name, 1) for name in ("shard", "train", "eval", "predict", "ensemble")]  # a killed grid: test_eval_grid


@pytest.mark.parametrize(
    ("name", "kills"),
    [
        *FEW,
        *(pytest.param(name, MANY, marks=SOAK) for name in ("shard", "train", "eval", "predict", "ensemble", "grid")),
    ],
)
def test_killed_and_repeated_a_command_leaves_the_same(
    commands: dict[str, Run], tmp_path: Path, name: str, kills: int
) -> None:
    rng = random.Random(f"{name} {kills}")
    expected, lasts_s = undisturbed(name, commands[name], tmp_path)
    done = rounds = 0
    while done < kills:
        out = tmp_path / f"out-{rounds}"
        left = kills - done
        moments = (rng.uniform(0, lasts_s) if n < left else None for n in range(left + 1))
        done += killed_starts(commands[name], out, tmp_path / "log", moments)
        assert content(name, out) == expected
        shutil.rmtree(out)
        rounds += 1
    print(f"{name}: {done} kills, {rounds} outcomes, each that of the undisturbed command ({lasts_s:.1f} s)")
