"""Crops from some rows of the stored files are those from the whole files, for whatever files there are."""

import itertools
import shutil
import sys
import threading
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from segstream.pipeline.augment_opencv import box_touched
from segstream.pipeline.config import AugmentConfig
from segstream.pipeline.decode import Arrays, Scratch, decode_image, decode_label, decode_region, read_image, read_label
from segstream.pipeline.geometry import draw
from segstream.shards.convert.convert import convert
from segstream.shards.errors import DataError
from segstream.shards.format.reader import open_shards
from tests.pipeline.fakes import augment

SIZE_WH, SIZE_HW = (255, 331), (331, 255)
FACTORS = ("444", "422", "440", "420", "411")
TILED = ["tiles", "cmyk", "grey"]  # the last two are encoded anew
SLICED = ["420", "422", "440", "444", *TILED]
WHOLE = ["411", "plain", "progressive", "sparse", "uneven"]
RULE = AugmentConfig(short_side=255, crop=97)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slices")
    for part in ("images", "labels"):
        (folder / part).mkdir()
    rng, path = np.random.default_rng(5), str(folder / "images")
    coarse = rng.integers(0, 256, (40, 25, 3), np.uint8)
    noise = rng.integers(0, 32, (*SIZE_HW, 3), np.uint8)
    pixels = cv2.resize(coarse, SIZE_WH, interpolation=cv2.INTER_CUBIC) // 8 * 7 + noise
    interval = cv2.IMWRITE_JPEG_RST_INTERVAL
    written = {
        "plain": [],
        "tiles": [interval, 4],
        "uneven": [interval, 5],  # over the ends of rows
        "sparse": [interval, 32],  # after every second row
        "progressive": [cv2.IMWRITE_JPEG_PROGRESSIVE, 1],
    }
    for name in FACTORS:
        across = -(-SIZE_WH[0] // {"444": 8, "440": 8, "411": 32}.get(name, 16))
        factor = getattr(cv2, f"IMWRITE_JPEG_SAMPLING_FACTOR_{name}")
        written[name] = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factor, interval, across]
    for name, options in written.items():
        cv2.imwrite(f"{path}/{name}.jpg", pixels, options)
    Image.fromarray(pixels).convert("CMYK").save(f"{path}/cmyk.jpg")
    Image.fromarray(pixels).convert("L").save(f"{path}/grey.jpg")
    for image in (folder / "images").iterdir():
        cv2.imwrite(str(folder / "labels" / f"{image.stem}.png"), rng.integers(0, 9, SIZE_HW, np.uint8))
    names = "".join(f"  - {{name: c{i}}}\n" for i in range(9))
    splits = "splits: {train: {images: images/*.jpg, labels: labels/*.png}}\n"
    (folder / "set.yaml").write_text(f"name: slices\nlicence: none\nroot: {folder}\n{splits}classes:\n{names}")
    summary = convert(dataset=str(folder / "set.yaml"), split="train", out=str(folder / "out"))
    with open_shards(summary.url) as opened:
        yield opened


def sample(shards, name):
    return next(i for i in range(len(shards)) if shards.entry(i).key == name)


def blocks(shards, name, suffix):
    return shards.entry(sample(shards, name)).members[suffix].blocks


def test_which_files_have_blocks(shards):
    keys = {shards.entry(i).key for i in range(len(shards))}
    assert {key for key in keys if blocks(shards, key, "jpg")} == set(SLICED)
    assert keys == {*SLICED, *WHOLE}
    rows = {name: blocks(shards, name, "jpg").rows for name in SLICED}
    assert rows == dict.fromkeys(SLICED, 16) | {"422": 8, "444": 8}
    assert all(blocks(shards, key, "native.png").rows == 64 for key in keys)


@pytest.fixture(params=[*SLICED, *WHOLE])
def stored(request, shards):
    """(name, its number, image and label from the whole files)."""
    name = request.param
    i = sample(shards, name)
    image = decode_image(shards.read(i, "image"), where=name)
    return name, i, image, decode_label(shards.read(i, "native"), where=name)


def test_crops_are_those_of_the_whole_files(shards, stored):
    (name, i, image, label), fewer = stored, np.zeros(2, int)
    for step in range(60):
        d = draw(RULE, seed=3, step=step, slot=0, size_hw=SIZE_HW)
        box = box_touched(d)
        part = read_image(shards, i, box, SIZE_HW)
        pixels = decode_region(part, Scratch(), where=name)
        strips, row = read_label(shards, i, "native", (box[0], box[2]), SIZE_HW, where=name)
        fewer += np.array(part.size_hw) < SIZE_HW
        some = augment(pixels, strips, d, image_at=part.box[:2], label_row=row)
        for one, other in zip(some, augment(image, label, d), strict=True):
            assert np.array_equal(one, other)
    assert (fewer > 20).tolist() == [name in SLICED, name in TILED]


@pytest.mark.parametrize("stored", SLICED, indirect=True)
def test_pixels_are_exact_wherever_the_cuts_are(shards, stored):
    (name, i, image, label), (height, width) = stored, SIZE_HW
    lefts = itertools.cycle(range(0, width, 5))
    for top in range(0, height, 7):
        for bottom in {top + 1, min(top + 40, height), height}:
            left = next(lefts)
            right = min(left + 30, width)
            part = read_image(shards, i, (top, left, bottom, right), SIZE_HW)
            y, x, *_ = part.box
            pixels = decode_region(part, Scratch(), where=name)[top - y : bottom - y, left - x : right - x, :3]
            assert np.array_equal(pixels, image[top:bottom, left:right])
            strips, row = read_label(shards, i, "native", (top, bottom), SIZE_HW, where=name)
            assert np.array_equal(strips[top - row : bottom - row], label[top:bottom])


