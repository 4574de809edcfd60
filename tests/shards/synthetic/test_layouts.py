"""The trees are read back with nothing of ours but the class tables: what our converters make no use of.

Names and places of files, the coding of labels, and that these are what was drawn, are tested with the converters, for
all datasets (test_world_conversion.py).
"""

import io
import json
from pathlib import Path
from random import Random

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy import ndimage

from segstream.shards.synthetic import draw, encodings
from segstream.shards.synthetic.canvas import Camera, Canvas
from segstream.shards.synthetic.draw import draw_scene
from segstream.shards.synthetic.label_ids import class_of
from segstream.shards.synthetic.objects import draw_object
from segstream.shards.synthetic.textures import Material
from segstream.shards.taxonomy import release_classes, release_remap
from tests.shards.synthetic.truth import tiny

COUNT, SEED = 3, 2


def drawn(root: Path, dataset: str) -> Path:
    """The root of a release."""
    with tiny():
        draw(root, dataset, train=COUNT, val=COUNT, seed=SEED, workers=1)
    return root / dataset


def read(path: Path, mode: str) -> np.ndarray:
    with Image.open(path) as image:
        assert image.mode == mode, path
        assert image.format == {".jpg": "JPEG", ".png": "PNG"}[path.suffix]
        return np.asarray(image)


