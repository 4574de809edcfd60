"""The processes of a run and their devices: who they are, how they add up and how they agree.

    torchrun --nproc-per-node 2 -m -- segstream.cli.main train RECIPE

torchrun starts the processes and tells each its place by the environment; without it there is one, and everything here
costs nothing. CPU tensors travel by gloo, CUDA tensors by NCCL: flags and counts, which live on the CPU, never make a
GPU wait.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar
from uuid import uuid4

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import PrefixStore, Store  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous

from segstream.model.config import Device, Precision
from segstream.shards.errors import DataError

T = TypeVar("T")
MEET_S = 1800  # for all processes of a start to come, as long as torch gives them
POLL_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessGroup:
    """One process among those of a run. Every method but the properties is called by all of them, in the same order."""

    rank: int = 0
    """Of this process, from 0."""
    world_size: int = 1
    """How many there are."""
    local_rank: int = 0
    """Of this process on its machine; also the number of its GPU."""

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files and speaks to people."""
        return self.rank == 0

    def sum_(self, tensor: Tensor) -> Tensor:
        """Replace a dense tensor by its sum over all processes; every process gets the same bits. Returns it."""
        if self.world_size > 1:
            with _together():
                dist.all_reduce(tensor)
        return tensor

    def sum_later_(self, tensor: Tensor) -> Callable[[], None]:
        """Begin `sum_`; what comes back waits for it."""
        with _together():
            wait: Callable[[], None] = _together()(dist.all_reduce(tensor, async_op=True).wait)
        return wait

    def broadcast_(self, tensor: Tensor) -> Tensor:
        """Replace a dense tensor by that of rank 0. Returns it."""
        if self.world_size > 1:
            with _together():
                dist.broadcast(tensor, src=0)
        return tensor

    def any(self, flag: bool) -> bool:
        """Whether any process says yes."""
        return bool(self.sum_(torch.tensor(int(flag))) > 0)

    def barrier(self) -> None:
        """Wait until every process is here."""
        self.any(False)

    def from_main(self, make: Callable[[], T]) -> T:
        """What `make` gives on rank 0, on every process; a DataError that it raises there is raised everywhere."""
        if self.world_size == 1:
            return make()
        answer: T | DataError
        try:
            answer = make() if self.is_main else DataError("only rank 0 knows")
        except DataError as error:
            answer = error
        answers = [answer]
        with _together():
            dist.broadcast_object_list(answers, src=0, device=torch.device("cpu"))
        received = answers[0]
        if isinstance(received, DataError):
            raise received
        return received


def start() -> ProcessGroup:
    """Join the other processes that torchrun started, or be alone without it.

    Raises:
        DataError: the environment is incomplete or the others cannot be reached.
    """
    if "WORLD_SIZE" not in os.environ:
        return ProcessGroup()
    try:
        places = {"LOCAL_RANK": "0"} | os.environ
        group = ProcessGroup(**{name.lower(): int(places[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")})
    except (KeyError, ValueError) as error:
        raise DataError(f"WORLD_SIZE is set but RANK is not usable ({error}); use torchrun, or unset it") from error
    if group.world_size == 1:
        return group
    if torch.cuda.is_available():
        if group.local_rank >= torch.cuda.device_count():
            raise DataError(
                f"process {group.local_rank} of this machine has no GPU of its own, there are "
                f"{torch.cuda.device_count()}; start one process per GPU, or hide them (CUDA_VISIBLE_DEVICES=)"
            )
        torch.cuda.set_device(group.local_rank)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    with _together():
        store, rank, world_size = next(rendezvous("env://"))
        dist.init_process_group(backend, store=_unused(store, group), rank=rank, world_size=world_size)
    return group


def stop() -> None:
    """Leave the others, if there were any."""
    if dist.is_initialized():
        dist.destroy_process_group()


def _unused(store: Store, group: ProcessGroup) -> Store:
    """A part of the store that no process has written to, the same for all of this start.

    torchrun keeps its store when it starts dead workers again, and counts starts by machine. So the store still holds
    where the dead could be reached, and the living would look for one another there. Here rank 0 draws a name for this
    start and tells it to those who ask under a number that nobody had before.
    """
    if not group.is_main:
        mine = uuid4().hex
        store.set(f"asks/{group.rank}", mine)
        name = store.get(f"told/{mine}").decode()  # waits for it
        store.set(f"heard/{name}/{group.rank}", "")
        return PrefixStore(name, store)
    name, deadline = uuid4().hex, time.monotonic() + MEET_S
    missing = set(range(1, group.world_size))
    while missing := {rank for rank in missing if not store.check([f"heard/{name}/{rank}"])}:
        for rank in missing:
            if store.check([f"asks/{rank}"]):  # perhaps one who is dead: the living one is found later
                store.set(f"told/{store.get(f'asks/{rank}').decode()}", name)
        if time.monotonic() > deadline:
            raise DataError(f"processes {sorted(missing)} of {group.world_size} did not come; look at their machines")
        time.sleep(POLL_S)
    return PrefixStore(name, store)


@contextmanager
def _together() -> Iterator[None]:
    """A process that is gone shows as an error of the transport in all others."""
    try:
        yield
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"another process of this run is gone or cannot be reached ({reason}); its own message says why; "
            f"the same command goes on from the last checkpoint"
        ) from error


def pick_device(name: Device) -> torch.device:
    """The device that a configuration means.

    Raises:
        DataError: cuda is asked for and there is none.
    """
    cuda = torch.cuda.is_available()
    if name == "cuda" and not cuda:
        raise DataError("device: cuda is asked for, but torch sees no GPU; set device to auto or cpu")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and cuda) else "cpu")


def pick_precision(name: Precision, device: torch.device) -> Precision:
    """The precision that a configuration means on a device; there is no tf32 on a CPU, where it is fp32.

    Raises:
        DataError: fp16 on a CPU.
    """
    if device.type != "cuda":
        if name == "fp16":
            raise DataError("precision: fp16 needs a GPU; on a CPU use fp32, bf16 or auto")
        if name == "tf32":
            return "fp32"
    if name != "auto":
        return name
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = bool(torch.cpu.get_capabilities().get("amx_bf16", False))
    return "bf16" if native else "fp32"
