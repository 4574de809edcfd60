"""Several processes on one machine, joined as torchrun joins them."""

from __future__ import annotations

import multiprocessing
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.multiprocessing as mp

from segstream.model.distributed import ProcessGroup, start, stop


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def environment(rank: int, world_size: int, port: int) -> dict[str, str]:
    """What torchrun tells a process."""
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world_size, "MASTER_PORT": port}
    return {"MASTER_ADDR": "127.0.0.1"} | {name: str(number) for name, number in numbers.items()}


def together(work: Callable[..., Any], *arguments: Any, world_size: int = 2) -> None:
    """Call `work(group, *arguments)` in as many new processes, forked off one that has torch imported."""
    multiprocessing.set_forkserver_preload(["tests.model.toy"])
    mp.start_processes(_one, (world_size, free_port(), work, arguments), nprocs=world_size, start_method="forkserver")


def _one(rank: int, world_size: int, port: int, work: Callable[..., Any], arguments: Sequence[Any]) -> None:
    torch.set_num_threads(1)
    os.environ |= environment(rank, world_size, port)
    group: ProcessGroup = start()
    work(group, *arguments)
    stop()


def start_toys(arguments: Sequence[str], *, world_size: int = 2) -> list[subprocess.Popen[bytes]]:
    """Processes of `tests.model.toy` as a launcher without an eye on them would start them."""
    port = free_port()
    command = [sys.executable, "-m", "tests.model.toy", *arguments]
    told = [os.environ | environment(rank, world_size, port) for rank in range(world_size)]
    return [subprocess.Popen(command, env=each, stderr=subprocess.DEVNULL) for each in told]


def start_torchrun(
    arguments: Sequence[str], *, restarts: int, nodes: str = "1", per_node: int = 2, port: int | None = None
) -> subprocess.Popen[bytes]:
    """torchrun with `tests.model.toy`, which it starts again when a process dies; one per machine."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", nodes, "--nproc-per-node", str(per_node)]
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port or free_port()}"]
    command += ["--rdzv-conf", "last_call_timeout=2", "--local-addr", "127.0.0.1", "--monitor-interval", "0.1"]
    command += ["--max-restarts", str(restarts), "-m", "tests.model.toy", *arguments]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)