@pytest.mark.parametrize("name", ["420", "progressive"])
def test_damage_that_a_decoder_could_draw_over_is_an_error(shards, name):
    data = shards.read(sample(shards, name), "image")
    with pytest.raises(DataError, match="here: the image cannot be decoded"):
        decode_image(data[: len(data) * 2 // 3], where="here")


def test_size_is_told_by_the_header_before_any_pixel_is_decoded(shards, monkeypatch):
    monkeypatch.setenv("SEGSTREAM_MAX_PIXELS", "1000")
    i = sample(shards, "420")
    for decode, member in ((decode_image, "image"), (decode_label, "native")):
        with pytest.raises(DataError, match="here: too large: 255 x 331 pixels by its header, more than 1,000; set"):
            decode(shards.read(i, member), where="here")


def test_only_the_blocks_asked_for_are_read(shards, monkeypatch):
    seen, read = [], shards._store.read
    noting = lambda name, start, length, **more: (seen.append(length), read(name, start, length, **more))[1]  # noqa: E731
    monkeypatch.setattr(shards._store, "read", noting)
    i, sizes = sample(shards, "420"), blocks(shards, "420", "jpg").sizes
    read_image(shards, i, (20, 0, 60, 255), SIZE_HW)
    assert seen == [sizes[0], sum(sizes[2:5])]


@pytest.mark.parametrize(
    ("suffix", "n", "what"), [("jpg", 3, "block 2 of its rows"), ("jpg", 0, "its header"), ("native.png", 2, "block 1")]
)
def test_a_damaged_block_is_named(shards, tmp_path, suffix, n, what):
    shutil.copytree(shards._store.folder, tmp_path, dirs_exist_ok=True)
    i, tar = sample(shards, "420"), tmp_path / "shard-000000.tar"
    span, data = shards.entry(i).members[suffix], bytearray(tar.read_bytes())
    data[span.offset + sum(span.blocks.sizes[:n]) + 9] ^= 1
    tar.write_bytes(data)
    says = rf"420\.{suffix}: {what}.* fails its checksum"
    with open_shards(tmp_path) as broken, pytest.raises(DataError, match=says):
        broken.read_rows(i, "image" if suffix == "jpg" else "native", 40, 80)


def test_sets_without_blocks_are_read_whole(shards):
    i = sample(shards, "420")
    row = shards.index(0).samples[i]
    bare = {suffix: replace(span, blocks=None) for suffix, span in row.members.items()}
    rows = list(shards.index(0).samples)
    rows[i] = replace(row, members=bare)
    with open_shards(shards._store.folder) as older:
        older._indexes[0] = replace(shards.index(0), samples=tuple(rows))
        assert older.read_rows(i, "image", 20, 60) is None
        assert read_image(older, i, (20, 0, 60, 90), SIZE_HW).box == (0, 0, *SIZE_HW)


def test_an_index_that_says_another_size(shards):
    i = sample(shards, "420")
    with pytest.raises(DataError, match=r"the index says; run `segstream verify"):
        read_label(shards, i, "native", (70, 80), (331, 250), where="w")
    part = replace(read_image(shards, i, (20, 0, 60, 200), SIZE_HW), box=(16, 0, 64, 200))
    with pytest.raises(DataError, match=r"image \(48, 255\) and index \(48, 200\) differ in size"):
        decode_region(part, Scratch(), where="w")


def address(array):
    return array.__array_interface__["data"][0]


def test_memory_comes_back_when_nothing_holds_it():
    arrays = Arrays((4, 5), np.int16)
    first = arrays.take()
    assert (first.shape, first.dtype) == ((4, 5), np.int16)
    where = address(first)
    tensor = torch.from_numpy(first).permute(1, 0)[1:]
    del first
    assert address(arrays.take()) != where  # the tensor still holds it
    numbers = tensor.numpy()
    del tensor
    assert address(arrays.take()) != where  # now the array that was made of it
    del numbers
    assert where in [address(array) for array in [arrays.take(), arrays.take()]]


@pytest.mark.parametrize("part", [lambda a: a[1], lambda a: a[:, 2:].T, lambda a: memoryview(a), torch.from_numpy])
def test_any_part_holds_the_memory(part):
    arrays = Arrays((4, 5), np.uint8)
    first = arrays.take()
    where, held = address(first), part(first)
    del first
    assert address(arrays.take()) != where
    del held
    assert where in [address(array) for array in [arrays.take(), arrays.take()]]


def test_no_python_runs_when_memory_comes_back():
    """Ctrl-C that arrives in a callback of the garbage collection is lost."""
    arrays = Arrays((3,), np.uint8)
    taken, ran = [arrays.take()], []
    sys.setprofile(lambda frame, event, _: ran.append(event))
    try:
        taken.clear()
    finally:
        sys.setprofile(None)
    assert "call" not in ran


def test_scratch_is_kept_by_name_and_thread():
    scratch = Scratch()
    one = scratch.take("a", (2, 3))
    assert (one.shape, one.dtype) == ((2, 3), np.uint8)
    assert address(scratch.take("a", (3, 2))) == address(one)
    assert address(scratch.take("b", (2, 3))) != address(one)
    assert scratch.take("a", (40, 30, 3)).shape == (40, 30, 3)
    found = []
    thread = threading.Thread(target=lambda: found.append(scratch.take("b", (2, 3))))
    thread.start()
    thread.join()
    assert address(found[0]) != address(scratch.take("b", (2, 3)))
