"""Processes that have everything imported already: campaigns start thousands of them."""

import contextlib
import multiprocessing
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from segstream.cli import main
from segstream.cli.console import plain
from segstream.shards.errors import DataError

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["tests.cli.forked", "segstream.training", "segstream.evaluation", "segstream.shards.convert.convert"]
)
TIMEOUT_S = 60
MEMORY_KIB = 3 << 20


def start_command(args: list[str], log: Path) -> ForkServerProcess:
    """The command as leader of a process group of its own, which `kill` ends with all that it has started."""
    process = _CONTEXT.Process(target=_command, args=(args, str(log)))
    process.start()
    return process


def kill(process: ForkServerProcess) -> None:
    """End a command and its processes without a chance to tidy up."""
    try:
        os.killpg(process.pid or 0, signal.SIGKILL)
    except ProcessLookupError:  # it has not come to lead its group
        process.kill()
    process.join()


def outcome(work: Callable[..., Any], *args: Any) -> tuple[str, Any]:
    """(value, what `work` gives), in a process of its own; (error, what a user is told); else how it went wrong."""
    receive, send = _CONTEXT.Pipe(duplex=False)
    process = _CONTEXT.Process(target=_work, args=(send, work, *args))
    process.start()
    send.close()
    received = []
    with contextlib.suppress(EOFError):
        if receive.poll(TIMEOUT_S + 5):
            received.append(receive.recv())
    process.join(5)
    if process.exitcode is None:
        process.kill()
        return "hangs", f"no end after {TIMEOUT_S + 10} s"
    if not received:
        return "died", f"exit code {process.exitcode}"
    kind, value, peak = received[0]
    return (kind, value) if peak < MEMORY_KIB else ("memory", f"{peak / 1024:.0f} MiB")


def _command(args: list[str], log: str) -> None:
    os.setsid()
    with Path(log).open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.argv = ["segstream", *args]
    main.run()


def _work(send: Any, work: Callable[..., Any], *args: Any) -> None:
    signal.alarm(TIMEOUT_S)
    try:
        kind, value = "value", work(*args)
    except DataError as error:
        kind, value = "error", plain(str(error))  # as it is printed
    except BaseException:
        kind, value = "unexpected", traceback.format_exc()
    send.send((kind, value, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
