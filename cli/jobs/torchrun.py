"""A command in several processes of this machine, as torchrun would start them, but with our way of failing."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

POLL_S = 0.05
GRACE_S = 10.0  # for the others to end, once one has failed
LIFELINE = "SEGSTREAM_LIFELINE"  # the number of a pipe's end; the other end closes when the starting process ends


def run_processes(args: Sequence[str], count: int) -> int:
    """Run `segstream ARGS` in `count` processes that know of one another (see `model.distributed`).

    Rank 0 has this process' output; the others have no stdout. When one fails, the others are ended. They call
    `end_with_parent`, so that none is left when this process is killed.

    Returns:
        0, or the exit code of the process that failed first.
    """
    shared = os.environ | {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "WORLD_SIZE": str(count),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count))),
    }
    far, near = os.pipe()
    shared[LIFELINE] = str(far)
    command = [sys.executable, "-m", "segstream.cli.main", *args]
    running: list[subprocess.Popen[bytes]] = []
    try:
        for rank in range(count):
            env, quiet = shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, subprocess.DEVNULL if rank else None
            running += [subprocess.Popen(command, env=env, stdout=quiet, pass_fds=(far,))]
        return _first_failure(running)
    finally:
        _end(running)
        os.close(far)
        os.close(near)


def end_with_parent() -> None:
    """Let this process end when the one that started it by `run_processes` does, be it by SIGKILL; else do nothing."""
    lifeline = os.environ.pop(LIFELINE, None)
    if lifeline is not None:
        threading.Thread(target=_watch, args=(int(lifeline),), name="lifeline", daemon=True).start()


def _watch(lifeline: int) -> None:
    os.read(lifeline, 1)  # nothing is ever written: it returns when the other end closes
    os._exit(1)  # from a thread there is no gentler way; what is done is noted


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
