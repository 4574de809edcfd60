"""What processes tell one another, in two of them over gloo."""

import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch.distributed import HashStore

from segstream.model import distributed
from segstream.model.distributed import ProcessGroup
from segstream.shards.errors import DataError
from tests.model.processes import together


def _speak(group, folder):
    rank = group.rank
    said = {
        "who": (group.rank, group.world_size, group.local_rank, group.is_main),
        "sum": group.sum_(torch.tensor([1.0 + rank, 10.0])).tolist(),
        "first": group.broadcast_(torch.tensor([rank + 5])).tolist(),
        "any": [group.any(rank == 1), group.any(False)],
        "told": group.from_main(lambda: {"step": 3, "weights": torch.arange(3)})["weights"].tolist(),
    }

    def fails():
        raise DataError("a.pt: damaged")

    try:
        group.from_main(fails)
    except DataError as error:
        said["failure"] = str(error)
    group.barrier()
    if rank == 1:
        os._exit(0)  # gone without a word, once its results are with the others
    try:
        for _ in range(2):
            group.barrier()
    except DataError as error:
        said["lost"] = str(error)
    torch.save(said, f"{folder}/{rank}.pt")
    os._exit(0)


def test_two_processes_agree(tmp_path):
    together(_speak, str(tmp_path))
    said = torch.load(tmp_path / "0.pt")
    assert said.pop("lost").startswith("another process of this run is gone or cannot be reached")
    assert said == {
        **{"who": (0, 2, 0, True), "sum": [3.0, 20.0], "first": [5], "any": [True, False], "told": [0, 1, 2]},
        "failure": "a.pt: damaged",
    }


def test_what_the_dead_left_in_the_store_is_not_seen():
    store = HashStore()
    store.set("asks/1", "of a process that died before it was told")

    def come(rank):
        time.sleep(0.1 * (rank == 1))  # rank 0 sees the dead one's question first
        return distributed._unused(store, ProcessGroup(rank=rank, world_size=3))

    names = []
    with ThreadPoolExecutor(3) as threads:
        for start in range(3):
            ours = list(threads.map(come, range(3)))
            assert not ours[0].check(["address"])
            ours[start].set("address", str(start))
            assert [seen.get("address") for seen in ours] == [str(start).encode()] * 3
            names.append(ours)
    assert names[0][0].get("address") == b"0"


def test_a_process_that_never_comes_is_named(monkeypatch):
    monkeypatch.setattr(distributed, "MEET_S", 0.1)
    with pytest.raises(DataError, match=r"processes \[1, 2\] of 3 did not come"):
        distributed._unused(HashStore(), ProcessGroup(world_size=3))


def test_alone_everything_is_the_identity(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    group = distributed.start()
    assert (group, group.is_main) == (ProcessGroup(), True)
    assert (group.sum_(torch.tensor([2.0])).item(), group.any(True), group.any(False)) == (2.0, True, False)
    assert group.from_main(lambda: 7) == 7
    distributed.stop()


def test_half_an_environment_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(DataError, match="WORLD_SIZE is set but RANK is not usable"):
        distributed.start()
