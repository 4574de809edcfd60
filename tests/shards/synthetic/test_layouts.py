"""The trees are read back with nothing of ours but the class tables.

That labels are what was drawn, for all datasets, is tested with their converters (test_world_conversion.py).
"""

import io
import json
import re
from pathlib import Path
from random import Random

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy import ndimage
from scipy.io import loadmat

from segstream.shards.datasets.layout import split_list
from segstream.shards.synthetic import DATASETS, draw, encodings
from segstream.shards.synthetic.canvas import Camera, Canvas
from segstream.shards.synthetic.draw import draw_scene
from segstream.shards.synthetic.label_ids import class_of
from segstream.shards.synthetic.objects import draw_object
from segstream.shards.synthetic.textures import Material
from segstream.shards.taxonomy import release_classes, release_remap
from tests.shards.shared import SAMPLES, needs_mseg
from tests.shards.synthetic.truth import tiny

COUNT, SEED = 3, 2
CITYSCAPES_IDS, TRAIN_IDS = set(range(34)), {*range(19), 255}
BOTH, VAL_ONLY = 2 * COUNT, COUNT
# dataset: images, pattern -> path of its label, the label's mode, the ids that it may hold, how many images
INDEX_LABELS = {
    "ade20k-150": ("images/*/*.jpg", r"images/(.*)\.jpg", r"annotations/\1.png", "L", set(range(151)), BOTH),
    "cityscapes-19": (
        "leftImg8bit/*/*/*.png", r"leftImg8bit/(.*)leftImg8bit", r"gtFine/\1gtFine_labelIds", "L", CITYSCAPES_IDS, BOTH
    ),
    "sunrgbd-37": ("image/*/*.jpg", r"image/(.*)/img-(.*)\.jpg", r"label38/\1/00\2.png", "L", set(range(38)), BOTH),
    "voc2012": (
        "JPEGImages/*.jpg", r"JPEGImages/(.*)\.jpg", r"SegmentationClassAug/\1.png", "L", {*range(21), 255}, BOTH
    ),
    "kitti-19": ("training/image_2/*_10.png", "image_2", "semantic", "L", CITYSCAPES_IDS, BOTH),
    "wilddash-19": ("wd_val_01/*.png", r"\.png", "_labelIds.png", "L", CITYSCAPES_IDS, VAL_ONLY),
    "scannet-20": ("*/*/color/*.jpg", r"color/(.*)\.jpg", r"label/\1.png", "L", set(range(41)), BOTH),
    "gta5-19": ("images/?????.png", "images", "labels", "P", CITYSCAPES_IDS, BOTH),
    "bdd": ("seg/images/*/*.jpg", r"images/(.*)\.jpg", r"labels/\1_train_id.png", "L", TRAIN_IDS, BOTH),
    "bdd100k-19": (
        "images/10k/*/*.jpg", r"images/10k/(.*)\.jpg", r"labels/sem_seg/masks/\1.png", "L", TRAIN_IDS, BOTH
    ),
    "mapillary-public65": ("*/images/*.jpg", r"images/(.*)\.jpg", r"labels/\1.png", "P", set(range(66)), BOTH),
    "mapillary-19": ("*/images/*.jpg", r"images/(.*)\.jpg", r"labels/\1.png", "P", set(range(124)), BOTH),
}  # fmt: skip
IDD = (
    "road", "parking", "drivable fallback", "sidewalk", "rail track", "non-drivable fallback", "person", "animal",
    "rider", "motorcycle", "bicycle", "autorickshaw", "car", "truck", "bus", "caravan", "trailer", "train",
    "vehicle fallback", "curb", "wall", "fence", "guard rail", "billboard", "traffic sign", "traffic light", "pole",
    "polegroup", "obs-str-bar-fallback", "building", "bridge", "tunnel", "vegetation", "sky", "fallback background",
    "unlabeled", "ego vehicle", "rectification border", "out of roi", "license plate",
)  # fmt: skip


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("raw")
    with tiny():
        for dataset in DATASETS:
            draw(out, dataset, train=COUNT, val=COUNT, seed=SEED, workers=1)
    return out


