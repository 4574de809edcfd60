"""Kills, full disks and dying workers: whatever happens, nothing half-written is taken for whole."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from segstream.shards.checks.verify import verify
from segstream.shards.convert.convert import convert
from segstream.shards.errors import DataError
from segstream.shards.format.reader import open_shards
from tests.shards import trees
from tests.shards.convert.test_convert import content

ROOT = Path(__file__).parents[3]
CONVERT = """
import resource, sys, time
from pathlib import Path
from segstream.shards.convert import build_shard as job
from segstream.shards.convert.convert import convert
raw, out, workers, limit, delay = sys.argv[1:]
if int(limit):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
if float(delay):
    slow = job.encode_label
    job.encode_label = lambda label: (time.sleep(float(delay)), slow(label))[1]
if __name__ == "__main__":
    where = {"raw": Path(raw), "out": out, "workers": int(workers)}
    convert(dataset="ade20k-150", split="train", shard_samples=2, **where)
"""


def start(tmp_path, raw, workers=1, limit=0, delay=0.0):
    script = tmp_path / "convert_script.py"
    script.write_text(CONVERT)
    command = [sys.executable, str(script), str(raw), str(tmp_path / "out"), str(workers), str(limit), str(delay)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=env)


def shards_there(out):
    return len(list(out.rglob("shard-*.idx.json")))


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_again_and_again_the_result_is_the_undisturbed_one(tmp_path, workers):
    raw = trees.ade20k(tmp_path / "raw", train=16)
    out, folder = tmp_path / "out", tmp_path / "out" / "ade20k-150" / "train"
    for stop_at in (1, 3, 5):
        process = start(tmp_path, raw, workers, delay=0.02)
        deadline = time.monotonic() + 60
        while shards_there(out) < stop_at and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "finished before it could be killed"
        with pytest.raises(DataError, match=r"incomplete: no manifest\.json"):
            open_shards(folder)
    time.sleep(0.3)  # orphaned workers end with their parent
    summary = convert(dataset="ade20k-150", split="train", raw=raw, out=str(out), shard_samples=2)
    assert 3 <= summary.resumed_shards < 8
    convert(dataset="ade20k-150", split="train", raw=raw, out=str(tmp_path / "calm"), shard_samples=2)
    assert content(out) == content(tmp_path / "calm")
    assert verify(folder).ok


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_is_one_clear_error_and_the_next_run_finishes(tmp_path, workers):
    raw = trees.ade20k(tmp_path / "raw", train=6)
    big = raw / "images/training/ADE_train_00000004.jpg"
    rng = np.random.default_rng(0)
    trees.save(big, rng.integers(0, 255, (200, 200, 3), dtype=np.uint8), quality=100)
    trees.save(raw / "annotations/training/ADE_train_00000004.png", np.ones((200, 200), np.uint8))
    process = start(tmp_path, raw, workers, limit=40_000)  # writes past it fail as on a full disk, in the second shard
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 1
    last = errors.strip().splitlines()[-1]
    folder = tmp_path / "out" / "ade20k-150" / "train"
    assert f"DataError: {folder}/shard-000001.tar: cannot be written (File too large); make room" in last
    assert not list(folder.glob("*.part"))
    assert not (folder / "shard-000001.tar").exists()
    with pytest.raises(DataError, match="incomplete"):
        open_shards(folder)
    convert(dataset="ade20k-150", split="train", raw=raw, out=str(tmp_path / "out"), shard_samples=2)
    assert verify(folder).ok
