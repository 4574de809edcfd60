"""Validation scores: those of `eval`, whatever the number of processes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from segstream.evaluation import EvalModel, open_validation, spread
from segstream.model.distributed import ProcessGroup
from segstream.shards.errors import DataError
from tests.cli.conftest import Command


class Part(ProcessGroup):
    """One of several processes; what `sum_` would add up is kept instead."""

    def sum_(self, tensor: torch.Tensor) -> torch.Tensor:
        KEPT.append(tensor.clone())
        return tensor


KEPT: list[torch.Tensor] = []


def test_samples_are_spread_over_the_set() -> None:
    assert list(spread(5, None)) == list(spread(5, 9)) == [0, 1, 2, 3, 4]
    assert list(spread(100, 4)) == [0, 25, 50, 75]
    for size in range(1, 40):
        for limit in range(1, 45):
            chosen = list(spread(size, limit))
            assert len(set(chosen)) == len(chosen) == min(size, limit)
            assert chosen == sorted(chosen)
            assert chosen[-1] < size


def test_scores_are_those_of_eval_and_parts_add_up_to_the_whole(segstream: Command, place: Path) -> None:
    model = EvalModel.load(place / "runs/recipe/final.pt")
    urls = (str(place / "shards/camvid-11/val"), str(place / "shards/ade20k-150/val"))
    with open_validation(urls, None, model, ProcessGroup()) as whole:
        scores = whole(model.net)
    done = segstream("eval", place / "runs/recipe/final.pt", "--data", urls[0], "--data", urls[1], "--json")
    for row in json.loads(done.out):
        assert scores[row["dataset"]].miou == pytest.approx(row["miou"], rel=1e-12)
        assert scores[row["dataset"]].images == row["images"]
    for world_size in (2, 3):  # of three processes, one has no image of two
        KEPT.clear()
        for rank in range(world_size):
            with open_validation(urls, None, model, Part(rank=rank, world_size=world_size)) as part:
                part(model.net)
        summed = torch.stack(KEPT[::2]).sum(dim=0)
        np.testing.assert_array_equal(summed.numpy(), scores["camvid-11"].confusion)


def test_a_limit_leaves_images_out(place: Path) -> None:
    model = EvalModel.load(place / "runs/recipe/final.pt")
    with open_validation([str(place / "shards/camvid-11/val")], 1, model, ProcessGroup()) as validation:
        assert validation(model.net)["camvid-11"].images == 1


def test_a_set_that_cannot_be_used_is_told_before_training(place: Path, tmp_path: Path) -> None:
    model = EvalModel.load(place / "runs/recipe/final.pt")
    train = str(place / "shards/ade20k-150/train")
    for url, message in ((str(tmp_path / "none"), "no such folder"), (train, "a training split")):
        with pytest.raises(DataError, match=message), open_validation([url], None, model, ProcessGroup()):
            pass
    val = str(place / "shards/camvid-11/val")
    urls = (val, f"{val}/", f"{val}/.")
    named_twice = r"validate\.data: .*camvid-11-val is named twice"
    with pytest.raises(DataError, match=named_twice), open_validation(urls, None, model, ProcessGroup()):
        pass
