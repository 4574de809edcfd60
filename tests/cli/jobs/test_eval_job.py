"""An evaluation: made once, by one process at a time, told apart from what others left, its failure explained."""

import subprocess
import sys
import threading
import time

import pytest

from segstream.cli.jobs.eval_job import EvalJob, read_job, run_job, write_jobs
from segstream.shards.errors import DataError
from tests.commands import wait_until

PYTHON = sys.executable
# Stands for Python: what it is told to do is the second word of the command, its last is the result file.
FAKE = """#!/bin/sh
for out; do :; done
echo "$3 on ${OMP_NUM_THREADS:-no} threads" >> "$(dirname "$0")/calls"
case $4 in
  good) echo '[]' > "$out" ;;
  slow) sleep 60 & wait; echo '[]' > "$out" ;;
  short) sleep 1; echo '[]' > "$out" ;;
  bad) echo starting >&2; echo 'error: no such luck' >&2; exit 1 ;;
  use) echo 'error: --crop is not a number' >&2; exit 2 ;;
  kill) kill -9 $$ ;;
  empty) ;;
esac
"""


@pytest.fixture
def calls(tmp_path, monkeypatch):
    fake = tmp_path / "python"
    fake.write_text(FAKE)
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fake))
    return tmp_path / "calls"


def job(folder, what="good", **identity):
    return EvalJob(
        model="m", dataset="d", short_side="360", scales="", args=("eval", what),
        identity={"checkpoint": "a", "manifest": "b"} | identity, result=folder / "out/m/d/360/recipe.json",
    )  # fmt: skip


def test_a_finished_evaluation_is_not_run_again(tmp_path, calls):
    assert not job(tmp_path).finished()
    assert run_job(job(tmp_path), {"OMP_NUM_THREADS": "3"}).error is None
    assert job(tmp_path).finished()
    assert run_job(job(tmp_path)).error is None
    assert calls.read_text() == "eval on 3 threads\n"


def test_a_result_of_another_evaluation_is_stale_and_made_again(tmp_path, calls):
    run_job(job(tmp_path))
    changed = job(tmp_path, checkpoint="other")
    assert not changed.finished()
    assert changed.changed() == ["checkpoint"]
    journal = changed.result.with_name("recipe.json.journal")
    journal.mkdir()
    assert run_job(changed).error is None
    assert not journal.exists()  # of the other evaluation
    assert changed.finished()
    assert not job(tmp_path).finished()
    assert len(calls.read_text().splitlines()) == 2
    (bad := job(tmp_path, "bad")).result.unlink()
    assert run_job(bad).error
    journal.mkdir()
    assert run_job(job(tmp_path)).error is None
    assert journal.exists()  # what an unfinished one of the same identity noted stays, to go on from


def test_files_that_a_cache_linked_are_not_written_through(tmp_path, calls):
    run_job(job(tmp_path))
    names = [f"recipe.json.{kind}" for kind in ("lock", "log")]
    for name in names:
        (tmp_path / name).write_text("cached")
        job(tmp_path).result.with_name(name).unlink()
        job(tmp_path).result.with_name(name).symlink_to(tmp_path / name)
    assert run_job(job(tmp_path, checkpoint="other")).error is None
    assert [(tmp_path / name).read_text() for name in names] == ["cached", "cached"]


@pytest.mark.parametrize("text", ["", "{", "[1]"])
def test_a_damaged_identity_is_no_identity(tmp_path, calls, text):
    run_job(job(tmp_path))
    job(tmp_path).beside(".id").write_text(text)
    assert not job(tmp_path).finished()
    assert job(tmp_path).changed() == ["checkpoint", "manifest"]
    assert run_job(job(tmp_path)).error is None


FAILURES = {
    "bad": ("exit code 1: starting | error: no such luck", False),
    "use": ("exit code 2: error: --crop is not a number", True),
    "kill": ("signal 9 (Killed): it said nothing", False),
    "empty": ("exit code 0: it said nothing", False),
}


@pytest.mark.parametrize("what", FAILURES)
def test_a_failure_is_told_in_its_own_words(tmp_path, calls, what):
    outcome = run_job(job(tmp_path, what))
    assert (outcome.error, outcome.hopeless) == FAILURES[what]


def test_a_folder_that_cannot_be_written_is_the_jobs_failure(tmp_path, calls):
    (tmp_path / "out").touch()
    assert "out" in str(run_job(job(tmp_path)).error)
    assert not calls.exists()


def test_stopping_ends_the_process(tmp_path, calls):
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    start = time.monotonic()
    assert "signal 15" in str(run_job(job(tmp_path, "slow"), stopping=stop.is_set).error)
    assert time.monotonic() - start < 20


def test_a_job_waits_for_the_process_that_is_at_it_and_takes_its_result(tmp_path, calls):
    """Also when whoever started that process is gone: the process itself holds the lock."""
    write_jobs(tmp_path / "jobs.json", [job(tmp_path, "short")])
    program = (
        f"import sys; from pathlib import Path; from segstream.cli.jobs.eval_job import read_job, run_job;"
        f"sys.executable = {sys.executable!r}; run_job(read_job(Path({str(tmp_path / 'jobs.json')!r}), 0))"
    )
    with subprocess.Popen([PYTHON, "-c", program]) as other:
        wait_until(calls.exists, other)
        other.kill()
    assert not job(tmp_path).finished()
    assert run_job(job(tmp_path)).error is None
    assert len(calls.read_text().splitlines()) == 1


def test_jobs_survive_their_file_and_a_missing_one_is_named(tmp_path):
    write_jobs(tmp_path / "jobs.json", [job(tmp_path), job(tmp_path, "bad", how="x")])
    assert read_job(tmp_path / "jobs.json", 1) == job(tmp_path, "bad", how="x")
    for number, file in ((2, "jobs.json"), (0, "none.json")):
        with pytest.raises(DataError, match=f"{file}: no evaluation {number}"):
            read_job(tmp_path / file, number)
