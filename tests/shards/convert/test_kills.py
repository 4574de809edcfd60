"""Killed processes and full disks: nothing half-written is taken for whole, the next run completes."""

import os
import random
import signal
import subprocess
import sys
import time
import zipfile
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
SHARDS = 12
LASTS_S = 0.9  # a conversion slowed down by the script, so that kills come in the midst of it
START_S = 0.5  # of two workers
CONVERT = """
import resource, sys, time
from segstream.shards.convert import build_shard
from segstream.shards.convert.convert import convert
raw, out, workers, limit = sys.argv[1:]
if int(limit):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
encode = build_shard.encode_label
build_shard.encode_label = lambda label: (time.sleep(0.008), encode(label))[1]
if __name__ == "__main__":
    print("begun", flush=True)
    side = None if int(limit) else 40
    convert("ade20k-150", split="train", raw=raw, out=out, workers=int(workers), shard_samples=4, short_side=side)
"""


def start(tmp_path, raw, out, workers, limit=0):
    """A conversion in a process of its own, with the largest file that it may write, in bytes."""
    script = tmp_path / "convert_script.py"
    script.write_text(CONVERT)
    command = [sys.executable, str(script), str(raw), str(out), str(workers), str(limit)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def release(root, packed):
    """48 images of 96 x 128 pixels, unpacked or as the archive they ship in."""
    raw = trees.ade20k(root / "raw", train=4 * SHARDS, val=1, size_hw=(96, 128))
    if not packed:
        return raw
    (root / "zipped").mkdir()
    with zipfile.ZipFile(root / "zipped" / "ADEChallengeData2016.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(raw.rglob("*.*")):
            archive.write(path, f"ADEChallengeData2016/{path.relative_to(raw)}")
    return root / "zipped"


def whole_shards(folder):
    """Tars that have their index, with the time they were written."""
    tars = (path.with_name(path.name.replace(".idx.json", ".tar")) for path in folder.glob("shard-*.idx.json"))
    return {path.name: path.stat().st_mtime_ns for path in tars}


def campaign(tmp_path, kills, seed):
    """Kill so many conversions, on folders and zips, with one worker and with two; returns how far each had come."""
    rng = random.Random(seed)
    raws = [release(tmp_path / str(packed), packed) for packed in (False, True)]
    expected = []
    for n, raw in enumerate(raws):
        calm = tmp_path / "calm" / str(n)
        convert(dataset="ade20k-150", split="train", raw=raw, out=str(calm), shard_samples=4, short_side=40)
        expected.append(content(calm))
    assert expected[0] == expected[1], "a zip is read as the folder it was made of"
    reached, conversion = [], 0
    while len(reached) < kills:
        out = tmp_path / f"out-{conversion}"
        folder, raw = out / "ade20k-150" / "train", raws[conversion % 2]
        finished = False
        while not finished:
            workers = rng.choice([1, 2])
            before = whole_shards(folder)
            process = start(tmp_path, raw, out, workers)
            assert process.stdout.readline() == "begun\n", process.stderr.read()
            if len(reached) < kills:
                try:
                    process.wait(rng.uniform(0, LASTS_S if workers == 1 else START_S + LASTS_S / 2))
                except subprocess.TimeoutExpired:
                    process.send_signal(signal.SIGKILL)
            process.communicate()
            finished = process.returncode == 0
            now = whole_shards(folder)
            assert before.items() <= now.items(), "a finished shard was made again"
            if not finished:
                assert process.returncode == -signal.SIGKILL
                reached.append(len(now))
                if not (folder / "manifest.json").exists():
                    with pytest.raises(DataError, match=r"incomplete|no such folder"):
                        open_shards(folder)
        time.sleep(0.3)  # workers whose parent was killed end by themselves
        assert content(out) == expected[0]
        conversion += 1
    assert verify(folder).ok
    return reached


def test_killed_at_random_moments_the_result_is_the_undisturbed_one(tmp_path):
    campaign(tmp_path, kills=4, seed=4)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_is_one_clear_error_and_the_next_run_finishes(tmp_path, workers):
    raw = trees.ade20k(tmp_path / "raw", train=12)
    big = raw / "images/training/ADE_train_00000006.jpg"
    rng = np.random.default_rng(0)
    trees.save(big, rng.integers(0, 255, (200, 200, 3), dtype=np.uint8), quality=100)
    trees.save(raw / "annotations/training/ADE_train_00000006.png", np.ones((200, 200), np.uint8))
    out = tmp_path / "out"
    process = start(tmp_path, raw, out, workers, limit=40_000)  # writes past it fail as on a full disk
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 1
    last = errors.strip().splitlines()[-1]
    folder = out / "ade20k-150" / "train"
    assert f"DataError: {folder}/shard-000001.tar: cannot be written (File too large); make room" in last
    assert not list(folder.glob("*.part"))
    assert not (folder / "shard-000001.tar").exists()
    with pytest.raises(DataError, match="incomplete"):
        open_shards(folder)
    convert(dataset="ade20k-150", split="train", raw=raw, out=out, shard_samples=4)
    assert verify(folder).ok


@pytest.mark.soak
@pytest.mark.timeout(3000)
def test_fifty_kills(tmp_path, capsys):
    reached = campaign(tmp_path, kills=50, seed=50)
    assert len(reached) == 50
    with capsys.disabled():
        print(f"\n50 kills, after so many of {SHARDS} shards: {reached}")