def read(path: Path, mode: str) -> np.ndarray:
    with Image.open(path) as image:
        assert image.mode == mode, path
        assert image.format == {".jpg": "JPEG", ".png": "PNG"}[path.suffix]
        return np.asarray(image)


def files(root: Path) -> set[str]:
    return {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()} - {"world.json"}


def paint(path: Path, ids: dict[str, int], canvas: str = "pillow") -> np.ndarray:
    """Rasterise a polygon file as its release's tools do, or with OpenCV."""
    frame = json.loads(path.read_text())
    image = Image.new("L", (frame["imgWidth"], frame["imgHeight"]), 254)
    array = np.full(image.size[::-1], 254, np.uint8)
    for item in frame["objects"]:
        if item.get("deleted") or len(item["polygon"]) < 3:
            continue
        label = item["label"]
        value = ids[label] if label in ids else ids[label.removesuffix("group")]
        ImageDraw.Draw(image).polygon([tuple(point) for point in item["polygon"]], fill=value)
        cv2.fillPoly(array, [np.array(item["polygon"], np.int32)], value)
    return np.asarray(image) if canvas == "pillow" else array


@pytest.mark.parametrize("dataset", INDEX_LABELS)
def test_every_image_has_a_label_of_known_ids(raw: Path, dataset: str) -> None:
    glob, pattern, replacement, mode, ids, count = INDEX_LABELS[dataset]
    images = sorted(p for p in (raw / dataset).glob(glob) if "labelIds" not in p.name)
    assert len(images) == count
    table = release_remap(dataset).table
    known: set[int] = set()
    for image in images:
        path = image.relative_to(raw / dataset).as_posix()
        label = read(raw / dataset / re.sub(pattern, replacement, path), mode)
        photo = read(image, "RGB")
        assert photo.shape == (*label.shape, 3)
        assert photo.std() > 5
        known |= set(np.unique(label).tolist())
    assert known <= ids
    assert (table[sorted(known)] != 255).sum() >= 4
    assert (table[sorted(known)] >= 0).all()


def test_names_are_those_of_the_releases(raw: Path) -> None:
    ade = files(raw / "ade20k-150")
    assert {"images/training/ADE_train_00000001.jpg", "annotations/validation/ADE_val_00000003.png"} <= ade
    assert sorted(p.name for p in (raw / "sunrgbd-37/image/test").iterdir()) == [
        "img-000001.jpg", "img-000025.jpg", "img-000026.jpg"
    ]  # fmt: skip
    cities = {p.parent.name for p in (raw / "cityscapes-19/leftImg8bit/val").glob("*/*")}
    assert cities == {"frankfurt", "lindau", "munster"}
    assert {p.stem for p in (raw / "wilddash-19/wd_val_01").glob("*.png") if "labelIds" not in p.stem} == set(
        (split_list("wilddash-19", "val") or ())[:COUNT]
    )
    scenes = {*(split_list("scannet-20", "train") or ())[:COUNT], *(split_list("scannet-20", "val") or ())[:COUNT]}
    assert {p.name for p in (raw / "scannet-20/scannet_frames_25k").iterdir()} == scenes
    bravo = files(raw / "bravo")
    assert {name.partition("/")[0] for name in bravo} == {"bravo_ACDC", "bravo_SMIYC", "bravo_outofcontext"}
    assert {Path(name).suffix for name in bravo} == {".png", ".jpg"}


