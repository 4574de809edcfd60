"""The trees are read back with nothing of ours but the class tables."""

import io
import json
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from segstream.shards.synthetic import draw, encodings
from segstream.shards.synthetic.canvas import Camera, Canvas
from segstream.shards.synthetic.objects import draw_object
from segstream.shards.synthetic.textures import Material
from segstream.shards.taxonomy import load_taxonomy, release_remap

COUNT = 3
ROADS = range(34)  # Cityscapes label ids


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("raw")
    for dataset in (
        "ade20k-150", "coco-panoptic-133", "cityscapes-19", "sunrgbd-37", "camvid-11", "voc2012", "kitti-19"
    ):  # fmt: skip
        draw(out, dataset, train=COUNT, val=COUNT, seed=9, workers=1)
    return out


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def check_pair(image: Path, label: Path, mode: str) -> np.ndarray:
    with Image.open(image) as photo, Image.open(label) as truth:
        assert photo.mode == "RGB"
        assert truth.mode == mode
        assert photo.size == truth.size
        assert photo.format == {".jpg": "JPEG", ".png": "PNG"}[image.suffix]
        assert np.asarray(photo).std() > 5
        return np.asarray(truth)


def known(dataset: str) -> set[int]:
    table = release_remap(dataset).table
    return set(np.flatnonzero(table >= 0).tolist())


def test_ade20k(raw: Path) -> None:
    root = raw / "ade20k-150"
    for split, prefix in (("training", "ADE_train_"), ("validation", "ADE_val_")):
        for i in range(1, COUNT + 1):
            stem = f"{prefix}{i:08d}"
            label = check_pair(root / f"images/{split}/{stem}.jpg", root / f"annotations/{split}/{stem}.png", "L")
            assert label.max() <= 150
            assert len(np.unique(label)) >= 3


def test_coco_panoptic(raw: Path) -> None:
    root = raw / "coco-panoptic-133"
    table = release_remap("coco-panoptic-133").table
    release = set(np.flatnonzero((table >= 0) & (table < 255)).tolist())  # 255: numbers that COCO never gave out
    for split in ("train2017", "val2017"):
        page = json.loads((root / f"annotations/panoptic_{split}.json").read_text())
        assert {category["id"] for category in page["categories"]} == release
        assert sum(category["isthing"] for category in page["categories"]) == 80
        names = {category["id"]: category["name"] for category in page["categories"]}
        assert (names[1], names[67], names[184]) == ("person", "dining table", "tree-merged")
        sizes = {image["id"]: (image["height"], image["width"], image["file_name"]) for image in page["images"]}
        assert len(page["annotations"]) == COUNT == len(sizes)
        for annotation in page["annotations"]:
            height, width, file_name = sizes[annotation["image_id"]]
            path = root / f"annotations/panoptic_{split}" / annotation["file_name"]
            pixels = check_pair(root / f"images/{split}" / file_name, path, "RGB").astype(np.int64)
            assert pixels.shape == (height, width, 3)
            segments = pixels @ np.array([1, 256, 65536])
            found, areas = np.unique(segments, return_counts=True)
            area_of = dict(zip(found.tolist(), areas.tolist(), strict=True))
            area_of.pop(0, None)
            infos = {info["id"]: info for info in annotation["segments_info"]}
            assert len(infos) == len(annotation["segments_info"])
            assert {number: info["area"] for number, info in infos.items()} == area_of
            stuff = [info["category_id"] for info in infos.values() if info["category_id"] > 90]
            assert len(stuff) == len(set(stuff)), "a class of stuff is one segment"
            for number, info in infos.items():
                assert info["iscrowd"] == 0
                assert info["category_id"] in release
                rows, columns = ndimage.find_objects((segments == number).astype(int))[0]
                box = [columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start]
                assert info["bbox"] == box


def test_a_thing_of_two_parts_is_one_segment_and_two_things_are_two() -> None:
    canvas = Canvas(80, 60, Random(1))
    canvas.begin("wall")
    canvas.poly([(0, 0), (80, 0), (80, 60), (0, 60)], Material((90, 90, 90), (0, 0, 0)))
    camera = Camera(focal=80, centre=40, horizon=20, height=1.0)
    for x in (-0.5, 0.5):
        draw_object(canvas, camera, "potted_plant", (x, 2.2), Random(2))
    scene = canvas.finish()
    assert {"potted_plant", "potted_plant/leaves"} <= set(scene.concepts)
    record = encodings.panoptic_record("coco-panoptic-133", scene, "000000000001")
    infos = record["annotation"]["segments_info"]
    assert sorted(info["category_id"] for info in infos) == [64, 64, 199]
    assert sum(info["area"] for info in infos) == 80 * 60
    with Image.open(io.BytesIO(encodings.index("ade20k-150", scene))) as ade:
        assert set(np.unique(ade)) == {1, 18, 126}, "wall, plant, pot"


