"""A command in several processes of this machine, as torchrun would start them, but with our way of failing."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

POLL_S = 0.05
GRACE_S = 10.0  # for the others to end, once one has failed


def run_processes(args: Sequence[str], count: int) -> int:
    """Run `segstream ARGS` in `count` processes that know of one another (see `model.ranks`).

    Rank 0 has this process' output; the others have no stdout. When one fails, the others are ended.

    Returns:
        0, or the exit code of the process that failed first.
    """
    shared = os.environ | {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "WORLD_SIZE": str(count),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count))),
    }
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "cli.main", *args],
            env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=None if rank == 0 else subprocess.DEVNULL,
        )
        for rank in range(count)
    ]
    try:
        return _first_failure(running)
    finally:
        _end(running)


def without(args: Sequence[str], option: str) -> list[str]:
    """Arguments of a command without an option and its value."""
    kept, skip = [], False
    for arg in args:
        if not skip and arg != option and not arg.startswith(f"{option}="):
            kept.append(arg)
        skip = arg == option
    return kept


def _first_failure(running: Sequence[subprocess.Popen[bytes]]) -> int:
    while True:
        codes = [process.poll() for process in running]
        failed = [code for code in codes if code]
        if failed:
            return failed[0] if failed[0] > 0 else 128 - failed[0]  # as a shell says it of a signal
        if None not in codes:
            return 0
        time.sleep(POLL_S)


def _end(running: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in running:
        if process.poll() is None:
            process.terminate()
    for process in running:
        try:
            process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
