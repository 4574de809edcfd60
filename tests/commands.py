"""One small world, its shards and a model of few steps, made by the commands themselves and shared by the tests."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from segstream.cli import main

ROOT = Path(__file__).parents[1]
# Of this process, and of all that tests start.
os.environ |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "DVC_NO_ANALYTICS": "1"}
os.environ |= {f"GIT_{who}_{what}": "a@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
RECIPE = """
data: {{shards: {shards}, mix: {{ade20k-150: 1, sunrgbd-37: 1}}}}
augment: {{short_side: 48, crop: 33}}
loader: {{batch: 2, threads: 1}}
model: {{arch: hrnet-tiny, options: {{widths: [4, 4, 4, 4], stem: 4, stage1_width: 4}}}}
train: {{steps: 4, lr: 0.05, log_every: 2, checkpoint_every: 2, device: cpu, threads: 1}}
eval: {{short_side: 48, crop: 49, device: cpu}}
"""


def sh(*command, cwd, **environment):
    """stdout and stderr of a command that has to succeed."""
    env = os.environ | environment
    done = subprocess.run([*map(str, command)], cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout + done.stderr


def wait_until(condition, *processes, seconds=200):
    """Fails if a process ends before, or the time is up."""
    until = time.monotonic() + seconds
    while not condition():
        assert all(process.poll() is None for process in processes)
        assert time.monotonic() < until
        time.sleep(0.02)


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def segstream():
    """Runs the command as a process of its own, as a user does."""

    def run(*args, cwd=None):
        command = [sys.executable, "-m", "segstream.cli.main", *map(str, args)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=240, check=False)
        return Outcome(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def here(monkeypatch, capfd):
    """Runs the command in this process, which is faster."""

    def run(*args):
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["segstream", *map(str, args)])
        with pytest.raises(SystemExit) as caught:
            main.run()
        code, said = caught.value.code, capfd.readouterr()
        return Outcome(code if isinstance(code, int) else 0, said.out, said.err)

    return run


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """A folder with world/, shards/, recipe.yaml and runs/recipe."""
    folder = tmp_path_factory.mktemp("place")
    names = "ade20k-150,sunrgbd-37,camvid-11"
    steps = [
        ("world", "--out", folder / "world", "--datasets", names, "--images", 6, "--val-images", 2, "--workers", 1)
    ]
    steps += [("shard", n, "--raw", folder / "world" / n, "--short-side", 64) for n in ("ade20k-150", "sunrgbd-37")]
    steps.append(("shard", "camvid-11", "--raw", folder / "world" / "camvid-11"))
    steps = [s if s[0] == "world" else (*s, "--out", folder / "shards", "--workers", 1) for s in steps]
    (folder / "recipe.yaml").write_text(RECIPE.format(shards=folder / "shards"))
    steps.append(("train", folder / "recipe.yaml", "--run", folder / "runs" / "recipe"))
    for step in steps:
        done = CliRunner().invoke(main.app, [str(word) for word in step], catch_exceptions=False)
        assert done.exit_code == 0, done.output
    return folder
