"""The stream under torch's DataLoader, and how a loader ends."""

import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from segstream.pipeline import AugmentConfig, Batches, DataConfig, Loader, LoaderConfig
from segstream.shards.convert.convert import ConvertRequest, convert
from segstream.shards.errors import DataError
from tests.pipeline.fakes import textured

ROOT = Path(__file__).parents[2]
RULE = AugmentConfig(short_side=16, crop=8)
LOADER = LoaderConfig(batch=6, threads=2)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A dataset of 20 small images, in shards of 4."""
    folder = tmp_path_factory.mktemp("dataset")
    for part in ("images", "labels"):
        (folder / "raw" / part).mkdir(parents=True)
    for i in range(20):
        image, label = textured(np.random.default_rng(i), (16, 20), 3)
        cv2.imwrite(str(folder / "raw" / "images" / f"{i:02d}.png"), image)
        cv2.imwrite(str(folder / "raw" / "labels" / f"{i:02d}.png"), label)
    description = folder / "yard.yaml"
    description.write_text(
        f"name: yard\nroot: {folder / 'raw'}\n"
        "splits: {train: {images: images/*.png, labels: labels/*.png}}\n"
        "classes: [{name: ground}, {name: tree}, {name: thing}]\n"
    )
    convert(ConvertRequest(dataset=str(description), split="train", out=str(folder / "shards"), shard_samples=4))
    return DataConfig(shards=str(folder / "shards"), mix={"yard": 1}, taxonomy="native", window=2)


def content(batch):
    return batch.step, batch.keys, batch.dataset_ids.tolist(), batch.images.tolist(), batch.labels.tolist()


def expected(data, start, stop, **options):
    with Loader(data, RULE, LOADER, seed=4, **options) as loader:
        return [content(batch) for batch in loader.batches(start, stop)]


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [0, 1, 2, 3])
def test_a_dataloader_gives_the_batches_of_the_loader_in_their_order(data, workers):
    dataset = Batches(data=data, augment=RULE, loader=LOADER, seed=4, start=2, stop=22)
    under = DataLoader(dataset, batch_size=None, num_workers=workers)
    assert len(under) == 20
    kept = list(under)  # all at once: none may be written over
    assert [content(batch) for batch in kept] == expected(data, 2, 22)


def test_again_is_the_same_and_ranks_share(data):
    dataset = Batches(data=data, augment=RULE, loader=LOADER, seed=4, stop=3, rank=1, world_size=2)
    first = [content(batch) for batch in DataLoader(dataset, batch_size=None)]
    assert first == expected(data, 0, 3, rank=1, world_size=2)
    assert [content(batch) for batch in pickle.loads(pickle.dumps(dataset))] == first


def test_errors_arrive_through_a_dataloader(tmp_path):
    nowhere = DataConfig(shards=str(tmp_path), mix={"yard": 1}, taxonomy="native")
    dataset = Batches(data=nowhere, augment=RULE, loader=LOADER, seed=4, stop=3)
    with pytest.raises(DataError, match="no shards at"):
        next(iter(DataLoader(dataset, batch_size=None)))


def test_leaving_a_dataset_early_lets_go(data):
    before = set(threading.enumerate())
    stream = iter(Batches(data=data, augment=RULE, loader=LOADER, seed=4, stop=1000))
    next(stream)
    del stream
    assert set(threading.enumerate()) <= before


def test_every_second_step(data):
    with Loader(data, RULE, LOADER, seed=4) as loader:
        assert [batch.step for batch in loader.batches(3, 10, every=3)] == [3, 6, 9]
        assert list(loader.batches(3, 3, every=3)) == []


def test_a_thousand_loaders_leave_no_handle_and_no_thread(data):
    def handles():
        folder = Path("/proc/self/fd")
        return len(list(folder.iterdir())) if folder.is_dir() else 0

    small = LoaderConfig(batch=2, threads=2, prefetch=1)
    with Loader(data, RULE, small, seed=0) as loader:  # what a first one opens for good
        next(loader.batches(0, 1))
    before, threads = handles(), set(threading.enumerate())
    for i in range(1000):
        with Loader(data, RULE, small, seed=0) as loader:
            if i % 3:
                next(loader.batches(i, i + 10))  # left with the next batches under way
    assert handles() <= before
    assert set(threading.enumerate()) <= threads


def test_an_exception_in_the_loop_ends_the_threads(data):
    before = set(threading.enumerate())

    def loop():
        with Loader(data, RULE, LOADER, seed=0) as loader:
            for batch in loader.batches(0, 100):
                _ = 1 // (1 - batch.step)

    with pytest.raises(ZeroDivisionError):
        loop()
    assert set(threading.enumerate()) <= before


LOOP = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may have it ignored
from segstream.pipeline import AugmentConfig, DataConfig, Loader, LoaderConfig
data = DataConfig(shards=sys.argv[1], mix={"yard": 1}, taxonomy="native")
with Loader(data, AugmentConfig(short_side=16, crop=8), LoaderConfig(batch=4, prefetch=20), seed=0) as loader:
    for batch in loader.batches(0, 10**9):
        if batch.step == 5:
            print("going", flush=True)
"""


def test_ctrl_c_ends_a_loop_at_once(data):
    program = subprocess.Popen(
        [sys.executable, "-c", LOOP, data.shards], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert program.stdout.readline() == "going\n"
        program.send_signal(signal.SIGINT)
        began = time.monotonic()
        _, err = program.communicate(timeout=60)
    finally:
        program.kill()
    assert time.monotonic() - began < 20
    assert program.returncode == -signal.SIGINT
    assert err.rstrip().endswith("KeyboardInterrupt")


@pytest.mark.parametrize("marker", ["with Loader(", "DataLoader("])
def test_the_documented_loops_run(data, marker):
    """As printed but for the data, and stopped after a few steps."""
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "order.md").read_text(), re.MULTILINE | re.DOTALL)
    (code,) = [block for block in blocks if marker in block]
    assert len(code.strip().splitlines()) <= 10
    code = re.sub(r"DataConfig\(.*?\}\)", "data", code)
    for old, new in (("100_000", "2"), ("short_side=480, crop=473", "short_side=16, crop=8")):
        assert old in code
        code = code.replace(old, new)
    net = torch.nn.Conv2d(3, 3, 1)
    names = {"data": data, "net": net, "optimizer": torch.optim.SGD(net.parameters(), 0.1), "device": "cpu"}
    names["criterion"] = torch.nn.CrossEntropyLoss(ignore_index=255)
    before = [p.detach().clone() for p in net.parameters()]
    exec(code, names)
    assert any(not torch.equal(one, p) for one, p in zip(before, net.parameters(), strict=True))
