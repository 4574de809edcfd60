"""Relabelling: each dataset's segments in its native layout, against masks drawn by hand; totals; faults."""

import hashlib
import io
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segstream.shards.checks.verify import verify
from segstream.shards.convert.convert import convert
from segstream.shards.convert.relabel import Record, outcome_of
from segstream.shards.datasets.release import Release
from segstream.shards.datasets.sources import Edits
from segstream.shards.errors import DataError, UsageError
from segstream.shards.format.index import RelabelOutcome, merge_outcomes
from segstream.shards.format.left_out import BadSamplesError
from segstream.shards.format.reader import open_shards
from segstream.shards.taxonomy import load_taxonomy, release_classes
from tests.shards import trees
from tests.shards.datasets.test_samples import expected, histogram, released
from tests.shards.shared import SHARED

PUBLISHED = SHARED / "mseg/relabeled/records.csv.gz"
HEADER = "dataset,split,original_class,new_class,parent,image_stem,segment_id"
SIZE = (24, 32)
IDS = {**{name: i for i, name in enumerate(load_taxonomy("universal").classes)}, "unlabeled": 255}
NONE, PARTLY, GONE = "no such segment", "segment is not all of the original class", "no such image in this split"

needs_records = pytest.mark.skipif(not PUBLISHED.is_file(), reason="the published records are not here")


@dataclass
class Case:
    """One image with records, and what is to come out."""

    raw: Path
    rows: list[str]
    truth: np.ndarray
    """(H, W) class names."""
    applied: int
    reported: dict[str, int]


def rows(dataset, parent, stem, *records):
    """Lines of (original class, new class, segment)."""
    return [f"{dataset},train,{original},{new},{parent},{stem},{n}" for original, new, n in records]


def record_file(tmp_path, rows):
    path = tmp_path / "records.csv"
    path.write_text("\n".join([HEADER, *rows, ""]))
    return path


def photo(path, size_hw=SIZE):
    return trees.save(path, trees.picture(np.random.default_rng(0), size_hw))


def truth_of(label, background, classes):
    """(H, W) class names by id."""
    truth = np.full(label.shape, background, object)
    for i, name in classes.items():
        truth[label == i] = name
    return truth


def bdd(raw):
    """A record names a whole class: both persons change."""
    label = np.zeros(SIZE, np.uint8)
    label[2:8, 2:8] = label[12:20, 20:30] = 11
    label[10:14, 4:10], label[22:] = 12, 255
    photo(raw / "seg/images/train/a-b.jpg")
    trees.save(raw / "seg/labels/train/a-b_train_id.png", label)
    changes = ("person", "bicyclist", 11), ("rider_other", "unlabeled", 12), ("person", "bicyclist", 13)  # no truck
    lines = rows("bdd", "train", "a-b", *changes) + rows("bdd", "train", "gone", ("person", "person", 11))
    truth = truth_of(label, "road", {11: "bicyclist", 12: "unlabeled", 255: "unlabeled"})
    return Case(raw, [*lines, "bdd,val,person,person,val,a-b,11"], truth, 2, {NONE: 1, GONE: 1})


def sunrgbd(raw):
    """Records hold ids of the 37 classes, the files one more; a class is one segment here too."""
    label = np.full(SIZE, 1, np.uint8)
    label[:4], label[5:9, 3:9], label[12:15, 1:4], label[20:, :5] = 0, 5, 5, 35
    stem = "img-000007"
    photo(raw / f"image/train/{stem}.jpg")
    trees.save(raw / "label38/train/00000007.png", label)
    changes = ("light_other", "light_other", 34), ("chair_other", "armchair", 4), ("counter_other", "desk", 11)
    lines = rows("sunrgbd-37", "train", stem, *changes)  # no counter there, and in `test` another image of that name
    lines += rows("sunrgbd-37", "test", stem, ("light_other", "lamp", 34))
    truth = truth_of(label, "wall", {0: "unlabeled", 5: "armchair", 35: "light_other"})
    return Case(raw, lines, truth, 2, {NONE: 1, GONE: 1})


