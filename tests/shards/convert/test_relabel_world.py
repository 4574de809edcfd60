"""Segments of the embedded world, found in its native files with other means, relabelled by conversion."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from segstream.shards.convert.convert import convert
from segstream.shards.format.reader import open_shards
from segstream.shards.synthetic import draw
from segstream.shards.taxonomy import load_taxonomy
from tests.shards.synthetic.truth import tiny

RELABELLED = (
    "ade20k-150",
    "bdd",
    "cityscapes-19",
    "coco-panoptic-133",
    "idd-39",
    "mapillary-public65",
    "sunrgbd-37",
)
UNIVERSAL = load_taxonomy("universal").classes
HEADER = "dataset,split,original_class,new_class,parent,image_stem,segment_id"


def array(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def segments(dataset: str, raw: Path, size_hw: tuple[int, int]) -> tuple[str, str, dict[int, np.ndarray]]:
    """(parent, stem, mask by segment id) of the only training image."""

    def one(pattern: str) -> Path:
        (path,) = raw.glob(pattern)
        return path

    def by_value(ids: np.ndarray) -> dict[int, np.ndarray]:
        return {int(i): ids == i for i in np.unique(ids)}

    if dataset == "ade20k-150":
        path = one("ADE20K_2016_07_26/images/training/**/*_seg.png")
        blue = array(path)[..., 2]
        rows, columns = (np.floor(np.arange(n) * (m / n)).astype(int) for n, m in zip(size_hw, blue.shape, strict=True))
        masks = by_value(blue[rows][:, columns])
        return "training", path.stem.removesuffix("_seg"), {i: m for i, m in masks.items() if m.sum() >= 10}
    if dataset == "bdd":
        path = one("seg/labels/train/*_train_id.png")
        return "train", path.stem.removesuffix("_train_id"), by_value(array(path))
    if dataset == "sunrgbd-37":
        image = one("image/train/*.jpg")
        masks = by_value(array(one("label38/train/*.png")))
        return "train", image.stem, {i - 1: mask for i, mask in masks.items() if i}
    if dataset == "coco-panoptic-133":
        path = one("annotations/panoptic_train2017/*.png")
        red, green, blue = np.moveaxis(array(path).astype(int), -1, 0)
        return "train2017", path.stem, by_value(red + 256 * green + 65536 * blue)
    if dataset == "mapillary-public65":
        path = one("training/instances/*.png")
        return "labels", path.stem, by_value(array(path).astype(int))
    path = one("gtFine/train/**/*_polygons.json")
    content = json.loads(path.read_text())
    masks = {}
    for place, found in enumerate(content["objects"]):
        canvas = Image.new("L", (content["imgWidth"], content["imgHeight"]))
        ImageDraw.Draw(canvas).polygon([tuple(p) for p in found["polygon"]], fill=1, outline=1)
        masks[found.get("id", place)] = np.asarray(canvas) > 0
    return path.parent.name, path.name.replace("_gtFine_polygons.json", "_leftImg8bit"), masks


def label(url: str, name: str) -> np.ndarray:
    with open_shards(url) as shards:
        return np.asarray(Image.open(io.BytesIO(shards.read(0, name))))


@pytest.mark.parametrize("dataset", RELABELLED)
def test_every_segment_of_a_drawn_image(tmp_path: Path, dataset: str) -> None:
    with tiny():
        draw(tmp_path, dataset, train=1, val=0, seed=3, workers=1)
    raw, out = tmp_path / dataset, str(tmp_path / "out")
    truth = label(convert(dataset=dataset, split="train", raw=raw, out=out).url, "universal").copy()
    parent, stem, masks = segments(dataset, raw, truth.shape)
    new = load_taxonomy(f"{dataset}-relabeled").classes
    rows = []
    for segment, mask in masks.items():
        inside = set(truth[mask].tolist())
        if len(inside) != 1 or not inside <= {*range(len(UNIVERSAL))}:
            continue  # overlapping polygons, or pixels that are no class before
        name, target = UNIVERSAL[inside.pop()], new[len(rows) % len(new)]
        rows.append(f"{dataset},train,{name},{target},{parent},{stem},{segment}")
    assert len(rows) > 1
    for row in rows:  # in file order: where polygons overlap, the last one wins
        values = row.split(",")
        truth[masks[int(values[-1])]] = UNIVERSAL.index(values[3])
    records = tmp_path / "records.csv"
    records.write_text("\n".join([HEADER, *rows, ""]))
    summary = convert(dataset=dataset, split="train", raw=raw, out=out, relabel=records)
    assert summary.relabel is not None
    assert (summary.relabel.applied, summary.relabel.reported) == (len(rows), {})
    np.testing.assert_array_equal(label(summary.url, "universal-relabeled"), truth)
