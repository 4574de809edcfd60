"""A command in several processes of this machine, started and watched by torch elastic, as `torchrun` does it."""

import logging
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence

from segstream.cli.jobs.scripts import OWN_RUN

POLL_S = 0.1


def run_processes(args: Sequence[str], count: int) -> int:
    """Run `segstream ARGS` in `count` processes that know of one another (see `model.distributed`).

    When one fails, the others are ended. They call `end_with_launcher`, so that none is left when this process is
    killed.

    Returns:
        0, or the exit code of the process that failed first; of one that a signal ended 128 and its number, as a shell
        says it.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for name in [name for name in logging.root.manager.loggerDict if name.startswith("torch.distributed.elastic")]:
        logging.getLogger(name).setLevel(logging.CRITICAL)  # the process that failed says why; each has its own level
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    with tempfile.TemporaryDirectory(prefix="segstream-") as folder:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=count,
            run_id=OWN_RUN,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            max_restarts=0,
            monitor_interval=POLL_S,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )
        try:
            elastic_launch(config, sys.executable)("-m", "segstream.cli.main", *args)
        except ChildFailedError as error:
            code = error.get_first_failure()[1].exitcode
            return code if code > 0 else 128 - code
        except SignalException as error:
            if error.sigval == signal.SIGINT:
                raise KeyboardInterrupt from error
            return 128 + error.sigval
    return 0


def end_with_launcher() -> None:
    """Let this process end when the one that started it under torch elastic does, be it by SIGKILL; else do nothing."""
    if os.environ.get("TORCHELASTIC_RUN_ID") == OWN_RUN:  # at once, in whatever it waits for the others
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    if "TORCHELASTIC_RUN_ID" in os.environ:
        threading.Thread(target=_watch, args=(os.getppid(),), name="launcher", daemon=True).start()


def _watch(launcher: int) -> None:
    while os.getppid() == launcher:
        time.sleep(POLL_S)
    os._exit(1)  # from a thread there is no gentler way; what is done is noted
