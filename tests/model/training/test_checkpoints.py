"""Which checkpoints are kept, and which one a run goes on from."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from segstream.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from segstream.model.training.checkpoints import Checkpoints
from segstream.shards.errors import DataError

IDENTITY = {"seed": 1}


def state(step, value=0.0):
    return Checkpoint(identity=IDENTITY, step=step, weights={"w": torch.full((50,), value)}, optimizer={"state": {}})


@pytest.fixture
def checkpoints(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2)
    yield checkpoints
    checkpoints.close()


def names(checkpoints):
    return [path.name for path in checkpoints.paths()]


def save(checkpoints, *steps):
    for step in steps:
        checkpoints.save(state(step))
        checkpoints.wait()


def test_the_latest_few_are_kept(checkpoints):
    assert checkpoints.latest(IDENTITY, print) is None
    save(checkpoints, 2, 4, 6, 10)
    assert names(checkpoints) == ["step-00000010.pt", "step-00000006.pt"]
    assert checkpoints.latest(IDENTITY, print).step == 10


def test_what_is_written_is_the_state_at_the_call_though_training_goes_on(checkpoints, monkeypatch):
    may_write = threading.Event()

    def slow(path, state):
        assert may_write.wait(10)
        save_checkpoint(path, state)

    monkeypatch.setattr("segstream.model.training.checkpoints.save_checkpoint", slow)
    kept = state(3, value=1.0)
    checkpoints.save(kept)  # returns though nothing is written
    assert names(checkpoints) == []
    kept.weights["w"].fill_(2.0)
    may_write.set()
    checkpoints.wait()
    assert torch.equal(load_checkpoint(checkpoints.path(3)).weights["w"], torch.ones(50))


def test_a_damaged_newest_one_gives_way_to_the_one_before_and_it_is_said(checkpoints):
    save(checkpoints, 2, 4)
    checkpoints.path(4).write_bytes(checkpoints.path(4).read_bytes()[:-50])
    notes = []
    assert checkpoints.latest(IDENTITY, notes.append).step == 2
    (line,) = notes
    assert "step-00000004.pt: cannot be read" in line
    assert line.endswith("; trying the checkpoint before it")
    save(checkpoints, 4)
    assert checkpoints.latest(IDENTITY, notes.append).step == 4


def test_without_a_whole_one_it_refuses(checkpoints):
    save(checkpoints, 2, 4)
    for step in (2, 4):
        checkpoints.path(step).write_bytes(b"")
    with pytest.raises(DataError, match=r"step-00000004.pt: .*there is no earlier one. Or start over"):
        checkpoints.latest(IDENTITY, lambda line: None)
    checkpoints.discard()
    assert checkpoints.latest(IDENTITY, print) is None


def test_a_full_disk_is_told_at_the_next_step_and_the_last_good_one_stays(checkpoints, monkeypatch):
    save(checkpoints, 2)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    checkpoints.save(state(4))
    checkpoints._writing.exception()  # done
    assert isinstance(checkpoints.failure, DataError)
    with pytest.raises(DataError, match=r"step-00000004.pt: cannot be written .*No space left"):
        checkpoints.wait()
    assert checkpoints.latest(IDENTITY, print).step == 2


def test_what_a_killed_writer_left_is_removed(checkpoints):
    save(checkpoints, 2)
    left = checkpoints.path(4).with_suffix(".pt.part")
    left.write_bytes(b"half")
    save(checkpoints, 6)
    assert not left.exists()


def test_one_run_at_a_time_until_its_process_ends(tmp_path, checkpoints):
    module = "segstream.model.training.checkpoints"
    hold = f"import sys; from {module} import Checkpoints; k = Checkpoints(sys.argv[1], keep=1); k.claim()"
    wait = "print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", f"{hold}; {wait}", str(tmp_path / "checkpoints")]
    with subprocess.Popen(
        command, cwd=Path(__file__).parents[3], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(DataError, match="another run is at work here; wait for it, or stop it"):
            checkpoints.claim()
        other.kill()
        other.wait()
        checkpoints.claim()


def test_a_run_folder_that_cannot_be_is_said(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    checkpoints = Checkpoints(tmp_path / "file" / "checkpoints", keep=1)
    with pytest.raises(DataError, match=r"file: cannot be written to .*choose another run folder"):
        checkpoints.claim()
    checkpoints.close()
