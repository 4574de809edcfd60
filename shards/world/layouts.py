"""The seven releases' folder trees and label codings, written as their own tools write them.

Sources: the release notes as MSeg uses them (Lambert et al., CVPR 2020).
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from shards import splits
from shards.errors import DataError
from shards.taxonomy import load_taxonomy, release_classes, release_remap
from shards.world.canvas import Scene
from shards.world.coding import release_id

Split = Literal["train", "val"]
Record = dict[str, Any] | None
"""What an image adds to its split's annotation file."""

_CITIES = {
    "train": ("aachen", "bochum", "bremen", "cologne", "ulm", "zurich"),
    "val": ("frankfurt", "lindau", "munster"),
}
_QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 92]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a release keeps an image and its label, and how it codes the label."""

    image: str
    """Path below the root; `{folder}`, `{stem}`, `{city}` and `{number}` are filled in."""
    label: str
    folders: dict[str, str]
    """Split -> folder name."""
    encode: Callable[[str, Scene, str], tuple[npt.NDArray[np.uint8], Record]]
    """(dataset, scene, stem) -> label file's pixels (H, W) or (H, W, 3) RGB, and the image's record."""


def stems(dataset: str, split: Split, count: int) -> tuple[str, ...]:
    """The first `count` image names of a split, as the release names them.

    Raises:
        DataError: the release has fewer images.
    """
    known = _stems(dataset, split, count)
    if len(known) < count:
        raise DataError(f"world: {dataset} {split} has {len(known)} images, {count} were asked for; ask for fewer")
    return known[:count]


def write(root: Path, dataset: str, split: Split, stem: str, scene: Scene, photo: npt.NDArray[np.uint8]) -> Record:
    """Write one image and its label below the release's root."""
    layout = LAYOUTS[dataset]
    names = {"folder": layout.folders[split], "stem": stem, "city": stem.partition("_")[0], "number": _number(stem)}
    label, record = layout.encode(dataset, scene, stem)
    image_path, label_path = root / layout.image.format(**names), root / layout.label.format(**names)
    save(image_path, _encode(image_path.suffix, photo))
    save(label_path, _encode(label_path.suffix, label))
    return record


def finish(root: Path, dataset: str, split: Split, records: list[Record]) -> None:
    """Write what the release keeps once per split."""
    if dataset != "coco-panoptic-133":
        return
    folder = LAYOUTS[dataset].folders[split]
    pages = [record for record in records if record is not None]
    content = {
        "info": {"description": "procedural scenes in the COCO panoptic format", "version": "1.0", "year": 2017},
        "licenses": [],
        "images": [page["image"] for page in pages],
        "annotations": [page["annotation"] for page in pages],
        "categories": _coco_categories(),
    }
    text = json.dumps(content, separators=(",", ":"))
    save(root / f"annotations/panoptic_{folder}.json", text.encode())