@pytest.mark.parametrize(
    ("dataset", "end", "year"), [("coco-panoptic-133", "_{}2017", 2017), ("wilddash2-19", "", 2022)]
)
def test_panoptic_segments(raw: Path, dataset: str, end: str, year: int) -> None:
    root = raw / dataset
    coco = year == 2017
    for split in ("train", "val") if coco else ("",):
        page = json.loads((root / ("annotations" if coco else "") / f"panoptic{end.format(split)}.json").read_text())
        names = {category["id"]: category["name"] for category in page["categories"]}
        if coco:
            table = release_remap(dataset).table  # 255: numbers that COCO never gave out
            assert set(names) == set(np.flatnonzero((table >= 0) & (table < 255)).tolist())
            assert sum(category["isthing"] for category in page["categories"]) == 80
            assert (names[1], names[67], names[184]) == ("person", "dining table", "tree-merged")
        else:
            assert (len(names), names[7], names[38], names[80]) == (81, "road", "roadmarking", "curbcut")
        sizes = {image["id"]: (image["height"], image["width"], image["file_name"]) for image in page["images"]}
        assert len(page["annotations"]) == len(sizes) == (COUNT if coco else 2 * COUNT)
        for annotation in page["annotations"]:
            *size, file_name = sizes[annotation["image_id"]]
            folders = (f"images/{split}2017", f"annotations/panoptic_{split}2017") if coco else ("images", "panoptic")
            pixels = read(root / folders[1] / annotation["file_name"], "RGB").astype(np.int64)
            assert [*read(root / folders[0] / file_name, "RGB").shape] == [*pixels.shape] == [*size, 3]
            segments = pixels @ np.array([1, 256, 65536])
            found, areas = np.unique(segments[segments > 0], return_counts=True)
            infos = {info["id"]: info for info in annotation["segments_info"]}
            assert len(infos) == len(annotation["segments_info"])
            assert {n: info["area"] for n, info in infos.items()} == dict(
                zip(found.tolist(), areas.tolist(), strict=True)
            )
            stuff = [info["category_id"] for info in infos.values() if info["category_id"] > 90]
            assert len(stuff) == len(set(stuff)), "a class of stuff is one segment"
            for number, info in infos.items():
                assert info["iscrowd"] == 0
                assert info["category_id"] in names
                rows, columns = ndimage.find_objects((segments == number).astype(int))[0]
                box = [columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start]
                assert info["bbox"] == box
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


@pytest.mark.parametrize("canvas", ["pillow", "opencv"])
def test_cityscapes_polygons_painted_in_order_are_the_label_ids(raw: Path, canvas: str) -> None:
    ids = {name: i for i, (name, _) in enumerate(release_classes("cityscapes-19"))}
    paths = sorted((raw / "cityscapes-19/gtFine").rglob("*_gtFine_polygons.json"))
    assert len(paths) == 2 * COUNT
    labels = set()
    for path in paths:
        label = read(path.with_name(path.name.replace("polygons.json", "labelIds.png")), "L")
        assert np.array_equal(paint(path, ids, canvas), label)
        assert (label[-1] == 1).all(), "the bonnet of the camera's own car"
        objects = json.loads(path.read_text())["objects"]
        assert all(set(item) == {"label", "polygon"} for item in objects)
        labels |= {item["label"] for item in objects}
    assert {label for label in labels if label.endswith("group")} - {"polegroup"}
    assert {label.removesuffix("group") for label in labels} <= set(ids)


def test_cityscapes_34_is_the_same_download(raw: Path) -> None:
    assert files(raw / "cityscapes-34") == files(raw / "cityscapes-19")
    for name in files(raw / "cityscapes-34"):
        assert (raw / "cityscapes-34" / name).read_bytes() == (raw / "cityscapes-19" / name).read_bytes()


@pytest.mark.parametrize(("dataset", "end"), [("idd-39", ".png"), ("idd-19", ".jpg")])
def test_idd_ships_polygons_alone(raw: Path, dataset: str, end: str) -> None:
    ids = {name: i for i, name in enumerate(IDD)}
    labels = set()
    assert not list((raw / dataset / "gtFine").rglob("*.png"))
    for split in ("train", "val"):
        drawn = sorted((raw / dataset / "gtFine" / split).rglob("*_gtFine_polygons.json"))
        assert len(drawn) == COUNT
        for i, path in enumerate(drawn):
            frame = json.loads(path.read_text())
            photo = (
                str(path).replace("/gtFine/", "/leftImg8bit/").replace("_gtFine_polygons.json", f"_leftImg8bit{end}")
            )
            assert read(Path(photo), "RGB").shape[:2] == (frame["imgHeight"], frame["imgWidth"])
            objects = frame["objects"]
            numbers = [item["id"] for item in objects]
            assert len(set(numbers)) == len(numbers)
            assert numbers != list(range(len(numbers)))
            assert any(item["deleted"] for item in objects)
            assert any(len(item["polygon"]) < 3 for item in objects)
            with tiny():
                scene, _ = draw_scene(dataset, split, i, SEED)
            truth = np.array([ids[class_of(dataset, c) or "unlabeled"] for c in scene.concepts])[scene.segments]
            assert np.array_equal(paint(path, ids), truth)
            labels |= {item["label"] for item in objects}
    assert {label for label in labels if label.endswith("group")} - {"polegroup"}


