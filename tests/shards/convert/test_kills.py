"""SIGKILL at random moments: whatever was killed, the next run completes to the very same bytes."""

import os
import random
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

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
import sys, time
from pathlib import Path
from segstream.shards.convert import build_shard as job
from segstream.shards.convert.convert import convert
raw, out, workers = sys.argv[1:]
encode = job.encode_label
job.encode_label = lambda label: (time.sleep(0.008), encode(label))[1]
if __name__ == "__main__":
    print("begun", flush=True)
    where = {"raw": Path(raw), "out": out, "workers": int(workers)}
    convert(dataset="ade20k-150", split="train", shard_samples=4, short_side=40, **where)
"""


def release(root, packed):
    """48 images of 96 x 128 pixels, unpacked or as the archive they ship in."""
    raw = trees.ade20k(root / "raw", train=4 * SHARDS, val=1, size_hw=(96, 128))
    if not packed:
        return raw
    (root / "zipped").mkdir()
    with zipfile.ZipFile(root / "zipped" / "ADEChallengeData2016.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(p for p in raw.rglob("*") if p.is_file()):
            archive.write(path, f"ADEChallengeData2016/{path.relative_to(raw)}")
    return root / "zipped"


def whole_shards(folder):
    """Tars that have their index, with the time they were written."""
    tars = (path.with_name(path.name.replace(".idx.json", ".tar")) for path in folder.glob("shard-*.idx.json"))
    return {path.name: path.stat().st_mtime_ns for path in tars}


def campaign(tmp_path, kills, seed):
    """Kill so many conversions, on folders and zips, with one worker and with two; returns how far each had come."""
    rng = random.Random(seed)
    script = tmp_path / "kill_script.py"
    script.write_text(CONVERT)
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
            command = [sys.executable, str(script), str(raw), str(out), str(workers)]
            env = {**os.environ, "PYTHONPATH": str(ROOT)}
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
            assert process.stdout.readline() == b"begun\n", process.stderr.read()
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


@pytest.mark.soak
@pytest.mark.timeout(3000)
def test_fifty_kills(tmp_path, capsys):
    reached = campaign(tmp_path, kills=50, seed=50)
    assert len(reached) == 50
    with capsys.disabled():
        print(f"\n50 kills, after so many of {SHARDS} shards: {reached}")
