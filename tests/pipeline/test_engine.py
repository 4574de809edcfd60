"""The loader with DALI: the same stream as with OpenCV, and which of the two is taken."""

import threading

import numpy as np
import pytest
import torch

from segstream.pipeline import AugmentConfig, DataConfig, Loader, LoaderConfig, samples
from segstream.pipeline import engine as dali
from segstream.pipeline.engine import choose
from segstream.shards.errors import DataError
from segstream.shards.taxonomy import load_taxonomy
from tests.pipeline.fakes import FakeShards, opener

RULE = AugmentConfig(short_side=40, crop=(24, 32))
MIX = {"ade20k-150": 2, "sunrgbd-37": 1}


@pytest.fixture
def sets(monkeypatch):
    found = {name: FakeShards(name, load_taxonomy(name), (4, 3, 5)) for name in MIX}
    monkeypatch.setattr(samples, "open_shards", opener(*found.values()))
    return found


def load(engine):
    data = DataConfig(shards="fake://sets", mix=MIX, taxonomy="universal")
    return Loader(data, RULE, LoaderConfig(batch=6, threads=2, engine=engine), seed=7)


def test_dali_makes_the_batches_of_opencv(sets):
    pytest.importorskip("nvidia.dali", reason="nvidia-dali is not installed")
    threads = set(threading.enumerate())
    with load("opencv") as one, load("dali") as other:
        assert other.fingerprint == one.fingerprint | {"engine": "dali"}  # a run may not go on under the other
        for ours, theirs in zip(other.batches(3, 7), one.batches(3, 7), strict=True):
            assert (ours.step, ours.keys) == (theirs.step, theirs.keys)
            assert torch.equal(ours.labels, theirs.labels)
            assert torch.equal(ours.dataset_ids, theirs.dataset_ids)
            assert ours.images.shape == theirs.images.shape
            assert np.abs(ours.images.cpu().numpy().astype(int) - theirs.images.numpy()).mean() < 1
    assert set(threading.enumerate()) <= threads


def test_failures_with_dali_name_the_sample_and_the_loader_lives_on(sets):
    pytest.importorskip("nvidia.dali", reason="nvidia-dali is not installed")
    with load("dali") as loader:
        keys = next(loader.batches(0, 1)).keys
        name, index = keys[0].rsplit("/", 1)
        sets[name].replaced = {(int(index), "image"): b"no image"}
        with pytest.raises(DataError, match=rf"step 0 \({keys[0]}, .*DALI cannot make the images"):
            next(loader.batches(0, 1))
        sets[name].replaced = {(int(index), "universal"): b"no label"}
        with pytest.raises(DataError, match=rf"{keys[0]} \(step 0, slot 0\): the label holds nothing readable"):
            next(loader.batches(0, 1))
        sets[name].replaced = {}
        assert next(loader.batches(0, 1)).keys == keys


@pytest.mark.parametrize(
    ("engine", "cuda", "installed", "expected"),
    [
        ("auto", False, True, (False, None, "opencv: no CUDA device")),
        ("auto", True, False, (False, None, "opencv: DALI is not installed")),
        ("auto", True, True, (True, 1, "dali: CUDA device 1, and DALI is installed")),
        ("opencv", True, True, (False, None, "opencv, as the recipe says")),
        ("dali", False, True, (True, None, "dali, as the recipe says, on the processor")),
        ("dali", True, True, (True, 1, "dali, as the recipe says, on CUDA device 1")),
    ],
)
def test_the_engine_and_why(engine, cuda, installed, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(dali.importlib.util, "find_spec", lambda name: object() if installed else None)
    chosen = choose(engine)
    assert (chosen.dali, chosen.device_id) == expected[:2]
    assert expected[2] in chosen.why


def test_the_loader_says_which(sets):
    with load("opencv") as loader:
        assert loader.engine_note == "engine opencv, as the recipe says"


def test_an_unknown_engine_is_refused():
    with pytest.raises(DataError, match=r"loader\.engine: 'cuda'; write one of auto, dali, opencv"):
        LoaderConfig(batch=1, engine="cuda")