@pytest.mark.parametrize(("dataset", "version"), [("mapillary-public65", "1.1"), ("mapillary-19", "1.2")])
def test_mapillary(raw: Path, dataset: str, version: str) -> None:
    root = raw / dataset
    config = json.loads((root / "config.json").read_text())
    colours, names, readable = ([label[k] for label in config["labels"]] for k in ("color", "name", "readable"))
    assert (names[13], readable[13], colours[13]) == ("construction--flat--road", "Road", [128, 64, 128])
    assert (names[65], readable[65]) == ("void--unlabeled", "Unlabeled")
    assert config["version"] == version
    for path in root.glob("*/labels/*.png"):
        assert len(path.stem) == 22
        label = read(path, "P")
        with Image.open(path) as image:
            assert np.array_equal(np.asarray(image.convert("RGB")), np.array(colours, np.uint8)[label])
        if dataset == "mapillary-19":
            assert not path.parents[1].joinpath("instances").exists()
            continue
        instances = read(path.parents[1] / "instances" / path.name, "I;16")
        assert np.array_equal(instances >> 8, label)
        for code in np.unique(label):
            numbers = np.unique(instances[label == code] & 255).tolist()
            assert numbers == list(range(len(numbers)))
    assert any(path.name.startswith("-") for path in root.rglob("*.jpg"))


@needs_mseg
def test_mapillarys_class_list_is_the_released_one(raw: Path) -> None:
    released = json.loads((SAMPLES / "mapillary-vistas-dataset_public_v1.1_config.json").read_text())["labels"]
    ours = json.loads((raw / "mapillary-public65/config.json").read_text())["labels"]
    for key in ("color", "readable", "name"):
        assert [label[key] for label in ours] == [label[key] for label in released]


def test_pascal_context(raw: Path) -> None:
    root = raw / "pascal-context-60"
    expected = [stem for part in ("train", "val") for stem in (split_list("pascal-context-60", part) or ())[:COUNT]]
    assert files(root) == {f"{f}" for s in expected for f in (f"JPEGImages/{s}.jpg", f"trainval/{s}.mat")}
    seen: set[int] = set()
    for stem in expected:
        label = loadmat(root / f"trainval/{stem}.mat")["LabelMap"]
        assert label.dtype == np.uint16
        assert label.shape == read(root / f"JPEGImages/{stem}.jpg", "RGB").shape[:2]
        seen |= set(np.unique(label).tolist())
    assert seen <= set(range(460))
    assert max(seen) > 255, "more than eight bits are needed"


def test_ade20ks_full_release_names_instances(raw: Path) -> None:
    root = raw / "ade20k-150"
    masks = sorted((root / "ADE20K_2016_07_26/images").rglob("*_seg.png"))
    assert len(masks) == 2 * COUNT
    instances = 0
    for path in masks:
        split, letter = path.relative_to(root / "ADE20K_2016_07_26/images").parts[:2]
        assert len(letter) == 1 or letter == "outliers"
        label = read(root / f"annotations/{split}/{path.name.removesuffix('_seg.png')}.png", "L")
        full = read(path, "RGB")
        assert full.shape[:2] == (2 * label.shape[0], 2 * label.shape[1])
        small = full[::2, ::2].astype(int)
        assert np.array_equal(small[..., 0] // 10 * 256 + small[..., 1], label)
        blue = small[..., 2]
        assert np.array_equal(blue == 0, label == 0)
        for number in np.unique(blue[blue > 0]):
            assert len(np.unique(label[blue == number])) == 1
        instances += len(np.unique(blue))
    assert instances > 2 * COUNT
