"""The trees of the datasets that the demo does not use, and the files for relabelling; read back without our code."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy.io import loadmat

from segstream.shards.datasets.layout import split_list
from segstream.shards.synthetic import DEMO, draw
from segstream.shards.synthetic.draw import draw_scene
from segstream.shards.synthetic.label_ids import class_of
from segstream.shards.taxonomy import release_classes
from tests.shards.shared import SAMPLES, needs_mseg
from tests.shards.synthetic.truth import tiny

COUNT, SEED = 3, 2
OTHERS = (
    "cityscapes-34", "bdd", "idd-39", "mapillary-public65", "pascal-context-60", "wilddash-19", "scannet-20",
    "gta5-19", "shift-19", "mapillary-19", "bdd100k-19", "idd-19", "wilddash2-19", "bravo",
)  # fmt: skip
TRAIN_IDS = {*range(19), 255}
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
        for dataset in (*OTHERS, "cityscapes-19", "ade20k-150"):
            draw(out, dataset, train=COUNT, val=COUNT, seed=SEED, workers=1)
    return out


def read(path: Path, mode: str) -> np.ndarray:
    with Image.open(path) as image:
        assert image.mode == mode, path
        return np.asarray(image)


def files(root: Path) -> set[str]:
    return {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()} - {"world.json"}


def pairs(root: Path, images: str, labels: str, image_end: str, label_end: str) -> list[Path]:
    """Labels of all images below a folder: a label for each image and an image for each label."""
    left = {str(p.relative_to(root / images)).removesuffix(image_end) for p in (root / images).rglob(f"*{image_end}")}
    right = {str(p.relative_to(root / labels)).removesuffix(label_end) for p in (root / labels).rglob(f"*{label_end}")}
    assert left == right
    assert len(left) == COUNT
    return [root / labels / f"{name}{label_end}" for name in sorted(left)]


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


def test_all_are_tested_here_or_with_the_demos() -> None:
    from segstream.shards.datasets.registry import registry

    assert set(OTHERS) | set(DEMO) == set(registry())


@pytest.mark.parametrize("canvas", ["pillow", "opencv"])
def test_cityscapes_polygons_painted_in_order_are_the_label_ids(raw: Path, canvas: str) -> None:
    ids = {name: i for i, (name, _) in enumerate(release_classes("cityscapes-19"))}
    paths = sorted((raw / "cityscapes-19/gtFine").rglob("*_gtFine_polygons.json"))
    assert len(paths) == 2 * COUNT
    labels = set()
    for path in paths:
        assert np.array_equal(
            paint(path, ids, canvas), read(path.with_name(path.name.replace("polygons.json", "labelIds.png")), "L")
        )
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
    for split in ("train", "val"):
        images, label_end = raw / dataset / "leftImg8bit" / split, "_gtFine_polygons.json"
        drawn = pairs(raw / dataset, f"leftImg8bit/{split}", f"gtFine/{split}", f"_leftImg8bit{end}", label_end)
        assert not list((raw / dataset / "gtFine" / split).rglob("*.png"))
        for i, path in enumerate(drawn):
            frame = json.loads(path.read_text())
            photo = images / path.parent.name / path.name.replace(label_end, f"_leftImg8bit{end}")
            assert read(photo, "RGB").shape[:2] == (frame["imgHeight"], frame["imgWidth"])
            objects = frame["objects"]
            assert len({item["id"] for item in objects}) == len(objects)
            assert [item["id"] for item in objects] != list(range(len(objects)))
            assert any(item["deleted"] for item in objects)
            assert any(len(item["polygon"]) < 3 for item in objects)
            with tiny():
                scene, _ = draw_scene(dataset, split, i, SEED)
            truth = np.array([ids[class_of(dataset, c) or "unlabeled"] for c in scene.concepts])[scene.segments]
            assert np.array_equal(paint(path, ids), truth)
            labels |= {item["label"] for item in objects}
    assert {label for label in labels if label.endswith("group")} - {"polegroup"}


@pytest.mark.parametrize(
    ("dataset", "images", "labels", "label_end"),
    [
        ("bdd", "seg/images/{}", "seg/labels/{}", "_train_id.png"),
        ("bdd100k-19", "images/10k/{}", "labels/sem_seg/masks/{}", ".png"),
    ],
)
def test_both_layouts_of_bdd(raw: Path, dataset: str, images: str, labels: str, label_end: str) -> None:
    seen: set[int] = set()
    for split in ("train", "val"):
        for path in pairs(raw / dataset, images.format(split), labels.format(split), ".jpg", label_end):
            seen |= set(np.unique(read(path, "L")).tolist())
    assert seen <= TRAIN_IDS
    assert {0, 2, 10, 13, 255} <= seen


@pytest.mark.parametrize("dataset", ["mapillary-public65", "mapillary-19"])
def test_mapillary(raw: Path, dataset: str) -> None:
    root = raw / dataset
    config = json.loads((root / "config.json").read_text())
    colours = [label["color"] for label in config["labels"]]
    names = [label["name"] for label in config["labels"]]
    readable = [label["readable"] for label in config["labels"]]
    assert (names[13], readable[13], colours[13]) == ("construction--flat--road", "Road", [128, 64, 128])
    assert (names[65], readable[65]) == ("void--unlabeled", "Unlabeled")
    assert config["version"] == {"mapillary-public65": "1.1", "mapillary-19": "1.2"}[dataset]
    for split in ("training", "validation"):
        for path in pairs(root, f"{split}/images", f"{split}/labels", ".jpg", ".png"):
            assert len(path.stem) == 22
            label = read(path, "P")
            with Image.open(path) as image:
                assert np.array_equal(np.asarray(image.convert("RGB")), np.array(colours, np.uint8)[label])
            if dataset == "mapillary-19":
                assert not (root / split / "instances").exists()
                continue
            with Image.open(root / split / "instances" / path.name) as image:
                assert image.mode == "I;16"
                instances = np.asarray(image)
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
    expected = [*split_list("pascal-context-60", "train")[:COUNT], *split_list("pascal-context-60", "val")[:COUNT]]
    assert files(root) == {f"{f}" for s in expected for f in (f"JPEGImages/{s}.jpg", f"trainval/{s}.mat")}
    seen: set[int] = set()
    for stem in expected:
        label = loadmat(root / f"trainval/{stem}.mat")["LabelMap"]
        assert label.dtype == np.uint16
        assert label.shape == read(root / f"JPEGImages/{stem}.jpg", "RGB").shape[:2]
        seen |= set(np.unique(label).tolist())
    assert seen <= set(range(460))
    assert max(seen) > 255, "more than eight bits are needed"


def test_wilddash(raw: Path) -> None:
    root = raw / "wilddash-19"
    listed = split_list("wilddash-19", "val")[:COUNT]
    assert files(root) == {f"wd_val_01/{stem}{end}" for stem in listed for end in (".png", "_labelIds.png")}
    for stem in listed:
        assert set(np.unique(read(root / f"wd_val_01/{stem}_labelIds.png", "L"))) <= set(range(34))


def test_scannet(raw: Path) -> None:
    frames = raw / "scannet-20" / "scannet_frames_25k"
    seen: set[int] = set()
    for split in ("train", "val"):
        for scene in split_list("scannet-20", split)[:COUNT]:
            assert files(frames / scene) == {"color/000000.jpg", "label/000000.png"}
            seen |= set(np.unique(read(frames / scene / "label/000000.png", "L")).tolist())
    assert seen <= set(range(41))
    assert {1, 2} <= seen, "wall and floor"


def test_gta5(raw: Path) -> None:
    root = raw / "gta5-19"
    split = loadmat(root / "split.mat")
    ids = {name: split[name].ravel().tolist() for name in ("trainIds", "valIds", "testIds")}
    assert [len(ids[name]) for name in ids] == [COUNT] * 3
    assert ids["testIds"] == ids["valIds"], "pictures are drawn for two splits only"
    stems = [f"{i:05d}" for name in ids for i in ids[name]]
    assert files(root) == {"split.mat", *(f"{part}/{stem}.png" for stem in stems for part in ("images", "labels"))}
    for stem in stems:
        assert read(root / f"images/{stem}.png", "RGB").ndim == 3
        assert set(np.unique(read(root / f"labels/{stem}.png", "P"))) <= set(range(34))


def test_shift(raw: Path) -> None:
    seen: set[int] = set()
    for split in ("train", "val"):
        folders = [f"discrete/{kind}/{split}/front" for kind in ("images", "labels")]
        for path in pairs(raw / "shift-19", *folders, "_img_front.jpg", "_semseg_front.png"):
            label = read(path, "RGBA")
            assert (label[..., 3] == 255).all()
            assert label[..., 1].any(), "what is not red is not a class"
            seen |= set(np.unique(label[..., 0]).tolist())
    assert seen <= set(range(23))
    assert {1, 6, 7, 10, 13} <= seen


def test_wilddash2(raw: Path) -> None:
    root = raw / "wilddash2-19"
    page = json.loads((root / "panoptic.json").read_text())
    names = {category["id"]: category["name"] for category in page["categories"]}
    assert (len(names), names[7], names[38], names[80]) == (81, "road", "roadmarking", "curbcut")
    listed = [(root / f"random_split/{part}.txt").read_text().split() for part in ("training", "validation")]
    assert [len(part) for part in listed] == [COUNT, COUNT]
    everything = {stem for part in listed for stem in part}
    assert {annotation["file_name"] for annotation in page["annotations"]} == {f"{stem}.png" for stem in everything}
    assert {path.stem for path in (root / "images").iterdir()} == everything
    for annotation in page["annotations"]:
        codes = read(root / "panoptic" / annotation["file_name"], "RGB").astype(np.int64) @ [1, 256, 65536]
        infos = {info["id"]: info["category_id"] for info in annotation["segments_info"]}
        assert set(np.unique(codes).tolist()) - {0} == set(infos)
        assert set(infos.values()) <= set(names)


def test_bravo(raw: Path) -> None:
    names = files(raw / "bravo")
    assert len(names) == COUNT
    assert {name.partition("/")[0] for name in names} == {"bravo_ACDC", "bravo_SMIYC", "bravo_outofcontext"}
    assert {Path(name).suffix for name in names} == {".png", ".jpg"}


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
