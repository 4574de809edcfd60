"""What processes tell one another, in two of them over gloo."""

import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch.distributed import HashStore

from segstream.model import distributed as ranks_module
from segstream.model.distributed import Ranks
from segstream.shards.errors import DataError
from tests.model.processes import together


def _speak(ranks: Ranks, folder: str) -> None:
    rank = ranks.rank
    said = {
        "who": (ranks.rank, ranks.world_size, ranks.local_rank, ranks.is_main),
        "sum": ranks.sum_(torch.tensor([1.0 + rank, 10.0])).tolist(),
        "first": ranks.broadcast_(torch.tensor([rank + 5])).tolist(),
        "any": [ranks.any(rank == 1), ranks.any(False)],
        "told": ranks.from_main(lambda: {"step": 3, "weights": torch.arange(3)})["weights"].tolist(),
    }

    def fails() -> None:
        raise DataError("a.pt: damaged")

    try:
        ranks.from_main(fails)
    except DataError as error:
        said["failure"] = str(error)
    ranks.barrier()
    if rank == 1:
        os._exit(0)  # gone without a word, once its results are with the others
    try:
        for _ in range(2):
            ranks.barrier()
    except DataError as error:
        said["lost"] = str(error)
    torch.save(said, f"{folder}/{rank}.pt")
    os._exit(0)


def test_two_processes_agree(tmp_path):
    together(_speak, str(tmp_path))
    said = torch.load(tmp_path / "0.pt")
    assert said["who"] == (0, 2, 0, True)
    assert said["sum"] == [3.0, 20.0]
    assert said["first"] == [5]
    assert said["any"] == [True, False]
    assert said["told"] == [0, 1, 2]
    assert said["failure"] == "a.pt: damaged"
    assert said["lost"].startswith("another process of this run is gone or cannot be reached")


def test_what_the_dead_left_in_the_store_is_not_seen():
    store = HashStore()
    store.set("asks/1", "of a process that died before it was told")

    def come(rank: int) -> torch.distributed.Store:
        time.sleep(0.1 * (rank == 1))  # rank 0 sees the dead one's question first
        return ranks_module._unused(store, Ranks(rank=rank, world_size=3))

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
    monkeypatch.setattr(ranks_module, "MEET_S", 0.1)
    with pytest.raises(DataError, match=r"processes \[1, 2\] of 3 did not come"):
        ranks_module._unused(HashStore(), Ranks(world_size=3))


def test_alone_everything_is_the_identity(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    ranks = ranks_module.start()
    assert ranks == Ranks()
    assert ranks.is_main
    assert ranks.sum_(torch.tensor([2.0])).item() == 2.0
    assert ranks.any(True)
    assert not ranks.any(False)
    assert ranks.from_main(lambda: 7) == 7
    ranks_module.stop()


def test_half_an_environment_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(DataError, match="WORLD_SIZE is set but RANK is not usable"):
        ranks_module.start()