def coco(raw):
    """Segments are colours; one person of two is relabelled, and a table whose class the record has wrong is not."""
    first, second, table, wall = 8_922_372, 70_000, 5, 200
    codes = np.full(SIZE, wall)
    codes[:6, :9], codes[8:20, 10:20], codes[21:, 20:], codes[:2, 20:] = first, second, table, 0
    stem = "000000000009"
    photo(raw / f"images/train2017/{stem}.jpg")
    rgb = np.stack([codes % 256, codes // 256 % 256, codes // 65536], -1).astype(np.uint8)
    trees.save(raw / f"annotations/panoptic_train2017/{stem}.png", rgb)
    info = [{"id": i, "category_id": c} for i, c in ((first, 1), (second, 1), (table, 189), (wall, 199))]
    content = {"annotations": [{"file_name": f"{stem}.png", "segments_info": info}]}
    (raw / "annotations/panoptic_train2017.json").write_text(json.dumps(content))
    changes = ("person", "motorcyclist", second), ("cabinet", "desk", table)
    absent = ("person", "person", 16777215), ("person", "person", 2**40)
    lines = rows("coco-panoptic-133", "train2017", stem, *changes, *absent)
    truth = truth_of(codes, "wall", {first: "person", second: "motorcyclist", table: "table", 0: "unlabeled"})
    return Case(raw, lines, truth, 1, {PARTLY: 1, NONE: 2})


def vistas(raw, stem, instances):
    """An image with its label, and its instances of 16 bits: 256 x class + number."""
    photo(raw / f"training/images/{stem}.jpg")
    label = Image.fromarray((instances // 256).astype(np.uint8)).convert("P")
    label.putpalette([v for _, colour in release_classes("mapillary-public65") for v in colour])
    (raw / "training/labels").mkdir(exist_ok=True)
    label.save(raw / f"training/labels/{stem}.png")
    return trees.save(raw / f"training/instances/{stem}.png", instances)


def mapillary(raw):
    instances = np.full(SIZE, 27 * 256, np.uint16)
    instances[:6, :9], instances[8:20, 10:20], instances[21:, 5:] = 256, 257, 31 * 256
    stem = "-8S_NFkTrtvVPV3HjDAR4bw"
    vistas(raw, stem, instances)
    changes = ("water_other", "sea", 7936), ("dog", "cow", 257), ("water_other", "sea", 256)
    alone = ("dog", "horse", 1)  # the class alone is no segment
    truth = truth_of(instances, "sky", {256: "dog", 257: "cow", 31 * 256: "sea"})
    return Case(raw, rows("mapillary-public65", "labels", stem, *changes, alone), truth, 2, {NONE: 1, PARTLY: 1})


def ade20k(raw):
    """The full release is larger, of another shape, and cut down by the floor rule; all of a segment is overwritten."""
    full = (60, 48)
    blue = np.zeros(full, np.uint8)
    blue[7:31, 5:22], blue[33:47, 3:40], blue[50:53, 20:24] = 30, 255, 7
    rows_of = [int(y * full[0] / SIZE[0]) for y in range(SIZE[0])]  # source row: the floor of row x scale
    columns = [int(x * full[1] / SIZE[1]) for x in range(SIZE[1])]
    small = np.array([[blue[y, x] for x in columns] for y in rows_of])
    assert 0 < (small == 7).sum() < 10
    label = np.full(SIZE, 1, np.uint8)  # wall
    label[4:9, 4:9], label[14:16] = 13, 0  # a person, and nothing: neither is heeded
    stem = "ADE_train_00000001"
    photo(raw / f"images/training/{stem}.jpg")
    trees.save(raw / f"annotations/training/{stem}.png", label)
    rgb = np.dstack([np.full_like(blue, 10), np.full_like(blue, 200), blue])
    trees.save(raw / f"ADE20K_2016_07_26/images/training/a/abbey/{stem}_seg.png", rgb)
    photo(raw / f"ADE20K_2016_07_26/images/training/a/abbey/{stem}.jpg")
    truth = truth_of(label, "wall", {13: "person", 0: "unlabeled"})
    truth[small == 30], truth[small == 255] = "nightstand", "fence"
    refused = [("fence", "guard_rail", n) for n in (7, 8, 300)]
    lines = rows("ade20k-150", "training", stem, ("table", "nightstand", 30), ("fence", "fence", 255), *refused)
    return Case(raw, lines, truth, 2, {"segment too small": 1, NONE: 2})


def rectangle(x0, y0, x1, y1, label="rider", **more):
    return {"label": label, "polygon": [[x0, y0], [x1, y0], [x1, y1], [x0, y1]], **more}


def outlined(raw, place, objects):
    """An image with its polygons."""
    photo(raw / f"leftImg8bit/train/{place}_leftImg8bit.png")
    path = raw / f"gtFine/train/{place}_gtFine_polygons.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"imgHeight": SIZE[0], "imgWidth": SIZE[1], "objects": objects}))


def boxes(truth, *found):
    """Rectangles with their edges, one after the other."""
    for x0, y0, x1, y1, name in found:
        truth[y0 : y1 + 1, x0 : x1 + 1] = name
    return truth


def cityscapes(raw):
    """Segments are places in the list of polygons; they overlap, and what lies on top is overwritten as well."""
    label = np.full(SIZE, 7, np.uint8)
    label[2:11, 2:11], label[6:9, 6:20] = 25, 33
    objects = [
        rectangle(0, 0, 31, 23, "road"),
        rectangle(2, 2, 10, 10),
        rectangle(6, 6, 19, 8, "bicycle"),
        rectangle(8, 4, 14, 14, deleted=1),
        {"label": "rider", "polygon": [[3, 20], [12, 20], [7, 20]]},  # flat: a line
    ]
    outlined(raw, "ulm/ulm_000000_000019", objects)
    trees.save(raw / "gtFine/train/ulm/ulm_000000_000019_gtFine_labelIds.png", label)
    truth = truth_of(label, "road", {25: "bicyclist", 33: "bicycle"})  # the later in the file wins
    boxes(truth, (8, 4, 14, 14, "person"), (2, 2, 10, 10, "rider_other"), (3, 20, 12, 20, "unlabeled"))
    changes = [
        ("rider_other", new, n) for n, new in ((3, "person"), (1, "rider_other"), (4, "unlabeled"), (5, "person"))
    ]
    lines = rows("cityscapes-19", "ulm", "ulm_000000_000019_leftImg8bit", *changes)
    return Case(raw, lines, truth, 3, {NONE: 1})


def idd(raw):
    """Segments are the objects' own ids; places in the list only where they have none."""
    objects = [
        rectangle(0, 0, 31, 23, "road", id=4),
        rectangle(2, 2, 10, 10, id=9),
        rectangle(12, 2, 20, 10, id=1),
        rectangle(2, 14, 9, 20),  # 3
        rectangle(20, 14, 28, 20, "motorcycle", id=9),  # the first of an id counts
    ]
    outlined(raw, "0/005506", objects)
    truth = np.full(SIZE, "road", object)
    boxes(truth, (2, 2, 10, 10, "bicyclist"), (12, 2, 20, 10, "rider_other"), (2, 14, 9, 20, "pole"))
    boxes(truth, (20, 14, 28, 20, "motorcycle"))
    changes = [("rider_other", new, n) for n, new in ((9, "bicyclist"), (1, "rider_other"), (3, "pole"), (2, "person"))]
    return Case(raw, rows("idd-39", "0", "005506_leftImg8bit", *changes), truth, 3, {NONE: 1})


CASES = {
    "ade20k-150": ade20k,
    "bdd": bdd,
    "cityscapes-19": cityscapes,
    "cityscapes-34": cityscapes,
    "coco-panoptic-133": coco,
    "idd-39": idd,
    "mapillary-public65": mapillary,
    "sunrgbd-37": sunrgbd,
}


def converted(case, tmp_path, dataset, **options):
    values = {"raw": case.raw, "out": str(tmp_path / "out"), "relabel": record_file(tmp_path, case.rows)}
    return convert(dataset=dataset, split="train", **values | options)


def relabelled(summary):
    """(H, W) ids of the first sample."""
    with open_shards(summary.url) as shards:
        return np.asarray(Image.open(io.BytesIO(shards.read(0, "universal-relabeled"))))


def ids_of(truth):
    return np.vectorize(IDS.__getitem__)(truth)


@pytest.mark.parametrize("dataset", CASES)
def test_segments_of_every_dataset(tmp_path, dataset):
    case = CASES[dataset](tmp_path / "raw")
    summary = converted(case, tmp_path, dataset, centroids=True)
    np.testing.assert_array_equal(relabelled(summary), ids_of(case.truth))
    with open_shards(summary.url) as shards:
        found = shards.centroids(0, "universal-relabeled")
        pixels = np.bincount(found.class_id, found.pixels * (found.sample == 0), 256)[:255]
        assert np.array_equal(pixels, np.bincount(ids_of(case.truth).ravel(), minlength=256)[:255])
        assert shards.manifest.members == ("image", "json", "native", "universal", "universal-relabeled")
        assert shards.read(0, "universal") != shards.read(0, "universal-relabeled")
        relabel = shards.manifest.relabel
    assert (relabel.applied, relabel.reported) == (case.applied, dict(sorted(case.reported.items())))
    assert relabel.total == sum(row.split(",")[1] == "train" for row in case.rows)
    assert summary.relabel == relabel
    report = verify(summary.url, workers=1)
    assert report.ok, report.faults


def test_without_records_there_is_no_such_member_and_the_other_labels_are_the_same(tmp_path):
    case = bdd(tmp_path / "raw")
    with (
        open_shards(converted(case, tmp_path, "bdd").url) as one,
        open_shards(converted(case, tmp_path, "bdd", relabel=None, out=tmp_path / "plain").url) as other,
    ):
        assert other.manifest.members == ("image", "json", "native", "universal")
        assert other.manifest.relabel is None
        for name in ("image", "native", "universal"):
            assert one.read(0, name) == other.read(0, name)


def test_the_manifest_says_what_became_of_the_records(tmp_path):
    url = converted(coco(tmp_path / "raw"), tmp_path, "coco-panoptic-133").url
    assert json.loads((Path(url) / "manifest.json").read_text())["relabel"] == {
        "records_sha256": hashlib.sha256((tmp_path / "records.csv").read_bytes()).hexdigest(),
        "applied": 1,
        "reported": {NONE: 2, PARTLY: 1},
        "examples": [
            {"reason": reason, "image": "train2017/000000000009", "segment": n}
            for reason, n in ((NONE, 16777215), (NONE, 2**40), (PARTLY, 5))
        ],
    }


def two_photos(raw, size_hw=SIZE):
    """BDD, two images of persons, and records for both."""
    label = np.zeros(size_hw, np.uint8)
    label[2:17, 3:10], label[5:9, 15:30] = 11, 12
    for stem in ("a", "b"):
        photo(raw / f"seg/images/train/{stem}.jpg", size_hw)
        trees.save(raw / f"seg/labels/train/{stem}_train_id.png", label)
    person, rider = ("person", "bicyclist", 11), ("rider_other", "rider_other", 12)
    lines = rows("bdd", "train", "b", person) + rows("bdd", "train", "a", person) + rows("bdd", "train", "b", rider)
    return Case(raw, lines, truth_of(label, "road", {11: "bicyclist", 12: "rider_other"}), 3, {})


def test_records_of_an_image_that_is_no_sample_are_reported(tmp_path):
    case = two_photos(tmp_path / "raw")
    relabel = converted(case, tmp_path, "bdd", limit=1).relabel
    assert (relabel.applied, relabel.reported) == (1, {"image beyond --limit": 2})
    (case.raw / "seg/labels/train/b_train_id.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    relabel = converted(case, tmp_path, "bdd", skip_bad=1).relabel
    assert (relabel.applied, relabel.reported) == (1, {"image left out": 2})
    assert [e.image for e in relabel.examples] == ["train/b"] * 2


def test_one_pixel_of_another_class_is_enough_to_refuse_a_strict_record(tmp_path):
    case = mapillary(tmp_path / "raw")
    (path,) = case.raw.glob("training/instances/*")
    instances = np.asarray(Image.open(path)).copy()
    instances[0, 31] = 257  # sky
    trees.save(path, instances)
    summary = converted(case, tmp_path, "mapillary-public65")
    assert summary.relabel.reported[PARTLY] == 2
    case.truth[case.truth == "cow"] = "dog"
    np.testing.assert_array_equal(relabelled(summary), ids_of(case.truth))


def test_labels_are_relabelled_at_full_size_before_they_shrink(tmp_path):
    case = two_photos(tmp_path / "raw", (60, 84))
    summary = converted(case, tmp_path, "bdd", short_side=25)
    lines, columns = (np.arange(n) * side // n for n, side in ((25, 60), (35, 84)))
    np.testing.assert_array_equal(relabelled(summary), ids_of(case.truth)[lines][:, columns])


def test_ade20k_full_release_may_lie_beside_or_be_a_zip(tmp_path):
    case = ade20k(tmp_path / "ADEChallengeData2016")
    full = case.raw / "ADE20K_2016_07_26"
    shutil.make_archive(str(tmp_path / "elsewhere/packed"), "zip", root_dir=case.raw, base_dir=full.name)
    full.rename(tmp_path / full.name)
    beside = converted(case, tmp_path, "ade20k-150")
    shutil.rmtree(tmp_path / full.name)
    with pytest.raises(DataError, match=r"no ADE20K_2016_07_26/images in it or beside it"):
        converted(case, tmp_path, "ade20k-150")
    (tmp_path / "elsewhere/packed.zip").rename(case.raw / "ADE20K_2016_07_26.zip")
    zipped = converted(case, tmp_path, "ade20k-150", out=str(tmp_path / "zipped"))
    assert beside.relabel == zipped.relabel
    assert (beside.relabel.applied, zipped.samples) == (2, 1)


def test_a_missing_segment_file_is_a_fault_of_its_image(tmp_path):
    case = mapillary(tmp_path / "raw")
    (path,) = case.raw.glob("training/instances/*")
    path.unlink()
    with pytest.raises(DataError, match=rf"not one of the 1 files that hold relabelled segments.*{path.name}"):
        converted(case, tmp_path, "mapillary-public65")
    vistas(case.raw, "other", np.zeros(SIZE, np.uint16))
    case.rows += rows("mapillary-public65", "labels", "other", ("dog", "cow", 256))
    with pytest.raises(BadSamplesError, match=rf"training/instances/{path.name}: missing file"):
        converted(case, tmp_path, "mapillary-public65")
    summary = converted(case, tmp_path, "mapillary-public65", skip_bad=1)
    assert summary.relabel.reported == {"image left out": 4, NONE: 1}


@pytest.mark.parametrize(
    ("dataset", "narrower"),
    [("ade20k-150", False), *((name, w) for name in ("cityscapes-19", "mapillary-public65") for w in (False, True))],
)
def test_a_segment_file_that_is_damaged_or_of_another_size_is_a_fault_of_its_image(tmp_path, dataset, narrower):
    case = CASES[dataset](tmp_path / "raw")
    (path,) = (p for end in ("_seg.png", "polygons.json", "instances/*.png") for p in case.raw.rglob(f"*{end}"))
    if not narrower:
        path.write_bytes(path.read_bytes()[:-20])
    elif path.suffix == ".png":
        trees.save(path, np.zeros((24, 31), np.uint16))
    else:
        path.write_text(path.read_text().replace('"imgWidth": 32', '"imgWidth": 31'))
    said = r"segments of an image of \(24, 31\), not \(24, 32\)" if narrower else str(path.relative_to(case.raw))
    with pytest.raises(BadSamplesError, match=said):
        converted(case, tmp_path, dataset)


def test_shards_of_other_records_are_not_kept(tmp_path):
    case = two_photos(tmp_path / "raw")
    first, again = (converted(case, tmp_path, "bdd", shard_samples=1) for _ in range(2))
    assert (again.resumed_shards, again.digest, again.relabel) == (2, first.digest, first.relabel)
    (tmp_path / "else").mkdir()
    path = record_file(tmp_path / "else", [row.replace("bicyclist", "motorcyclist") for row in case.rows])
    changed = converted(case, tmp_path, "bdd", relabel=path, shard_samples=1)
    assert changed.resumed_shards == 0
    assert set(np.unique(relabelled(changed))) == {IDS[name] for name in ("road", "motorcyclist", "rider_other")}
    assert converted(case, tmp_path, "bdd", relabel=None, shard_samples=1).resumed_shards == 0
    assert converted(case, tmp_path, "bdd", shard_samples=1).digest == first.digest


def test_shards_of_changed_segments_are_not_kept(tmp_path):
    case = cityscapes(tmp_path / "raw")
    converted(case, tmp_path, "cityscapes-19")
    (path,) = case.raw.rglob("*polygons.json")
    path.write_text(path.read_text() + "\n")
    assert [converted(case, tmp_path, "cityscapes-19").resumed_shards for _ in range(2)] == [0, 1]


def test_a_dataset_without_segments_refuses_records(tmp_path):
    trees.voc(tmp_path / "raw")
    with pytest.raises(UsageError, match="voc2012: has no relabelled segments; leave out --relabel"):
        convert(dataset="voc2012", split="val", raw=tmp_path / "raw", out=str(tmp_path / "out"), relabel=tmp_path)


def test_outcomes_add_up_and_keep_the_first_examples():
    def of(image, *reasons):
        records = tuple(Record(i, 0, 0) for i in range(len(reasons)))
        return outcome_of(Edits(release=Release(Path()), file="", image=image, records=records), reasons)

    total = merge_outcomes([of("a", "x", None, "y"), of("b", "x", "x", None, None), RelabelOutcome(), of("c", "x")])
    assert (total.applied, total.reported, total.total) == (3, {"x": 4, "y": 1}, 8)
    shown = [(e.reason, e.image, e.segment) for e in total.examples]
    assert shown == [("x", "a", 0), ("x", "b", 0), ("x", "b", 1), ("y", "a", 2)]


def test_images_that_the_records_cannot_tell_apart_are_an_error(tmp_path):
    case = two_photos(tmp_path / "raw")
    for top in ("one", "two"):
        for folder, name in (("images", "a.jpg"), ("labels", "a_train_id.png")):
            target = case.raw / f"seg/{folder}/train/{top}/train/{name}"
            target.parent.mkdir(parents=True)
            shutil.copy(case.raw / f"seg/{folder}/train/{name}", target)
    with pytest.raises(DataError, match=r"records cannot tell .*a\.jpg from .*a\.jpg"):
        converted(case, tmp_path, "bdd")


@needs_records
@pytest.mark.parametrize(
    ("dataset", "split", "sample", "applied", "records"),
    [
        ("coco-panoptic-133", "val", "000000000139", 10, 6_664),
        ("sunrgbd-37", "train", "sunrgbd train 00000001", 2, 4_096),
        ("sunrgbd-37", "val", "sunrgbd test 00000001", 1, 376),
    ],
)
def test_released_samples_with_the_published_records(tmp_path, dataset, split, sample, applied, records):
    raw = released(tmp_path / "raw", dataset, split)
    summary = convert(dataset=dataset, split=split, raw=raw, out=str(tmp_path / "out"), relabel=PUBLISHED)
    assert (summary.relabel.applied, summary.relabel.reported) == (applied, {GONE: records - applied})
    with open_shards(summary.url) as shards:
        assert histogram(shards, "universal-relabeled") == expected(sample, "universal (relabeled)")


@needs_records
def test_the_known_segment_of_ade20k(tmp_path):
    """40,609 pixels by the floor rule; by the rule of centres it would be 40,786."""
    raw = released(tmp_path, "ade20k-150", "train")
    path = record_file(tmp_path, rows("ade20k-150", "training", "ADE_train_00000001", ("table", "desk", 30)))
    summary = convert(dataset="ade20k-150", split="train", raw=raw, out=str(tmp_path / "out"), relabel=path)
    assert summary.relabel.applied == 1
    assert (relabelled(summary) == IDS["desk"]).sum() == 40_609
