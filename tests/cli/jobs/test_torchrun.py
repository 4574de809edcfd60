"""Processes that share a command: one's end is the end of all."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


CHILD = """#!{python}
import os, pathlib, time
from segstream.cli.jobs.torchrun import end_with_launcher
end_with_launcher()
pathlib.Path({folder!r}, os.environ["RANK"]).write_text(str(os.getpid()))
time.sleep(60)
"""
PARENT = """
import sys
from segstream.cli.jobs.torchrun import run_processes
sys.executable = sys.argv[1]
run_processes([], 2)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_none_is_left_when_the_one_that_started_them_is_killed(tmp_path: Path, number: signal.Signals) -> None:
    child = tmp_path / "child"
    child.write_text(CHILD.format(python=sys.executable, folder=str(tmp_path)))
    child.chmod(0o755)
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", PARENT, child], env=env) as parent:
        wait_until(lambda: all((tmp_path / rank).exists() and (tmp_path / rank).read_text() for rank in "01"))
        children = [int((tmp_path / rank).read_text()) for rank in "01"]
        parent.send_signal(number)
    wait_until(lambda: not any(map(alive, children)))


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Running, not one that has ended and was not asked for its exit code."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
