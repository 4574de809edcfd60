import importlib.util
import json
import re
import threading
import time
from dataclasses import replace
from itertools import islice

import cv2
import numpy as np
import pytest
import torch

from segstream.pipeline import samples
from segstream.pipeline.config import AugmentConfig, DataConfig, LoaderConfig
from segstream.pipeline.geometry import draw
from segstream.pipeline.loader import Loader, choose_engine
from segstream.pipeline.order import Order
from segstream.shards.errors import DataError
from segstream.shards.taxonomy import load_taxonomy
from tests.pipeline.fakes import FakeShards, augment, opener, own_taxonomy, png

RULE = AugmentConfig(short_side=40, crop=(24, 32))
NAMES = ("ade20k-150", "sunrgbd-37", "cityscapes-19")
MIX = dict(zip(NAMES, (2, 1, 1), strict=True))


@pytest.fixture
def sets(monkeypatch):
    found = {name: FakeShards(name, load_taxonomy(name), (4, 3, 5)) for name in NAMES}
    found["toy"] = FakeShards("toy", own_taxonomy(), (6,))
    monkeypatch.setattr(samples, "open_shards", opener(*found.values()))
    return found


def load(mix=MIX, *, seed=7, taxonomy="universal", rule=RULE, rank=0, world_size=1, **loader):
    data = DataConfig(shards="fake://sets", mix=mix, taxonomy=taxonomy)
    config = LoaderConfig(**{"batch": 6, "threads": 2, "prefetch": 2, "engine": "opencv"} | loader)
    return Loader(data, rule, config, seed=seed, rank=rank, world_size=world_size)


def load_toy(**loader):
    return load({"toy": 1}, taxonomy="native", **loader)


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def content(batch):
    return batch.step, batch.keys, batch.dataset_ids.tolist(), batch.images.numpy().tobytes(), batch.labels.tolist()


def contents(start, stop, **options):
    with load(**options) as loader:
        return [content(batch) for batch in loader.batches(start, stop)]


def test_a_batch_is_what_order_draw_and_augment_say(sets):
    """Put one step together by hand from the pure functions."""
    with load() as loader:
        (batch,) = loader.batches(11, 12)
        assert (loader.datasets, loader.weights) == (NAMES, (0.5, 0.25, 0.25))
        assert loader.taxonomy == load_taxonomy("universal")
    order = Order(dict.fromkeys(NAMES, (4, 3, 5)), {n: samples.shares(MIX)[n] for n in NAMES}, seed=7, batch=6)
    assert (batch.step, batch.images.shape) == (11, (6, 3, 24, 32))
    assert (batch.images.dtype, batch.labels.dtype, batch.dataset_ids.dtype) == (torch.uint8, torch.uint8, torch.int64)
    for slot in range(6):
        pick = order.at(11, slot)
        shards = sets[pick.dataset]
        image, _ = shards.sample(pick.index)
        label = cv2.imdecode(np.frombuffer(shards.read(pick.index, "universal"), np.uint8), cv2.IMREAD_UNCHANGED)
        crop, label = augment(image, label, draw(RULE, seed=7, step=11, slot=slot, size_hw=(40, 56)))
        assert batch.keys[slot] == shards.entry(pick.index).key
        assert batch.dataset_ids[slot] == NAMES.index(pick.dataset)
        assert (batch.images[slot].numpy() == crop.transpose(2, 0, 1)).all()
        assert (batch.labels[slot].numpy() == label).all()


def test_threads_and_prefetch_change_nothing(sets):
    expected = contents(0, 12, threads=1, prefetch=1)
    assert [step for step, *_ in expected] == list(range(12))
    assert contents(0, 12, threads=4, prefetch=1) == expected
    assert contents(0, 12, threads=4, prefetch=8) == expected


@pytest.mark.parametrize(("world_size", "batch"), [(2, 24), (8, 24), (3, 7), (7, 7)])
def test_ranks_together_see_the_batches_of_one(sets, world_size, batch):
    with load(batch=batch) as loader:
        whole = list(loader.batches(3, 6))
    for rank in range(world_size):
        with load(batch=batch, rank=rank, world_size=world_size) as loader:
            part = list(loader.batches(3, 6))
        for one, share in zip(whole, part, strict=True):
            assert share.step == one.step
            assert share.keys == one.keys[rank::world_size]
            assert torch.equal(share.images, one.images[rank::world_size])
            assert torch.equal(share.labels, one.labels[rank::world_size])
            assert torch.equal(share.dataset_ids, one.dataset_ids[rank::world_size])


def test_a_run_goes_on_from_any_step_as_if_never_stopped(sets):
    whole = contents(0, 10)
    assert contents(0, 4) + contents(4, 10) == whole
    with load() as loader:  # the same loader asked again, out of order
        assert [content(b) for b in loader.batches(8, 10)] == whole[8:]
        assert [content(b) for b in loader.batches(0, 2)] == whole[:2]
        assert list(loader.batches(5, 5)) == []