def test_cityscapes(raw: Path) -> None:
    root = raw / "cityscapes-19"
    for split, cities in (("train", None), ("val", {"frankfurt", "lindau", "munster"})):
        images = sorted((root / "leftImg8bit" / split).glob("*/*_leftImg8bit.png"))
        assert len(images) == COUNT
        for image in images:
            city = image.parent.name
            assert image.name.startswith(f"{city}_")
            assert cities is None or city in cities
            stem = image.name.removesuffix("_leftImg8bit.png")
            label = check_pair(image, root / f"gtFine/{split}/{city}/{stem}_gtFine_labelIds.png", "L")
            assert set(np.unique(label)) <= set(ROADS)
            assert (label[-1] == 1).all(), "the bonnet of the camera's own car"


def test_sunrgbd(raw: Path) -> None:
    root = raw / "sunrgbd-37"
    assert sorted(path.name for path in (root / "image/test").iterdir()) == [
        "img-000001.jpg", "img-000025.jpg", "img-000026.jpg"
    ]  # fmt: skip
    for split in ("train", "test"):
        for image in (root / "image" / split).iterdir():
            number = int(image.stem.removeprefix("img-"))
            label = check_pair(image, root / f"label38/{split}/{number:08d}.png", "L")
            assert label.max() <= 37


def test_camvid(raw: Path) -> None:
    root = raw / "camvid-11"
    kept = {(128, 0, 0), (128, 128, 0), (128, 128, 128), (64, 0, 128), (192, 128, 128), (128, 64, 128)}
    kept |= {(64, 64, 0), (64, 64, 128), (192, 192, 128), (0, 0, 192), (0, 128, 192)}
    others = {(0, 0, 0), (128, 0, 192), (192, 192, 0), (64, 128, 192), (192, 128, 192), (192, 64, 128), (0, 64, 64)}
    others |= {(64, 192, 0), (192, 0, 192)}
    images = sorted((root / "701_StillsRaw_full").glob("*.png"))
    assert [path.stem for path in images[:2]] == ["0001TP_006690", "0001TP_006720"]
    assert len(images) == 2 * COUNT
    seen: set[tuple[int, ...]] = set()
    for image in images:
        label = check_pair(image, root / f"Labels32-RGB/{image.stem}_L.png", "RGB")
        seen |= {tuple(colour) for colour in np.unique(label.reshape(-1, 3), axis=0).tolist()}
    assert seen <= kept | others
    assert (128, 64, 128) in seen


def test_voc_outlines_every_object(raw: Path) -> None:
    root = raw / "voc2012"
    images = sorted((root / "JPEGImages").glob("*.jpg"))
    assert len(images) == 2 * COUNT
    objects = 0
    for image in images:
        label = check_pair(image, root / f"SegmentationClassAug/{image.stem}.png", "L")
        assert set(np.unique(label)) <= {*range(21), 255}
        void = label == 255
        assert void.mean() < 0.25
        for number in set(np.unique(label)) - {0, 255}:
            objects += 1
            rim = ndimage.binary_dilation(label == number, np.ones((3, 3))) & (label != number)
            assert void[rim].all(), "an object's outer rim is void"
        thickest = ndimage.distance_transform_cdt(void, "chessboard").max() if void.any() else 0
        assert thickest <= 4, "a line, not a region"
    assert objects >= COUNT


def test_kitti(raw: Path) -> None:
    root = raw / "kitti-19" / "training"
    images = sorted((root / "image_2").glob("*_10.png"))
    assert len(images) == 2 * COUNT
    for image in images:
        label = check_pair(image, root / "semantic" / image.name, "L")
        assert set(np.unique(label)) <= set(ROADS)
        assert label.shape[1] > 3 * label.shape[0]


def test_every_class_name_that_is_written_is_the_datasets_own(raw: Path) -> None:
    labels = {
        "ade20k-150": "annotations/*/*.png",
        "cityscapes-19": "gtFine/*/*/*.png",
        "sunrgbd-37": "label38/*/*.png",
        "kitti-19": "training/semantic/*.png",
        "voc2012": "SegmentationClassAug/*.png",
    }
    for dataset, pattern in labels.items():
        paths = sorted((raw / dataset).glob(pattern))
        assert len(paths) == 2 * COUNT
        native: set[int] = set()
        for path in paths:
            ids = np.unique(read(path))
            assert set(ids.tolist()) <= known(dataset)
            native |= set(release_remap(dataset).table[ids].tolist())
        assert max(native - {255}) < load_taxonomy(dataset).num_classes
