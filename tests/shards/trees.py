"""Tiny releases drawn in code: real layouts and label codings, a few pixels each."""

import json
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from segstream.shards.datasets.layout import split_list


def picture(rng: np.random.Generator, size_hw: tuple[int, int] = (24, 32)) -> np.ndarray:
    """Smooth enough that JPEG keeps it roughly."""
    coarse = rng.integers(0, 255, (4, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize(size_hw[::-1], Image.Resampling.BILINEAR))


def blocks(rng: np.random.Generator, ids: list[int], size_hw: tuple[int, int] = (24, 32)) -> np.ndarray:
    """A label of 8 x 8 blocks of the given ids."""
    grid = rng.choice(np.array(ids), (-(-size_hw[0] // 8), -(-size_hw[1] // 8)))
    return np.kron(grid, np.ones((8, 8), int))[: size_hw[0], : size_hw[1]]


def save(path: Path, array: np.ndarray, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def png_file(rows: bytes, header: tuple[int, ...], *more: tuple[bytes, bytes]) -> bytes:
    """A PNG of the given raw rows under the given header, `more` chunks between; all checksums right."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", *header)), *more, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def ade20k(root: Path, train: int = 5, val: int = 2, seed: int = 0, size_hw: tuple[int, int] = (24, 32)) -> Path:
    rng = np.random.default_rng(seed)
    for part, word, count in (("training", "train", train), ("validation", "val", val)):
        for n in range(1, count + 1):
            stem = f"ADE_{word}_{n:08d}"
            save(root / f"images/{part}/{stem}.jpg", picture(rng, size_hw), quality=90)
            label = blocks(rng, [0, 1, 2, 3, 78, 150], size_hw)
            save(root / f"annotations/{part}/{stem}.png", label.astype(np.uint8))
    return root


def cityscapes(root: Path) -> Path:
    rng = np.random.default_rng(1)
    for split, city in (("train", "aachen"), ("train", "ulm"), ("val", "lindau")):
        stem = f"{city}_000000_000019"
        save(root / f"leftImg8bit/{split}/{city}/{stem}_leftImg8bit.png", picture(rng))
        label = blocks(rng, [0, 3, 7, 8, 11, 24, 33])
        save(root / f"gtFine/{split}/{city}/{stem}_gtFine_labelIds.png", label.astype(np.uint8))
        save(root / f"gtFine/{split}/{city}/{stem}_gtFine_color.png", picture(rng))
    return root


def coarse(root: Path) -> Path:
    """Cityscapes' coarse labels of two further images, and of one that has fine labels as well."""
    rng = np.random.default_rng(11)
    for split, city in (("train_extra", "bayreuth"), ("train_extra", "troisdorf"), ("train", "ulm")):
        stem = f"{city}_000000_000019"
        if split == "train_extra":
            save(root / f"leftImg8bit/{split}/{city}/{stem}_leftImg8bit.png", picture(rng))
        label = blocks(rng, [0, 7, 26, 27, 28])
        save(root / f"gtCoarse/{split}/{city}/{stem}_gtCoarse_labelIds.png", label.astype(np.uint8))
    return root


def sunrgbd(root: Path) -> Path:
    rng = np.random.default_rng(2)
    for part, names in (
        ("train", ["img-000001", "img-000002"]),
        ("test", [*split_list("sunrgbd-37", "val")[:2], "img-000002"]),
    ):
        for name in names:
            save(root / f"image/{part}/{name}.jpg", picture(rng), quality=90)
            label = blocks(rng, [0, 1, 5, 37]).astype(np.uint8)
            save(root / f"label38/{part}/{int(name[4:]):08d}.png", label)
    return root


def coco(root: Path) -> Path:
    rng = np.random.default_rng(3)
    for part, name in (("train2017", "000000000009"), ("val2017", "000000000139")):
        save(root / f"images/{part}/{name}.jpg", picture(rng), quality=90)
        segments = [{"id": 8922372, "category_id": 1}, {"id": 70000, "category_id": 200}, {"id": 5, "category_id": 92}]
        codes = blocks(rng, [0, *(s["id"] for s in segments)])
        rgb = np.stack([codes % 256, codes // 256 % 256, codes // 65536], -1).astype(np.uint8)
        save(root / f"annotations/panoptic_{part}/{name}.png", rgb)
        entry = {"file_name": f"{name}.png", "image_id": int(name), "segments_info": segments}
        (root / f"annotations/panoptic_{part}.json").write_text(json.dumps({"annotations": [entry]}))
    return root


def voc(root: Path, count: int = 3) -> Path:
    rng = np.random.default_rng(4)
    for stem in (stem for split in ("train", "val") for stem in split_list("voc2012", split)[:count]):
        save(root / f"JPEGImages/{stem}.jpg", picture(rng), quality=90)
        label = Image.fromarray(blocks(rng, [0, 1, 15, 20, 255]).astype(np.uint8)).convert("P")
        label.putpalette([(7 * i + c * 85) % 256 for i in range(256) for c in range(3)])
        (root / "SegmentationClassAug").mkdir(exist_ok=True)
        label.save(root / f"SegmentationClassAug/{stem}.png")
    return root


def kitti(root: Path, count: int = 3) -> Path:
    rng = np.random.default_rng(5)
    for stem in (stem for split in ("train", "val") for stem in split_list("kitti-19", split)[:count]):
        save(root / f"training/image_2/{stem}.png", picture(rng))
        save(root / f"training/semantic/{stem}.png", blocks(rng, [0, 7, 26, 33]).astype(np.uint8))
    return root


CAMVID_COLOURS = {"Building": (128, 0, 0), "Sky": (128, 128, 128), "Bicyclist": (0, 128, 192), "Animal": (64, 128, 64)}


def camvid(root: Path, count: int = 2) -> Path:
    rng = np.random.default_rng(6)
    table = np.array(list(CAMVID_COLOURS.values()), np.uint8)
    for split in ("train", "val", "test"):
        for stem in split_list("camvid-11", split)[:count]:
            save(root / f"701_StillsRaw_full/{stem}.png", picture(rng))
            save(root / f"Labels32-RGB/{stem}_L.png", table[blocks(rng, [0, 1, 2, 3])])
    return root
