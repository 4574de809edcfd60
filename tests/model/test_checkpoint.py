import io
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from segstream.model import checkpoint as module
from segstream.model.checkpoint import (
    Checkpoint,
    Checkpoints,
    Final,
    check_same,
    differences,
    load_checkpoint,
    load_final,
    save_file,
)
from segstream.shards.errors import DataError

IDENTITY = {"seed": 1}


def progress(step=5):
    weights = {"a.weight": torch.arange(1000.0).view(10, 100), "a.count": torch.tensor(3)}
    return Checkpoint(identity=IDENTITY, step=step, weights=weights, optimizer={"state": {0: {"m": torch.ones(4)}}})


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "checkpoint.pt"
    save_file(path, progress())
    return path


def test_what_was_saved_comes_back(path):
    got = load_checkpoint(path)
    assert (got.identity, got.step) == ({"seed": 1}, 5)
    assert torch.equal(got.weights["a.weight"], progress().weights["a.weight"])
    assert torch.equal(got.optimizer["state"][0]["m"], torch.ones(4))
    assert [file.name for file in path.parent.iterdir()] == ["checkpoint.pt"]


def test_every_truncation_and_every_flipped_byte_of_a_tensor_is_refused(path):
    whole = path.read_bytes()
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(
            DataError, match=r"checkpoint.pt: .*(cannot be read as a file of weights: \d|no checkpoint)"
        ):
            load_checkpoint(path)
    start = whole.index(torch.arange(1000.0).numpy().tobytes())
    for at in range(start, start + 4000, 131):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        with pytest.raises(DataError, match="does not have the checksum that is stored"):
            load_checkpoint(path)


class Trap:
    def __reduce__(self):
        return os.mkdir, ("sprung",)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"format": "segstream-checkpoint", "trap": Trap()}, tmp_path / "new.pt")
    torch.save({"trap": Trap()}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "raw.pt").write_bytes(pickle.dumps(Trap()))
    for name in ("new.pt", "old.pt", "raw.pt"):
        with pytest.raises(DataError) as caught:
            load_checkpoint(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert name in str(caught.value)
        assert name == "raw.pt" or "holds code or objects (posix.mkdir) besides tensors" in str(caught.value)
    assert not (tmp_path / "sprung").exists()


def test_foreign_files_are_named(tmp_path, path):
    ours = {"format": "segstream-checkpoint", "kind": "progress"}
    for content, says in (
        ({"state_dict": {}}, "no checkpoint of ours"),
        ([1, 2], "no checkpoint of ours"),
        (ours | {"version": 99}, "version: found 99, expected 2"),
        (
            ours | {"version": 2, "step": 1},
            "or of another type: identity, weights, optimizer, average, scaler, skipped;",
        ),
    ):
        torch.save(content, tmp_path / "foreign.pt")
        with pytest.raises(DataError, match=rf"foreign\.pt: .*{says}"):
            load_checkpoint(tmp_path / "foreign.pt")
    (tmp_path / "text.pt").write_text("hello")
    for name, says in (("text.pt", "cannot be read"), ("absent.pt", "no such file")):
        with pytest.raises(DataError, match=says):
            load_checkpoint(tmp_path / name)
    with pytest.raises(DataError, match="kind: found 'progress', expected 'final'"):
        load_final(path)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"weights": {"a": torch.tensor([1.0, torch.inf])}}, "weights.a holds nan or infinity"),
        ({"average": {"a": torch.tensor([torch.nan])}}, "average.a holds nan or infinity"),
        ({"optimizer": {"state": {0: {"m": torch.tensor([torch.nan])}}}}, "optimizer.state.0.m holds nan or infinity"),
        ({"weights": {"a": torch.ones(1, dtype=torch.bool)}}, "weights.a is of torch.bool, not of real numbers"),
        ({"identity": {"seed": {(1, 2): 3}}}, "identity or meta are no plain values"),
        ({"weights": {"a": 1}}, "not there, or of another type: weights;"),
        ({"step": "5"}, "not there, or of another type: step;"),
    ],
)
def test_a_run_does_not_go_on_from_what_is_no_number(path, change, text):
    torch.save(torch.load(path) | change, path)
    with pytest.raises(DataError, match=f"checkpoint.pt: {text}"):
        load_checkpoint(path)


@pytest.fixture
def full_disk(monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)


def test_a_failed_write_leaves_the_former_file(path, full_disk):
    with pytest.raises(DataError, match=r"checkpoint.pt: cannot be written .*No space left"):
        save_file(path, progress(step=6))
    assert load_checkpoint(path).step == 5
    assert [file.name for file in path.parent.iterdir()] == ["checkpoint.pt"]


