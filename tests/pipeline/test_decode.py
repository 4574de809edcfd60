"""Crops from some rows of the stored files are those from the whole files, for whatever files there are."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image

from pipeline.augment_opencv import augment, rows_touched
from pipeline.config import AugmentConfig
from pipeline.decode import decode_image, decode_label, read_image, read_label
from pipeline.geometry import draw
from shards.convert import ConvertRequest, convert
from shards.errors import DataError
from shards.reader import open_shards

SIZE_WH = (203, 331)
FACTORS = {
    "444": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    "422": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
    "440": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_440,
    "420": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    "411": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_411,
}
SLICED = ["420", "422", "440", "444", "cmyk", "grey"]  # the last two are encoded anew
WHOLE = ["411", "plain", "progressive", "sparse"]
RULE = AugmentConfig(short_side=203, crop=97)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slices")
    (folder / "images").mkdir()
    (folder / "labels").mkdir()
    rng = np.random.default_rng(5)
    coarse = rng.integers(0, 256, (40, 25, 3), np.uint8)
    pixels = cv2.resize(coarse, SIZE_WH, interpolation=cv2.INTER_CUBIC) // 8 * 7 + rng.integers(
        0, 32, (*SIZE_WH[::-1], 3), np.uint8
    )
    for name, factor in FACTORS.items():
        across = -(-SIZE_WH[0] // {"444": 8, "440": 8, "411": 32}.get(name, 16))
        options = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factor, cv2.IMWRITE_JPEG_RST_INTERVAL, across]
        cv2.imwrite(str(folder / "images" / f"{name}.jpg"), pixels, options)
    path = str(folder / "images")
    cv2.imwrite(f"{path}/plain.jpg", pixels)
    cv2.imwrite(f"{path}/sparse.jpg", pixels, [cv2.IMWRITE_JPEG_RST_INTERVAL, 26])  # after every second row
    cv2.imwrite(f"{path}/progressive.jpg", pixels, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
    Image.fromarray(pixels).convert("CMYK").save(f"{path}/cmyk.jpg")
    Image.fromarray(pixels).convert("L").save(f"{path}/grey.jpg")
    for image in (folder / "images").iterdir():
        label = rng.integers(0, 9, SIZE_WH[::-1], np.uint8)
        cv2.imwrite(str(folder / "labels" / f"{image.stem}.png"), label)
    names = "".join(f"  - {{name: c{i}}}\n" for i in range(9))
    splits = "splits: {train: {images: images/*.jpg, labels: labels/*.png}}\n"
    (folder / "set.yaml").write_text(f"name: slices\nlicence: none\nroot: {folder}\n{splits}classes:\n{names}")
    summary = convert(ConvertRequest(dataset=str(folder / "set.yaml"), split="train", out=str(folder / "out")))
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
    assert {name: blocks(shards, name, "jpg").rows for name in SLICED} == {
        "420": 16, "440": 16, "422": 8, "444": 8, "cmyk": 16, "grey": 16,
    }  # fmt: skip
    assert all(blocks(shards, key, "native.png").rows == 64 for key in keys)


@pytest.mark.parametrize("name", [*SLICED, *WHOLE])
def test_crops_are_those_of_the_whole_files(shards, name):
    i, fewer = sample(shards, name), 0
    size_hw = SIZE_WH[::-1]
    image = decode_image(shards.read(i, "image"), where=name)
    label = decode_label(shards.read(i, "native"), where=name)
    for step in range(60):
        d = draw(RULE, seed=3, step=step, slot=0, size_hw=size_hw)
        rows = rows_touched(d)
        part, first = read_image(shards, i, rows, size_hw, where=name)
        strips = read_label(shards, i, "native", rows, size_hw, where=name)
        fewer += len(part) < size_hw[0]
        for one, other in zip(augment(part, strips, d, first_row=first), augment(image, label, d), strict=True):
            assert np.array_equal(one, other)
    assert (fewer > 20) == (name in SLICED)


@pytest.mark.parametrize("name", SLICED)
def test_rows_are_exact_wherever_the_cuts_are(shards, name):
    i, size_hw = sample(shards, name), SIZE_WH[::-1]
    image = decode_image(shards.read(i, "image"), where=name)
    label = decode_label(shards.read(i, "native"), where=name)
    for top in range(0, size_hw[0], 7):
        for bottom in {top + 1, min(top + 40, size_hw[0]), size_hw[0]}:
            part, first = read_image(shards, i, (top, bottom), size_hw, where=name)
            assert np.array_equal(part[top - first : bottom - first], image[top:bottom])
            strips = read_label(shards, i, "native", (top, bottom), size_hw, where=name)
            assert np.array_equal(strips[top:bottom], label[top:bottom])


def test_only_the_blocks_asked_for_are_read(shards, monkeypatch):
    seen, read = [], shards._store.read
    monkeypatch.setattr(
        shards._store,
        "read",
        lambda name, start, length, **more: (seen.append(length), read(name, start, length, **more))[1],
    )
    i, sizes = sample(shards, "420"), blocks(shards, "420", "jpg").sizes
    read_image(shards, i, (20, 60), SIZE_WH[::-1], where="")
    assert seen == [sizes[0], sum(sizes[2:5])]


@pytest.mark.parametrize(
    ("suffix", "n", "what"), [("jpg", 3, "block 2 of its rows"), ("jpg", 0, "its header"), ("native.png", 2, "block 1")]
)
def test_a_damaged_block_is_named(shards, tmp_path, suffix, n, what):
    for path in open_path(shards).iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    span = shards.entry(sample(shards, "420")).members[suffix]
    tar = tmp_path / "shard-000000.tar"
    data = bytearray(tar.read_bytes())
    data[span.offset + sum(span.blocks.sizes[:n]) + 9] ^= 1
    tar.write_bytes(data)
    i = sample(shards, "420")
    with (
        open_shards(tmp_path) as broken,
        pytest.raises(DataError, match=rf"420\.{suffix}: {what}.* fails its checksum"),
    ):
        broken.read_rows(i, "image" if suffix == "jpg" else "native", 40, 80)


def test_sets_without_blocks_are_read_whole(shards):
    i = sample(shards, "420")
    row = shards.index(0).rows[i]
    bare = {suffix: replace(span, blocks=None) for suffix, span in row.members.items()}
    rows = list(shards.index(0).rows)
    rows[i] = replace(row, members=bare)
    with open_shards(open_path(shards)) as older:
        older._indexes[0] = replace(shards.index(0), rows=tuple(rows))
        assert older.read_rows(i, "image", 20, 60) is None
        assert read_image(older, i, (20, 60), SIZE_WH[::-1], where="")[0].shape == (*SIZE_WH[::-1], 3)


def test_an_index_that_says_another_size(shards):
    i = sample(shards, "420")
    with pytest.raises(DataError, match=r"the index says; run `segstream verify"):
        read_label(shards, i, "native", (70, 80), (331, 200), where="w")
    with pytest.raises(DataError, match=r"image \(48, 203\) and index \(48, 200\) differ in size"):
        read_image(shards, i, (20, 60), (331, 200), where="w")


def test_the_index_says_where_blocks_lie(shards):
    text = json.loads((open_path(shards) / "shard-000000.idx.json").read_bytes())
    listed = next(row for row in text["samples"] if row["key"] == "420")["blocks"]["jpg"]
    found = blocks(shards, "420", "jpg")
    assert listed == [16, list(found.sizes), list(found.crc32s)]
    assert len(found.sizes) == 1 + -(-331 // 16)


def open_path(shards):
    return shards._store.folder
