"""The releases' folder trees (`tables/layouts.yaml`): names of images, where they and their labels lie, and more.

Sources: the release notes as MSeg (Lambert et al., CVPR 2020) and the BRAVO challenge use them.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from segstream.shards.datasets.layout import split_list
from segstream.shards.datasets.registry import registry
from segstream.shards.errors import DataError
from segstream.shards.files import write_bytes
from segstream.shards.synthetic import encodings
from segstream.shards.synthetic.canvas import Scene
from segstream.shards.synthetic.encodings import Encoder
from segstream.shards.synthetic.read_table import entry, table
from segstream.shards.taxonomy import release_classes

Split = Literal["train", "val"]

Annotation = dict[str, Any] | None
"""What an image adds to its split's annotation file."""

_UNSTATED = 9999  # images of a split whose size nobody states: what the names below have digits for


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where a release keeps an image and its labels, and how it codes them."""

    image: str
    """Path below the root; what `path_fields` gives is filled in."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Path -> coding: a function of `encodings`."""
    folders: Mapping[str, str]
    """Split -> folder name."""
    stems: Mapping[str, str] = field(default_factory=dict)
    """Split -> form of its image names; without one they are those of the carried list."""
    reissue_of: str = ""
    """The dataset of whose pictures this is another release."""


def stems(dataset: str, split: Split, count: int) -> tuple[str, ...]:
    """The first `count` image names of a split, as the release names them.

    Raises:
        DataError: the release has fewer images.
    """
    known = registry()[dataset].splits.get(split) or _UNSTATED
    if known < count:
        raise DataError(f"world: {dataset} {split} has {known} images, {count} were asked for; ask for fewer")
    if split in LAYOUTS[dataset].stems:
        return tuple(_stem(LAYOUTS[dataset].stems[split], dataset, split, i) for i in range(count))
    carried = split_list(dataset, split) or ()
    if dataset == "scannet-20":  # which lists scenes
        return tuple(f"{carried[i % len(carried)]}/{i // len(carried) * 100:06d}" for i in range(count))
    return carried[:count]


def _stem(form: str, dataset: str, split: Split, i: int) -> str:
    """Name of image number `i` of a split, which `form` puts together."""
    digest = hashlib.sha256(f"{dataset}/{split}/{i}".encode()).digest()
    names = table("names")
    cities, bravo = names["cities"][split], names["bravo"]
    return form.format(
        n=i + 1,
        city=cities[i % len(cities)],
        turn=i // len(cities),
        drive=i // 4,
        frame=31 * i + 5506,
        a=digest.hex()[:8],
        b=digest.hex()[8:16],
        token=base64.urlsafe_b64encode(digest)[:22].decode(),
        bravo=bravo[i % len(bravo)].format(i // len(bravo)),
    )


def path_fields(folder: str, stem: str) -> dict[str, Any]:
    """What paths are made of."""
    top, _, name = stem.rpartition("/")
    digits = re.search(r"\d+$", stem)
    number = int(digits[0]) if digits else 0
    scenes = table("names")["ade_scenes"]
    scene = scenes[number % len(scenes)]
    return {"folder": folder, "stem": stem, "top": top, "name": name, "number": number, "scene": scene}


def write(root: Path, dataset: str, split: Split, stem: str, scene: Scene, photo: npt.NDArray[np.uint8]) -> Annotation:
    """Write one image and its labels below the release's root."""
    layout, parts = LAYOUTS[dataset], path_fields(LAYOUTS[dataset].folders[split], stem)
    image = root / layout.image.format(**parts)
    save(image, encodings.picture(image.suffix, photo))
    for path, coding in layout.labels.items():
        encode: Encoder = getattr(encodings, coding)
        save(root / path.format(**parts), encode(dataset, scene))
    return encodings.panoptic_record(dataset, scene, stem) if dataset in encodings.THINGS else None


def finish(
    root: Path, dataset: str, stems: Mapping[Split, tuple[str, ...]], records: Mapping[Split, list[Annotation]]
) -> None:
    """Write what the release keeps once per split, or once."""
    match dataset:
        case "coco-panoptic-133":
            for split, pages in records.items():
                folder = LAYOUTS[dataset].folders[split]
                save(root / f"annotations/panoptic_{folder}.json", _annotations(dataset, pages, 2017))
        case "wilddash2-19":
            save(root / "panoptic.json", _annotations(dataset, [p for pages in records.values() for p in pages], 2022))
            for split, listed in stems.items():
                lines = "".join(f"{stem}\n" for stem in listed)
                save(root / f"random_split/{LAYOUTS[dataset].folders[split]}.txt", lines.encode())
        case "gta5-19":
            ids = {split: np.asarray([[int(s)] for s in stems.get(split, ())], np.uint16) for split in ("train", "val")}
            save(root / "split.mat", encodings.mat(trainIds=ids["train"], valIds=ids["val"], testIds=ids["val"]))
        case "mapillary-public65" | "mapillary-19":
            save(root / "config.json", _config(dataset))


def save(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    write_bytes(path, content, advice="make room or choose another folder")


def _annotations(dataset: str, records: list[Annotation], year: int) -> bytes:
    pages = [record for record in records if record is not None]
    content = {
        "info": {"description": "procedural scenes in the COCO panoptic format", "version": "1.0", "year": year},
        "licenses": [],
        "images": [page["image"] for page in pages],
        "annotations": [page["annotation"] for page in pages],
        "categories": encodings.categories(dataset),
    }
    return json.dumps(content, separators=(",", ":")).encode()


def _config(dataset: str) -> bytes:
    """Mapillary's class list: 1.1 and 1.2 differ in the names only."""
    readable = release_classes("mapillary-public65")
    names = [name for name, _ in release_classes("mapillary-19")]
    labels = [
        {"color": colour, "instances": False, "readable": word, "name": name, "evaluate": i < len(names) - 1}
        for i, ((word, colour), name) in enumerate(zip(readable, names, strict=True))
    ]
    version = "1.1" if dataset == "mapillary-public65" else "1.2"
    content = {"labels": labels, "version": version, "mapping": "public", "folder_structure": "{split}/{content}"}
    return json.dumps(content).encode()


LAYOUTS = {name: entry(Layout, "layouts", name) for name in table("layouts")}
DATASETS = tuple(LAYOUTS)
DEMO = DATASETS[:7]
