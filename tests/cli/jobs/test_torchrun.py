"""Processes that share a command: one's end is the end of all."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import wait_until

CHILD = """#!{python}
import os, pathlib, time
from segstream.cli.jobs.torchrun import end_with_launcher
end_with_launcher()
pathlib.Path({folder!r}, os.environ["RANK"]).write_text(str(os.getpid()))
time.sleep(60)
"""
PARENT = """
import sys
from pathlib import Path
from segstream.cli.jobs.torchrun import run_processes
sys.executable = sys.argv[1]
run_processes([], 2)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_none_is_left_when_the_one_that_started_them_is_killed(tmp_path, number):
    child = tmp_path / "child"
    child.write_text(CHILD.format(python=sys.executable, folder=str(tmp_path)))
    child.chmod(0o755)
    with subprocess.Popen([sys.executable, "-c", PARENT, child]) as parent:
        wait_until(lambda: all((tmp_path / rank).exists() and (tmp_path / rank).read_text() for rank in "01"))
        children = [int((tmp_path / rank).read_text()) for rank in "01"]
        parent.send_signal(number)
    wait_until(lambda: not any(map(alive, children)))


def alive(pid):
    """Running, not one that has ended and was not asked for its exit code."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