def test_a_full_disk_in_the_archive_writer_is_an_error_of_one_line(tmp_path, monkeypatch):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    final = Final(identity={}, meta={}, step=1, weights={"w": torch.zeros(100_000)})
    monkeypatch.setattr(Path, "open", lambda *_: io.FileIO("/dev/full", "wb"))
    with pytest.raises(DataError, match=r"final.pt: cannot be written \(No space left on device\)"):
        save_file(tmp_path / "final.pt", final)
    assert list(tmp_path.iterdir()) == []


def test_differences_name_the_leaf():
    found = {"train": {"lr": 0.1, "steps": 5}, "data": {"mix": ["a", "b"]}, "seed": 1}
    expected = {"train": {"lr": 0.2, "steps": 5}, "data": {"mix": ("a", "b")}, "extra": None}
    assert differences(found, expected) == [
        "extra is nothing, this run has None",
        "seed is 1, this run has nothing",
        "train.lr is 0.1, this run has 0.2",
    ]
    check_same("x.pt", expected, expected)
    with pytest.raises(DataError, match=r"x.pt: belongs to another run: .*train.lr is 0.1, this run has 0.2"):
        check_same("x.pt", found, expected)


def test_differences_in_a_mix_name_the_dataset():
    mix = [{"dataset": "a", "manifest": "0" * 64}, {"dataset": "b", "manifest": "1" * 64}]
    other = [mix[0], {"dataset": "b", "manifest": "2" * 64}]
    (said,) = differences({"mix": mix}, {"mix": other})
    assert said == f"mix.b.manifest is '{'1' * 56}..., this run has '{'2' * 56}..."
    assert differences({"mix": mix}, {"mix": mix[::-1]}) == ["mix.order is ['a', 'b'], this run has ['b', 'a']"]
    assert differences({"mix": mix}, {"mix": mix}) == []


@pytest.fixture
def checkpoints(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2)
    yield checkpoints
    checkpoints.close()


def names(checkpoints):
    return [path.name for path in checkpoints.paths()]


def save(checkpoints, *steps):
    for step in steps:
        checkpoints.save(progress(step))
        checkpoints.wait()


def test_the_latest_few_are_kept(checkpoints):
    assert checkpoints.latest(IDENTITY, print) is None
    save(checkpoints, 2, 4, 6, 10)
    assert names(checkpoints) == ["step-00000010.pt", "step-00000006.pt"]
    assert checkpoints.latest(IDENTITY, print).step == 10
    left = checkpoints.path(12).with_suffix(".pt.part")
    left.write_bytes(b"half")  # by a writer that was killed
    save(checkpoints, 14)
    assert not left.exists()


def test_what_is_written_is_the_state_at_the_call_though_training_goes_on(checkpoints, monkeypatch):
    may_write = threading.Event()

    def slow(path, state):
        assert may_write.wait(10)
        save_file(path, state)

    monkeypatch.setattr(module, "save_file", slow)
    kept = progress(3)
    checkpoints.save(kept)  # returns though nothing is written
    assert names(checkpoints) == []
    kept.weights["a.weight"].fill_(2.0)
    may_write.set()
    checkpoints.wait()
    assert torch.equal(load_checkpoint(checkpoints.path(3)).weights["a.weight"], progress().weights["a.weight"])


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
    notes = []
    assert checkpoints.find(IDENTITY, notes.append, restart_changed=True) is None
    assert checkpoints.paths() == []
    assert notes[-1].startswith("starting over: ")


def test_a_full_disk_is_told_at_the_next_step_and_the_last_good_one_stays(checkpoints, request):
    save(checkpoints, 2)
    request.getfixturevalue("full_disk")
    checkpoints.save(progress(4))
    checkpoints._writing.exception()  # done
    assert isinstance(checkpoints.failure, DataError)
    with pytest.raises(DataError, match=r"step-00000004.pt: cannot be written .*No space left"):
        checkpoints.wait()
    assert checkpoints.latest(IDENTITY, print).step == 2


def test_one_run_at_a_time_until_its_process_ends(tmp_path, checkpoints):
    hold = "import sys; from segstream.model.checkpoint import *; k = Checkpoints(sys.argv[1], keep=1); k.claim()"
    command = [sys.executable, "-c", f"{hold}; print('held', flush=True); sys.stdin.read()", tmp_path / "checkpoints"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
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
