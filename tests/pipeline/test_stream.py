"""From files on disk through conversion to batches, in plain loops and under torch's DataLoader."""

import os
import pickle
import re
import shutil
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
import yaml
from torch.utils.data import DataLoader

from segstream.pipeline.config import AugmentConfig, DataConfig, LoaderConfig
from segstream.pipeline.loader import Batches, Loader
from segstream.shards.convert.convert import convert
from segstream.shards.errors import DataError
from tests.commands import ROOT
from tests.pipeline.fakes import textured

AS_STORED = AugmentConfig(short_side=None, crop=(40, 56), scale=(1.0, 1.0), rotate_p=0, blur_p=0, flip_p=0)
SMALL = AugmentConfig(short_side=16, crop=8)
SIX = LoaderConfig(batch=6, threads=2)
SPLIT = {"images": "images/*.png", "labels": "labels/*.png"}
CLASSES = [{"name": "ground", "universal": "terrain"}, {"name": "tree", "universal": "vegetation"}, {"name": "thing"}]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two own datasets of 23 and 9 samples, in shards of 4, under one root."""
    folder = tmp_path_factory.mktemp("stream")
    for seed, (name, count) in enumerate({"garden": 23, "park": 9}.items()):
        raw = folder / "raw" / name
        for i in range(count):
            image, label = textured(np.random.default_rng((seed, i)), (40, 56), 4)
            for part, array in (("images", image), ("labels", np.where(label == 3, 255, label).astype(np.uint8))):
                (raw / part).mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(raw / part / f"{i:03d}.png"), array[..., ::-1] if array.ndim == 3 else array)
        text = {"name": name, "root": str(raw), "splits": {"train": SPLIT}, "classes": CLASSES, "ignore": [255]}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(text))
        convert(str(folder / f"{name}.yaml"), split="train", out=str(folder / "shards"), shard_samples=4)
    return folder


def loader(root, mix, taxonomy="native", augment=AS_STORED, batch=4, **options):
    data = DataConfig(shards=str(root / "shards"), mix=mix, taxonomy=taxonomy, window=2)
    return Loader(data, augment, LoaderConfig(batch=batch, threads=2), seed=1, **options)


def test_an_epoch_of_a_converted_dataset_is_every_sample_once_with_its_own_label(root):
    with loader(root, {"garden": 1}, batch=1) as stream:
        batches = list(stream.batches(0, 46))
        assert stream.taxonomy.classes == ("ground", "tree", "thing")
    first, second = [batch.keys for batch in batches[:23]], [batch.keys for batch in batches[23:]]
    assert len(set(first)) == 23
    assert set(first) == set(second)
    assert first != second
    for batch in batches:
        stem = batch.keys[0].rsplit("/", 1)[-1]
        raw = root / "raw" / "garden"
        label = cv2.imread(str(raw / "labels" / f"{stem}.png"), cv2.IMREAD_UNCHANGED)
        image = cv2.imread(str(raw / "images" / f"{stem}.png"), cv2.IMREAD_COLOR_RGB)
        assert (batch.labels[0].numpy() == label).all()
        assert np.abs(batch.images[0].numpy().transpose(1, 2, 0) - image.astype(float)).mean() < 4  # JPEG


def test_damage_after_opening_is_an_error_naming_the_sample(root, tmp_path):
    tar = shutil.copytree(root / "shards/park/train", tmp_path / "shards/park/train") / "shard-000000.tar"
    data = bytearray(tar.read_bytes())
    for at in range(600, len(data), 512):
        data[at] ^= 1
    tar.write_bytes(data)
    with loader(tmp_path, {"park": 1}, batch=9) as stream, pytest.raises(DataError, match=rf"{tar.name}: .*checksum"):
        next(stream.batches(0, 1))


def content(batch):
    return batch.step, batch.keys, batch.dataset_ids.tolist(), batch.images.tolist(), batch.labels.tolist()


@pytest.fixture(scope="module")
def data(root):
    return DataConfig(shards=str(root / "shards"), mix={"garden": 1}, taxonomy="native", window=2)


def expected(data, start, stop, **options):
    with Loader(data, SMALL, SIX, seed=4, **options) as loader:
        return [content(batch) for batch in loader.batches(start, stop)]


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_a_dataloader_gives_the_batches_of_the_loader_in_their_order(data, workers):
    dataset = Batches(data=data, augment=SMALL, loader=SIX, seed=4, start=2, stop=22)
    # Spawned: by now this process has threads of other tests, whose locks a forked worker may find taken.
    under = DataLoader(
        dataset, batch_size=None, num_workers=workers, multiprocessing_context="spawn" if workers else None
    )
    assert len(under) == 20
    kept = list(under)  # all at once: none may be written over
    assert [content(batch) for batch in kept] == expected(data, 2, 22)


def test_again_is_the_same_and_ranks_share_and_steps_may_be_left_out(data):
    with Loader(data, SMALL, SIX, seed=4) as loader:
        assert [batch.step for batch in loader.batches(3, 10, every=3)] == [3, 6, 9]
        assert list(loader.batches(3, 3, every=3)) == []
    dataset = Batches(data=data, augment=SMALL, loader=SIX, seed=4, stop=3, rank=1, world_size=2)
    first = [content(batch) for batch in DataLoader(dataset, batch_size=None)]
    assert first == expected(data, 0, 3, rank=1, world_size=2)
    assert [content(batch) for batch in pickle.loads(pickle.dumps(dataset))] == first


@pytest.mark.parametrize("kind", ["torchrun", "process group"])
def test_processes_share_by_themselves(data, monkeypatch, kind):
    """Nobody says which process this is; a worker that is spawned would not know."""
    if kind == "torchrun":
        monkeypatch.setenv("RANK", "1")
        monkeypatch.setenv("WORLD_SIZE", "2")
    else:
        for name, value in {"is_initialized": True, "get_rank": 1, "get_world_size": 2}.items():
            monkeypatch.setattr(torch.distributed, name, lambda value=value: value)
    dataset = Batches(data=data, augment=SMALL, loader=SIX, seed=4, stop=3)
    share = expected(data, 0, 3)
    monkeypatch.undo()
    assert share == expected(data, 0, 3, rank=1, world_size=2) != expected(data, 0, 3)
    assert [content(batch) for batch in pickle.loads(pickle.dumps(dataset))] == share


def test_a_rank_is_one_of_the_processes(data):
    with pytest.raises(DataError, match="rank 2 of 2 processes; ranks are counted from 0"):
        Loader(data, SMALL, SIX, seed=4, rank=2, world_size=2)


def test_a_loader_from_before_a_fork_says_so(data):
    with Loader(data, SMALL, SIX, seed=4) as loader:
        first = next(loader.batches(0, 1))
        child = os.fork()
        if not child:
            try:
                next(loader.batches(0, 1))
            except RuntimeError as error:
                loader.close()
                os._exit(7 if "before this process was forked" in str(error) else 8)
            os._exit(9)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert content(next(loader.batches(0, 1))) == content(first)


def test_another_set_in_a_place_is_refused(root, tmp_path):
    shutil.copytree(root / "shards" / "garden", tmp_path / "garden")
    shutil.move(tmp_path / "garden" / "train", tmp_path / "garden" / "val")
    shutil.copytree(root / "shards" / "garden", tmp_path / "park")
    for name, split in (("garden", "val"), ("park", "train")):
        wrong = DataConfig(shards=str(tmp_path), mix={name: 1}, split=split, taxonomy="native")
        with pytest.raises(
            DataError, match=rf"data.mix.{name}: the set at .* is of garden train, .* not of {name} {split}"
        ):
            Loader(wrong, SMALL, SIX, seed=4)


def test_leaving_a_dataset_early_lets_go(data):
    before = set(threading.enumerate())
    stream = iter(Batches(data=data, augment=SMALL, loader=SIX, seed=4, stop=1000))
    next(stream)
    del stream
    assert set(threading.enumerate()) <= before


def test_many_loaders_leave_no_handle_and_no_thread(data):
    def handles():
        folder = Path("/proc/self/fd")
        return len(list(folder.iterdir())) if folder.is_dir() else 0

    small = LoaderConfig(batch=2, threads=2, prefetch=1)
    with Loader(data, SMALL, small, seed=0) as loader:  # what a first one opens for good
        next(loader.batches(0, 1))
    before, threads = handles(), set(threading.enumerate())
    for i in range(200):
        with Loader(data, SMALL, small, seed=0) as loader:
            if i % 3:
                next(loader.batches(i, i + 10))  # left with the next batches under way
    assert handles() <= before
    assert set(threading.enumerate()) <= threads


LOOP = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may have it ignored
from segstream.pipeline.config import AugmentConfig, DataConfig, LoaderConfig
from segstream.pipeline.loader import Loader
data = DataConfig(shards=sys.argv[1], mix={"garden": 1}, taxonomy="native")
with Loader(data, AugmentConfig(short_side=16, crop=8), LoaderConfig(batch=4, prefetch=20), seed=0) as loader:
    for batch in loader.batches(0, 10**9):
        if batch.step == 5:
            print("going", flush=True)
"""


def test_ctrl_c_ends_a_loop_at_once(data):
    command, pipe = [sys.executable, "-c", LOOP, data.shards], subprocess.PIPE
    program = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)
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
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/order.md").read_text(), re.MULTILINE | re.DOTALL)
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