def test_what_is_kept_of_batches_is_never_written_over(sets):
    """Memory is used again, but not while anything holds a part of it; and it is used again."""
    expected = contents(0, 60)
    with load(prefetch=1) as loader:
        stream = loader.batches(0, 60)
        kept = [next(stream) for _ in range(20)]
        parts = [(batch.step, batch.images.numpy()[2], batch.labels[1:3, 4:]) for batch in islice(stream, 20)]
        places = {batch.images.data_ptr() for batch in stream}
    assert [content(batch) for batch in kept] == expected[:20]
    for step, image, labels in parts:
        whole = np.frombuffer(expected[step][3], np.uint8).reshape(6, 3, 24, 32)
        assert (image == whole[2]).all()
        assert labels.tolist() == np.array(expected[step][4])[1:3, 4:].tolist()
    assert len(places) <= 6


def test_naive_labels_above_a_byte_arrive(sets):
    with load({"sunrgbd-37": 1}, taxonomy="naive") as loader:
        batch = next(loader.batches(0, 1))
        naive = loader.taxonomy
    assert batch.labels.dtype == torch.int16
    assert batch.labels.max() > 255
    native = {name.lower() for name in load_taxonomy("sunrgbd-37").classes}
    assert {naive.classes[i] for i in batch.labels.unique().tolist() if i != 255} <= native


LATER = ({"short_side": None, "long_side": 60}, {"color_jitter": 0.25}, {"blur_sigma": (0.15, 1.3)}, {"fill": "black"})


def test_the_fingerprint_is_json_and_differs_with_all_that_matters(sets):
    def fingerprint(**options):
        with load(**options) as loader:
            return loader.fingerprint

    base = fingerprint()
    assert json.loads(json.dumps(base)) == base
    first = {"short_side", "crop", "scale", "rotate_deg", "rotate_p", "blur_p", "flip_p"}
    assert base["augment"].keys() == first  # what came later counts where it is used: older runs go on
    assert fingerprint(threads=4, prefetch=5, rank=1, world_size=2) == base
    others = [
        fingerprint(seed=8),
        fingerprint(batch=12),
        fingerprint(taxonomy="naive"),
        fingerprint(mix=dict(reversed(MIX.items()))),
        fingerprint(mix=MIX | {NAMES[0]: 1}),
        fingerprint(rule=replace(RULE, flip_p=0.4)),
        fingerprint(rule=replace(RULE, crop=24)),
        *(fingerprint(rule=replace(RULE, **later)) for later in LATER),
    ]
    sets[NAMES[0]].manifest = replace(sets[NAMES[0]].manifest, digest="other content")
    others.append(fingerprint())
    assert len({json.dumps(f) for f in [base, *others]}) == 9 + len(LATER)
    assert fingerprint(mix={NAMES[0]: 1.0, NAMES[1]: "1/2", NAMES[2]: 0.5}) == fingerprint()

    for name in NAMES:  # other labels, though their classes are the same
        manifest = sets[name].manifest
        changed = {"counts": manifest.counts | {"universal-relabeled": {0: (1, 1)}}, "digest": manifest.digest}
        sets[name].manifest = replace(manifest, members=(*manifest.members, "universal-relabeled"), **changed)
    with load(taxonomy="universal") as plain, load(taxonomy="universal-relabeled") as relabelled:
        assert plain.taxonomy == relabelled.taxonomy
        assert plain.fingerprint != relabelled.fingerprint


def test_a_failing_read_surfaces_in_place_of_its_batch(sets):
    expected = contents(0, 5, batch=4)
    with load(batch=4) as loader:
        keys = next(loader.batches(5, 6)).keys
    broken = next(key for key in keys if all(key not in before for _, before, *_ in expected))
    name, index = broken.rsplit("/", 1)

    def break_at(i, member):
        if i == int(index):
            raise DataError(f"{broken} fails its checksum")

    sets[name].break_at = break_at
    got = []
    began = time.monotonic()
    with load(batch=4, threads=4, prefetch=8) as loader:
        batches = loader.batches(0, 100)
        got += [content(batch) for batch in islice(batches, 5)]
        with pytest.raises(DataError, match=f"{broken} fails its checksum"):
            next(batches)
        with pytest.raises(StopIteration):
            next(batches)
        assert next(loader.batches(0, 1)).step == 0  # the loader lives on
    assert got == expected
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError("connection reset"), r"cannot be read \(connection"),
        (TimeoutError("timed out"), r"cannot be read \(timed"),
        (ZeroDivisionError(), ""),  # a defect keeps its type
    ],
)
def test_an_unreachable_store_or_a_defect_names_the_sample(sets, error, text):
    def break_at(i, member):
        raise error

    sets["toy"].break_at = break_at
    with load_toy() as loader, pytest.raises(DataError if text else ZeroDivisionError) as caught:
        next(loader.batches(4, 5))
    said = str(caught.value) if text else "".join(caught.value.__notes__)
    place = r"fake://sets/toy/train: shard 0, sample toy/000\d \(step 4, slot 0\)"
    assert re.search(f"{place}: {text}" if text else place, said)