def save(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise DataError(f"{path}: cannot be written ({error.strerror}); make room or choose another folder") from error


def _stems(dataset: str, split: Split, count: int) -> tuple[str, ...]:
    match dataset:
        case "ade20k-150":
            last = {"train": 20210, "val": 2000}[split]
            return tuple(f"ADE_{split}_{i:08d}" for i in range(1, min(count, last) + 1))
        case "coco-panoptic-133":
            last = {"train": 118287, "val": 5000}[split]
            return tuple(f"{i:012d}" for i in range(1, min(count, last) + 1))
        case "cityscapes-19":
            last, cities = {"train": 2975, "val": 500}[split], _CITIES[split]
            return tuple(f"{cities[i % len(cities)]}_{i // len(cities):06d}_000019" for i in range(min(count, last)))
        case "sunrgbd-37" if split == "train":
            return tuple(f"img-{i:06d}" for i in range(1, min(count, 5285) + 1))
        case _:
            return splits.stems(dataset, split)


def _number(stem: str) -> str:
    """SUN RGB-D's labels carry the image's number in eight digits."""
    return f"{int(stem.removeprefix('img-')):08d}" if stem.startswith("img-") else ""


def _encode(suffix: str, pixels: npt.NDArray[np.uint8]) -> bytes:
    swapped = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    _, buffer = cv2.imencode(suffix, swapped, _QUALITY if suffix == ".jpg" else [])
    return bytes(buffer)


def _ids(dataset: str, scene: Scene) -> npt.NDArray[np.uint8]:
    """(H, W) ids of the released coding."""
    codes = np.asarray([release_id(dataset, concept) for concept in scene.concepts], np.uint8)
    return codes[scene.segments]


def _index(dataset: str, scene: Scene, stem: str) -> tuple[npt.NDArray[np.uint8], Record]:
    return _ids(dataset, scene), None


def _colour(dataset: str, scene: Scene, stem: str) -> tuple[npt.NDArray[np.uint8], Record]:
    palette = np.asarray([colour for _, colour in release_classes(dataset)], np.uint8)
    return palette[_ids(dataset, scene)], None


def _outlined(dataset: str, scene: Scene, stem: str) -> tuple[npt.NDArray[np.uint8], Record]:
    """Ids with a void line around every object, as VOC's annotators drew it."""
    ids = _ids(dataset, scene)
    objects = np.where(ids > 0, np.asarray(scene.objects, np.int16)[scene.segments], 0)
    square = np.ones((3, 3), np.uint8)
    border = cv2.dilate(objects, square) != cv2.erode(objects, square)
    return np.where(border, np.uint8(255), ids), None


def _panoptic(dataset: str, scene: Scene, stem: str) -> tuple[npt.NDArray[np.uint8], Record]:
    """Segment ids as colours (R + 256 G + 65536 B): one per thing, one per class of stuff, 0 for no class."""
    codes = np.asarray([release_id(dataset, concept) for concept in scene.concepts], np.int64)
    things = codes <= 90
    numbers = (np.where(things, scene.objects, 0) * 512 + codes) * (codes > 0)
    segments = numbers[scene.segments]
    infos = []
    for number in np.unique(segments[segments > 0]).tolist():
        rows, columns = np.nonzero(segments == number)
        x, y = int(columns.min()), int(rows.min())
        infos.append(
            {
                "id": number,
                "category_id": int(codes[np.flatnonzero(numbers == number)[0]]),
                "iscrowd": 0,
                "bbox": [x, y, int(columns.max()) - x + 1, int(rows.max()) - y + 1],
                "area": len(rows),
            }
        )
    rgb = np.stack([segments % 256, segments // 256 % 256, segments // 65536], axis=-1).astype(np.uint8)
    height, width = segments.shape
    image = {"id": int(stem), "file_name": f"{stem}.jpg", "height": height, "width": width, "license": 0}
    return rgb, {
        "image": image,
        "annotation": {"image_id": int(stem), "file_name": f"{stem}.png", "segments_info": infos},
    }


def _coco_categories() -> list[dict[str, Any]]:
    native = load_taxonomy("coco-panoptic-133")
    table = release_remap("coco-panoptic-133").table
    ids = [int(np.flatnonzero(table == i)[0]) for i in range(native.num_classes)]
    return [
        {"id": number, "name": name, "supercategory": name.partition("-")[0], "isthing": int(number <= 90)}
        for number, name in sorted(zip(ids, native.classes, strict=True))
    ]


LAYOUTS = {
    "ade20k-150": Layout(
        "images/{folder}/{stem}.jpg",
        "annotations/{folder}/{stem}.png",
        {"train": "training", "val": "validation"},
        _index,
    ),
    "coco-panoptic-133": Layout(
        "images/{folder}/{stem}.jpg",
        "annotations/panoptic_{folder}/{stem}.png",
        {"train": "train2017", "val": "val2017"},
        _panoptic,
    ),
    "cityscapes-19": Layout(
        "leftImg8bit/{folder}/{city}/{stem}_leftImg8bit.png",
        "gtFine/{folder}/{city}/{stem}_gtFine_labelIds.png",
        {"train": "train", "val": "val"},
        _index,
    ),
    "sunrgbd-37": Layout(
        "image/{folder}/{stem}.jpg", "label38/{folder}/{number}.png", {"train": "train", "val": "test"}, _index
    ),
    "camvid-11": Layout(
        "701_StillsRaw_full/{stem}.png", "Labels32-RGB/{stem}_L.png", {"train": "", "val": ""}, _colour
    ),
    "voc2012": Layout("JPEGImages/{stem}.jpg", "SegmentationClassAug/{stem}.png", {"train": "", "val": ""}, _outlined),
    "kitti-19": Layout("training/image_2/{stem}.png", "training/semantic/{stem}.png", {"train": "", "val": ""}, _index),
}