def paint(frame: dict, ids: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """Rasterise polygons as a release's tools do, and with OpenCV."""
    image = Image.new("L", (frame["imgWidth"], frame["imgHeight"]), 254)
    array = np.full(image.size[::-1], 254, np.uint8)
    for item in frame["objects"]:
        if not item.get("deleted") and len(item["polygon"]) > 2:
            label = item["label"]
            value = ids[label] if label in ids else ids[label.removesuffix("group")]
            ImageDraw.Draw(image).polygon([tuple(point) for point in item["polygon"]], fill=value)
            cv2.fillPoly(array, [np.array(item["polygon"], np.int32)], value)
    return np.asarray(image), array


@pytest.mark.parametrize("dataset", ["coco-panoptic-133", "wilddash2-19"])
def test_panoptic_segments(tmp_path: Path, dataset: str) -> None:
    root, coco = drawn(tmp_path, dataset), dataset.startswith("coco")
    ends = ("_train2017", "_val2017") if coco else ("",)
    for end in ends:
        page = json.loads((root / ("annotations" if coco else "") / f"panoptic{end}.json").read_text())
        names = {category["id"]: category["name"] for category in page["categories"]}
        if coco:
            table = release_remap(dataset).table  # 255: numbers that COCO never gave out
            assert set(names) == set(np.flatnonzero((table >= 0) & (table < 255)).tolist())
            assert sum(category["isthing"] for category in page["categories"]) == 80
            assert (names[1], names[67], names[184]) == ("person", "dining table", "tree-merged")
        else:
            assert (len(names), names[7], names[38], names[80]) == (81, "road", "roadmarking", "curbcut")
        sizes = {image["id"]: (image["height"], image["width"], image["file_name"]) for image in page["images"]}
        assert len(page["annotations"]) == len(sizes) == 2 * COUNT // len(ends)
        for annotation in page["annotations"]:
            *size, file_name = sizes[annotation["image_id"]]
            photos, masks = (f"images/{end[1:]}", f"annotations/panoptic{end}") if coco else ("images", "panoptic")
            pixels = read(root / masks / annotation["file_name"], "RGB").astype(np.int64)
            assert [*read(root / photos / file_name, "RGB").shape] == [*pixels.shape] == [*size, 3]
            segments = pixels @ np.array([1, 256, 65536])
            infos = {info["id"]: info for info in annotation["segments_info"]}
            assert len(infos) == len(annotation["segments_info"])
            assert infos.keys() == set(np.unique(segments).tolist()) - {0}
            stuff = [info["category_id"] for info in infos.values() if info["category_id"] > 90]
            assert len(stuff) == len(set(stuff)), "a class of stuff is one segment"
            for number, info in infos.items():
                mask = segments == number
                rows, columns = ndimage.find_objects(mask.astype(int))[0]
                assert info["bbox"] == [columns.start, rows.start, *(s.stop - s.start for s in (columns, rows))]
                assert (info["area"], info["iscrowd"]) == (mask.sum(), 0)
                assert info["category_id"] in names
    if not coco:
        listed = [(root / f"random_split/{part}.txt").read_text().split() for part in ("training", "validation")]
        assert [len(part) for part in listed] == [COUNT, COUNT]
        assert {f"{stem}.jpg" for part in listed for stem in part} == {name for _, _, name in sizes.values()}


def test_a_thing_of_two_classes_is_one_segment_and_two_things_are_two() -> None:
    canvas = Canvas(80, 60, Random(1))
    canvas.begin("wall")
    canvas.poly([(0, 0), (80, 0), (80, 60), (0, 60)], Material((90, 90, 90), (0, 0, 0)))
    camera = Camera(focal=80, centre=40, horizon=20, height=1.0)
    for x in (-0.5, 0.5):
        draw_object(canvas, camera, "potted_plant", (x, 2.2), Random(2))
    scene = canvas.finish()
    assert {"potted_plant", "potted_plant/leaves"} <= set(scene.concepts)
    infos = encodings.panoptic_record("coco-panoptic-133", scene, "000000000001")["annotation"]["segments_info"]
    assert sorted(info["category_id"] for info in infos) == [64, 64, 199]
    assert sum(info["area"] for info in infos) == 80 * 60
    with Image.open(io.BytesIO(encodings.index("ade20k-150", scene))) as ade:
        assert set(np.unique(ade)) == {1, 18, 126}, "wall, plant, pot"


def test_cityscapes_polygons_painted_in_order_are_the_label_ids(tmp_path: Path) -> None:
    root, ids = (
        drawn(tmp_path, "cityscapes-19"),
        {name: i for i, (name, _) in enumerate(release_classes("cityscapes-19"))},
    )
    paths = sorted((root / "gtFine").rglob("*_gtFine_polygons.json"))
    assert len(paths) == 2 * COUNT
    labels = set()
    for path in paths:
        label = read(path.with_name(path.name.replace("polygons.json", "labelIds.png")), "L")
        frame = json.loads(path.read_text())
        assert all(np.array_equal(painted, label) for painted in paint(frame, ids))
        assert (label[-1] == 1).all(), "the bonnet of the camera's own car"
        assert all(set(item) == {"label", "polygon"} for item in frame["objects"])
        labels |= {item["label"] for item in frame["objects"]}
    assert {label for label in labels if label.endswith("group")} - {"polegroup"}
    assert {label.removesuffix("group") for label in labels} <= set(ids)
    other = drawn(tmp_path, "cityscapes-34")  # the same download
    for path in root.rglob("*.*"):
        assert path.name == "world.json" or (other / path.relative_to(root)).read_bytes() == path.read_bytes()


def test_idd_ships_polygons_with_ids_and_objects_that_were_given_up(tmp_path: Path) -> None:
    ids = {name: i for i, (name, _) in enumerate(release_classes("idd-39"))}
    root, labels = drawn(tmp_path, "idd-39"), set()
    assert not list((root / "gtFine").rglob("*.png"))
    for i, path in enumerate(sorted((root / "gtFine/val").rglob("*_gtFine_polygons.json"))):
        frame = json.loads(path.read_text())
        objects = frame["objects"]
        numbers = [item["id"] for item in objects]
        assert len(set(numbers)) == len(numbers)
        assert numbers != list(range(len(numbers)))
        assert any(item["deleted"] for item in objects)
        assert any(len(item["polygon"]) < 3 for item in objects)
        with tiny():
            scene, _ = draw_scene("idd-39", "val", i, SEED)
        truth = np.array([ids[class_of("idd-39", c) or "unlabeled"] for c in scene.concepts])[scene.segments]
        assert np.array_equal(paint(frame, ids)[0], truth)
        labels |= {item["label"] for item in objects}
    assert {label for label in labels if label.endswith("group")} - {"polegroup"}


@pytest.mark.parametrize(("dataset", "version"), [("mapillary-public65", "1.1"), ("mapillary-19", "1.2")])
def test_mapillary_says_its_version_and_1_1_has_instances(tmp_path: Path, dataset: str, version: str) -> None:
    root = drawn(tmp_path, dataset)
    assert json.loads((root / "config.json").read_text())["version"] == version
    labels = sorted(root.glob("*/labels/*.png"))
    assert {len(path.stem) for path in labels} == {22}
    assert any(path.name.startswith("-") for path in labels)
    assert len(list(root.glob("*/instances/*"))) == (len(labels) if version == "1.1" else 0)
    for path in labels if version == "1.1" else ():
        label, instances = read(path, "P"), read(path.parents[1] / "instances" / path.name, "I;16")
        assert np.array_equal(instances >> 8, label)
        for code in np.unique(label):
            numbers = np.unique(instances[label == code] & 255).tolist()
            assert numbers == list(range(len(numbers)))


def test_ade20ks_full_release_is_twice_as_large_and_numbers_instances(tmp_path: Path) -> None:
    root = drawn(tmp_path, "ade20k-150")
    masks = sorted((root / "ADE20K_2016_07_26/images").rglob("*_seg.png"))
    assert len(masks) == 2 * COUNT
    instances = 0
    for path in masks:
        split = path.relative_to(root / "ADE20K_2016_07_26/images").parts[0]
        label = read(root / f"annotations/{split}/{path.name.removesuffix('_seg.png')}.png", "L")
        red, green, blue = np.moveaxis(read(path, "RGB").astype(int), 2, 0)
        assert np.array_equal(red // 10 * 256 + green, label.repeat(2, 0).repeat(2, 1))
        assert np.array_equal(blue == 0, green == 0)
        of_classes = {(b, g) for b, g in zip(blue.flat, green.flat, strict=True) if b}
        assert len(of_classes) == len({b for b, _ in of_classes}), "an instance is of one class"
        instances += len(of_classes)
    assert instances > 2 * COUNT