@pytest.mark.parametrize(
    ("member", "data", "message"),
    [
        ("image", b"", "image cannot be decoded"),
        ("image", b"no image", "image cannot be decoded"),
        ("native", b"", "label holds nothing readable"),
        ("native", png(np.zeros((40, 56, 3), np.uint8)), r"label holds uint8 of shape \(40, 56, 3\)"),
        ("native", png(np.zeros((40, 56), np.uint16)), "label holds uint16"),
        ("native", png(np.zeros((40, 55), np.uint8)), r"label \(40, 55\) and index \(40, 56\) differ in size"),
        ("image", png(np.zeros((39, 56, 3), np.uint8)), r"image \(39, 56\)"),
    ],
)
def test_a_sample_that_is_not_what_it_should_be_is_named(sets, member, data, message):
    sets["toy"].replaced = {(i, member): data for i in range(6)}
    place = r"fake://sets/toy/train: shard 0, sample toy/000\d \(step 0, slot 0\)"
    with load_toy(batch=1) as loader, pytest.raises(DataError, match=f"{place}.*{message}"):
        next(loader.batches(0, 1))


def test_stopping_early_drops_what_was_begun(sets):
    reads = []
    sets["toy"].break_at = lambda i, member: reads.append(i) or time.sleep(0.01)
    began = time.monotonic()
    with load_toy(batch=4, threads=2, prefetch=50) as loader:
        batches = loader.batches(0, 1000)
        assert len(list(islice(batches, 2))) == 2
        batches.close()
        at_close = len(reads)
        time.sleep(0.1)
        assert len(reads) == at_close
    assert time.monotonic() - began < 10


def test_closing_under_a_waiting_iterator_is_clean_and_opencv_is_left_with_one_thread(sets):
    cv2.setNumThreads(2)
    loader = load()
    assert cv2.getNumThreads() == 1
    batches = loader.batches(0, 1000)
    next(batches)
    loader.close()
    loader.close()
    assert all(sets[name].closed for name in NAMES)
    with pytest.raises(RuntimeError, match="closed"):
        next(loader.batches(0, 1))


def test_prefetch_is_bounded_and_waiting_is_counted(sets):
    started = []
    sets["toy"].break_at = lambda i, member: member == "image" and started.append(i)
    with load_toy(batch=2, threads=2, prefetch=3) as loader:
        batches = loader.batches(0, 100)
        next(batches)
        deadline = time.monotonic() + 20
        while len(started) < 8 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.3)  # for what should not come, and for the last to be finished
        assert len(started) == 2 * (1 + 3)
        next(batches)
        assert 1 <= loader.queue_depth <= 3
        assert loader.wait_s > 0


def test_more_ranks_than_slots_are_refused(sets):
    with pytest.raises(DataError, match=r"loader\.batch: 6 samples leave some of 7 processes without any"):
        load(world_size=7, rank=3)


def test_a_missing_dataset_is_named_with_the_command_that_makes_it(tmp_path):
    data = DataConfig(shards=str(tmp_path), mix={"ade20k-150": 1})
    how = r"no shards at .*/ade20k-150/train; make them with `segstream shard ade20k-150"
    with pytest.raises(DataError, match=how):
        Loader(data, RULE, LoaderConfig(batch=1), seed=0)


def test_a_refused_mix_lets_go_of_what_was_opened(sets):
    with pytest.raises(DataError, match="different classes"):
        load(taxonomy="native")
    assert all(sets[name].closed for name in NAMES)


def test_dali_makes_the_batches_of_opencv(sets):
    pytest.importorskip("nvidia.dali", reason="nvidia-dali is not installed")
    with load() as one, load(engine="dali") as other:
        assert other.fingerprint == one.fingerprint | {"engine": "dali"}  # a run may not go on under the other
        for ours, theirs in zip(other.batches(3, 7), one.batches(3, 7), strict=True):
            assert (ours.step, ours.keys) == (theirs.step, theirs.keys)
            assert torch.equal(ours.labels, theirs.labels)
            assert torch.equal(ours.dataset_ids, theirs.dataset_ids)
            assert ours.images.shape == theirs.images.shape
            assert np.abs(ours.images.cpu().numpy().astype(int) - theirs.images.numpy()).mean() < 1


def test_failures_with_dali_name_the_sample_and_the_loader_lives_on(sets):
    pytest.importorskip("nvidia.dali", reason="nvidia-dali is not installed")
    with load(engine="dali") as loader:
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
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if installed else None)
    chosen = choose_engine(engine)
    assert (chosen.dali, chosen.device_id) == expected[:2]
    assert expected[2] in chosen.why
