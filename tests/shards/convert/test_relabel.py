"""Relabelling: each dataset's segments in its native layout, against masks drawn by hand; totals; faults."""

import hashlib
import io
import json
import shutil
from collections import Counter
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
from tests.shards.datasets.test_samples import expected
from tests.shards.shared import SAMPLES, SHARED

PUBLISHED = SHARED / "mseg/relabeled/records.csv.gz"
HEADER = "dataset,split,original_class,new_class,parent,image_stem,segment_id"
SIZE = (24, 32)
IDS = {**{name: i for i, name in enumerate(load_taxonomy("universal").classes)}, "unlabeled": 255}

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


def names(fill="road"):
    return np.full(SIZE, fill, object)


def photo(path):
    return trees.save(path, trees.picture(np.random.default_rng(0)))


def record_file(tmp_path, rows):
    path = tmp_path / "records.csv"
    path.write_text("\n".join([HEADER, *rows, ""]))
    return path


def bdd(raw):
    """A record names a whole class: both persons change."""
    label = np.zeros(SIZE, np.uint8)
    label[2:8, 2:8] = label[12:20, 20:30] = 11
    label[10:14, 4:10] = 12
    label[22:] = 255
    photo(raw / "seg/images/train/a-b.jpg")
    trees.save(raw / "seg/labels/train/a-b_train_id.png", label)
    truth = names()
    truth[label == 11], truth[label == 12], truth[label == 255] = "bicyclist", "unlabeled", "unlabeled"
    rows = [
        "bdd,train,person,bicyclist,train,a-b,11",
        "bdd,train,rider_other,unlabeled,train,a-b,12",
        "bdd,train,person,bicyclist,train,a-b,13",  # no truck there
        "bdd,train,person,person,train,gone,11",
        "bdd,val,person,person,val,a-b,11",
    ]
    return Case(raw, rows, truth, 2, {"no such segment": 1, "no such image in this split": 1})


def sunrgbd(raw):
    """Records hold ids of the 37 classes, the files one more; a class is one segment here too."""
    label = np.full(SIZE, 1, np.uint8)
    label[:4], label[5:9, 3:9], label[12:15, 1:4], label[20:, :5] = 0, 5, 5, 35
    photo(raw / "image/train/img-000007.jpg")
    trees.save(raw / "label38/train/00000007.png", label)
    truth = names("wall")
    truth[label == 0], truth[label == 5], truth[label == 35] = "unlabeled", "armchair", "light_other"
    rows = [
        "sunrgbd-37,train,light_other,light_other,train,img-000007,34",
        "sunrgbd-37,train,chair_other,armchair,train,img-000007,4",
        "sunrgbd-37,train,counter_other,desk,train,img-000007,11",  # no counter there
        "sunrgbd-37,train,light_other,lamp,test,img-000007,34",  # the image of that name in the other folder
    ]
    return Case(raw, rows, truth, 2, {"no such segment": 1, "no such image in this split": 1})


def coco(raw):
    """Segments are colours; one person of two is relabelled, and a table whose class the record has wrong is not."""
    first, second, table, wall = 8_922_372, 70_000, 5, 200
    codes = np.full(SIZE, wall)
    codes[:6, :9], codes[8:20, 10:20], codes[21:, 20:], codes[:2, 20:] = first, second, table, 0
    segments = [(first, 1), (second, 1), (table, 189), (wall, 199)]
    photo(raw / "images/train2017/000000000009.jpg")
    rgb = np.stack([codes % 256, codes // 256 % 256, codes // 65536], -1).astype(np.uint8)
    trees.save(raw / "annotations/panoptic_train2017/000000000009.png", rgb)
    info = [{"id": i, "category_id": c} for i, c in segments]
    content = {"annotations": [{"file_name": "000000000009.png", "segments_info": info}]}
    (raw / "annotations/panoptic_train2017.json").write_text(json.dumps(content))
    truth = names("wall")
    truth[codes == first], truth[codes == second], truth[codes == table] = "person", "motorcyclist", "table"
    truth[codes == 0] = "unlabeled"
    rows = [
        f"coco-panoptic-133,train,person,motorcyclist,train2017,000000000009,{second}",
        f"coco-panoptic-133,train,cabinet,desk,train2017,000000000009,{table}",
        "coco-panoptic-133,train,person,person,train2017,000000000009,16777215",
        f"coco-panoptic-133,train,person,person,train2017,000000000009,{2**40}",
    ]
    reported = {"segment is not all of the original class": 1, "no such segment": 2}
    return Case(raw, rows, truth, 1, reported)


def mapillary(raw):
    """Instances are a file of 16 bits: 256 x class + number."""
    instances = np.full(SIZE, 27 * 256, np.uint16)
    instances[:6, :9], instances[8:20, 10:20], instances[21:, 5:] = 256, 257, 31 * 256
    stem = "-8S_NFkTrtvVPV3HjDAR4bw"
    photo(raw / f"training/images/{stem}.jpg")
    label = Image.fromarray((instances // 256).astype(np.uint8)).convert("P")
    label.putpalette([v for _, colour in release_classes("mapillary-public65") for v in colour])
    (raw / "training/labels").mkdir()
    label.save(raw / f"training/labels/{stem}.png")
    trees.save(raw / f"training/instances/{stem}.png", instances)
    truth = names("sky")
    truth[instances == 256], truth[instances == 257], truth[instances == 31 * 256] = "dog", "cow", "sea"
    rows = [
        f"mapillary-public65,train,water_other,sea,labels,{stem},7936",
        f"mapillary-public65,train,dog,cow,labels,{stem},257",
        f"mapillary-public65,train,dog,horse,labels,{stem},1",  # the class alone is no segment
        f"mapillary-public65,train,water_other,sea,labels,{stem},256",
    ]
    return Case(raw, rows, truth, 2, {"no such segment": 1, "segment is not all of the original class": 1})


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
    rgb = np.zeros((*full, 3), np.uint8)
    rgb[..., 0], rgb[..., 1], rgb[..., 2] = 10, 200, blue
    trees.save(raw / f"ADE20K_2016_07_26/images/training/a/abbey/{stem}_seg.png", rgb)
    photo(raw / f"ADE20K_2016_07_26/images/training/a/abbey/{stem}.jpg")
    truth = names("wall")
    truth[label == 13], truth[label == 0] = "person", "unlabeled"
    truth[small == 30], truth[small == 255] = "nightstand", "fence"
    rows = [
        f"ade20k-150,train,table,nightstand,training,{stem},30",
        f"ade20k-150,train,fence,fence,training,{stem},255",
        f"ade20k-150,train,fence,guard_rail,training,{stem},7",
        f"ade20k-150,train,fence,guard_rail,training,{stem},8",
        f"ade20k-150,train,fence,guard_rail,training,{stem},300",
    ]
    return Case(raw, rows, truth, 2, {"segment too small": 1, "no such segment": 2})


def rectangle(x0, y0, x1, y1, label="rider", **more):
    return {"label": label, "polygon": [[x0, y0], [x1, y0], [x1, y1], [x0, y1]], **more}


def box(truth, x0, y0, x1, y1, name):
    """A rectangle with its edges."""
    truth[y0 : y1 + 1, x0 : x1 + 1] = name


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
    stem = "ulm_000000_000019"
    photo(raw / f"leftImg8bit/train/ulm/{stem}_leftImg8bit.png")
    trees.save(raw / f"gtFine/train/ulm/{stem}_gtFine_labelIds.png", label)
    content = {"imgHeight": SIZE[0], "imgWidth": SIZE[1], "objects": objects}
    (raw / f"gtFine/train/ulm/{stem}_gtFine_polygons.json").write_text(json.dumps(content))
    truth = names()
    truth[label == 25], truth[label == 33] = "bicyclist", "bicycle"
    box(truth, 8, 4, 14, 14, "person")
    box(truth, 2, 2, 10, 10, "rider_other")  # later in the file: wins
    box(truth, 3, 20, 12, 20, "unlabeled")
    rows = [
        f"cityscapes-19,train,rider_other,{new},ulm,{stem}_leftImg8bit,{segment}"
        for segment, new in ((3, "person"), (1, "rider_other"), (4, "unlabeled"), (5, "person"))
    ]
    return Case(raw, rows, truth, 3, {"no such segment": 1})


def idd(raw):
    """Segments are the objects' own ids; places in the list only where they have none."""
    objects = [
        rectangle(0, 0, 31, 23, "road", id=4),
        rectangle(2, 2, 10, 10, id=9),
        rectangle(12, 2, 20, 10, id=1),
        rectangle(2, 14, 9, 20),  # 3
        rectangle(20, 14, 28, 20, "motorcycle", id=9),  # the first of an id counts
    ]
    stem = "005506"
    photo(raw / f"leftImg8bit/train/0/{stem}_leftImg8bit.png")
    (raw / "gtFine/train/0").mkdir(parents=True)
    content = {"imgHeight": SIZE[0], "imgWidth": SIZE[1], "objects": objects}
    (raw / f"gtFine/train/0/{stem}_gtFine_polygons.json").write_text(json.dumps(content))
    truth = names()
    box(truth, 2, 2, 10, 10, "bicyclist")
    box(truth, 12, 2, 20, 10, "rider_other")
    box(truth, 2, 14, 9, 20, "pole")
    box(truth, 20, 14, 28, 20, "motorcycle")
    rows = [
        f"idd-39,train,rider_other,{new},0,{stem}_leftImg8bit,{segment}"
        for segment, new in ((9, "bicyclist"), (1, "rider_other"), (3, "pole"), (2, "person"))
    ]
    return Case(raw, rows, truth, 3, {"no such segment": 1})


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


def member(shards, i=0, name="universal-relabeled"):
    return np.asarray(Image.open(io.BytesIO(shards.read(i, name))))


def ids_of(truth):
    return np.vectorize(IDS.__getitem__)(truth)


@pytest.mark.parametrize("dataset", CASES)
def test_segments_of_every_dataset(tmp_path, dataset):
    case = CASES[dataset](tmp_path / "raw")
    summary = converted(case, tmp_path, dataset)
    with open_shards(summary.url) as shards:
        assert shards.manifest.members == ("image", "json", "native", "universal", "universal-relabeled")
        np.testing.assert_array_equal(member(shards), ids_of(case.truth))
        assert not np.array_equal(member(shards), member(shards, name="universal"))
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
    case = coco(tmp_path / "raw")
    url = converted(case, tmp_path, "coco-panoptic-133").url
    told = json.loads((Path(url) / "manifest.json").read_text())["relabel"]
    image = "train2017/000000000009"
    assert told == {
        "records_sha256": hashlib.sha256((tmp_path / "records.csv").read_bytes()).hexdigest(),
        "applied": 1,
        "reported": {"no such segment": 2, "segment is not all of the original class": 1},
        "examples": [
            {"reason": "no such segment", "image": image, "segment": 16777215},
            {"reason": "no such segment", "image": image, "segment": 2**40},
            {"reason": "segment is not all of the original class", "image": image, "segment": 5},
        ],
    }


def two_photos(raw, size_hw=SIZE):
    """BDD, two images of persons, and records for both."""
    label = np.zeros(size_hw, np.uint8)
    label[2:17, 3:10], label[5:9, 15:30] = 11, 12
    for stem in ("a", "b"):
        trees.save(raw / f"seg/images/train/{stem}.jpg", trees.picture(np.random.default_rng(0), size_hw))
        trees.save(raw / f"seg/labels/train/{stem}_train_id.png", label)
    rows = [f"bdd,train,person,bicyclist,train,{stem},11" for stem in ("b", "a")]
    truth = np.full(size_hw, "road", object)
    truth[label == 11], truth[label == 12] = "bicyclist", "rider_other"
    return Case(raw, [*rows, "bdd,train,rider_other,rider_other,train,b,12"], truth, 3, {})


def test_records_beyond_the_limit_are_reported(tmp_path):
    case = two_photos(tmp_path / "raw")
    summary = converted(case, tmp_path, "bdd", limit=1)
    assert (summary.relabel.applied, summary.relabel.reported) == (1, {"image beyond --limit": 2})


def test_records_of_an_image_that_is_left_out_are_reported(tmp_path):
    case = two_photos(tmp_path / "raw")
    (case.raw / "seg/labels/train/b_train_id.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    summary = converted(case, tmp_path, "bdd", skip_bad=1)
    assert (summary.relabel.applied, summary.relabel.reported) == (1, {"image left out": 2})
    assert [e.image for e in summary.relabel.examples] == ["train/b"] * 2


def test_one_pixel_of_another_class_is_enough_to_refuse_a_strict_record(tmp_path):
    case = mapillary(tmp_path / "raw")
    (path,) = case.raw.glob("training/instances/*")
    instances = np.asarray(Image.open(path)).copy()
    instances[0, 31] = 257  # sky
    trees.save(path, instances)
    summary = converted(case, tmp_path, "mapillary-public65")
    assert summary.relabel.reported["segment is not all of the original class"] == 2
    case.truth[case.truth == "cow"] = "dog"
    with open_shards(summary.url) as shards:
        np.testing.assert_array_equal(member(shards), ids_of(case.truth))


def test_labels_are_relabelled_at_full_size_before_they_shrink(tmp_path):
    case = two_photos(tmp_path / "raw", (60, 84))
    url = converted(case, tmp_path, "bdd", short_side=25).url
    rows, columns = (np.arange(n) * side // n for n, side in ((25, 60), (35, 84)))
    with open_shards(url) as shards:
        np.testing.assert_array_equal(member(shards), ids_of(case.truth)[rows][:, columns])


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
    trees.save(path.with_name("other.png"), np.zeros(SIZE, np.uint16))
    for folder, array in (("labels", np.zeros(SIZE, np.uint8)), ("images", np.zeros((*SIZE, 3), np.uint8))):
        end = "png" if folder == "labels" else "jpg"
        trees.save(case.raw / f"training/{folder}/other.{end}", array)
    label = Image.open(case.raw / "training/labels/other.png").convert("P")
    label.putpalette([v for _, colour in release_classes("mapillary-public65") for v in colour])
    label.save(case.raw / "training/labels/other.png")
    case.rows.append("mapillary-public65,train,dog,cow,labels,other,256")
    with pytest.raises(BadSamplesError, match=rf"training/instances/{path.name}: missing file"):
        converted(case, tmp_path, "mapillary-public65")
    summary = converted(case, tmp_path, "mapillary-public65", skip_bad=1)
    assert summary.relabel.reported == {"image left out": 4, "no such segment": 1}


@pytest.mark.parametrize("dataset", ["ade20k-150", "cityscapes-19", "mapillary-public65"])
def test_a_damaged_segment_file_is_a_fault_of_its_image(tmp_path, dataset):
    case = CASES[dataset](tmp_path / "raw")
    (path,) = (p for end in ("_seg.png", "polygons.json", "instances/*.png") for p in case.raw.rglob(f"*{end}"))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BadSamplesError, match=str(path.relative_to(case.raw))):
        converted(case, tmp_path, dataset)


@pytest.mark.parametrize("dataset", ["cityscapes-19", "mapillary-public65"])
def test_segments_of_another_size_are_a_fault_of_the_image(tmp_path, dataset):
    case = CASES[dataset](tmp_path / "raw")
    if dataset == "mapillary-public65":
        (path,) = case.raw.glob("training/instances/*")
        trees.save(path, np.zeros((24, 31), np.uint16))
    else:
        (path,) = case.raw.rglob("*polygons.json")
        path.write_text(path.read_text().replace('"imgWidth": 32', '"imgWidth": 31'))
    with pytest.raises(BadSamplesError, match=r"segments of an image of \(24, 31\), not \(24, 32\)"):
        converted(case, tmp_path, dataset)


def test_shards_of_other_records_are_not_kept(tmp_path):
    case = two_photos(tmp_path / "raw")
    options = {"shard_samples": 1}
    first = converted(case, tmp_path, "bdd", **options)
    again = converted(case, tmp_path, "bdd", **options)
    assert (again.resumed_shards, again.digest, again.relabel) == (2, first.digest, first.relabel)
    other = [row.replace("bicyclist", "motorcyclist") for row in case.rows]
    path = tmp_path / "other.csv"
    path.write_text("\n".join([HEADER, *other, ""]))
    changed = converted(case, tmp_path, "bdd", relabel=path, **options)
    assert changed.resumed_shards == 0
    with open_shards(changed.url) as shards:
        assert IDS["motorcyclist"] in member(shards)
        assert IDS["bicyclist"] not in member(shards)
    assert converted(case, tmp_path, "bdd", relabel=None, **options).resumed_shards == 0
    assert converted(case, tmp_path, "bdd", **options).digest == first.digest


def test_shards_of_changed_segments_are_not_kept(tmp_path):
    case = cityscapes(tmp_path / "raw")
    converted(case, tmp_path, "cityscapes-19")
    (path,) = case.raw.rglob("*polygons.json")
    path.write_text(path.read_text() + "\n")
    assert converted(case, tmp_path, "cityscapes-19").resumed_shards == 0
    assert converted(case, tmp_path, "cityscapes-19").resumed_shards == 1


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


def named_histogram(label):
    names = [*IDS, *["unlabeled"] * 256]
    return {names[i]: int(n) for i, n in zip(*np.unique(label, return_counts=True), strict=True)}


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
    raw = tmp_path / "raw"
    if dataset.startswith("coco"):
        shutil.copytree(SAMPLES / "COCOPanoptic_test_data", raw)
        trees.save(raw / f"images/val2017/{sample}.jpg", np.zeros((426, 640, 3), np.uint8))
    else:
        part = sample.split()[1]
        stage1 = np.asarray(Image.open(SAMPLES / f"SUNRGBD_test_data/semseg-label37/{part}/00000001.png"))
        trees.save(raw / f"label38/{part}/00000001.png", stage1 + np.uint8(1))
        (raw / f"image/{part}").mkdir(parents=True)
        shutil.copy(SAMPLES / f"SUNRGBD_test_data/image/{part}/img-000001.jpg", raw / f"image/{part}")
    summary = convert(dataset=dataset, split=split, raw=raw, out=str(tmp_path / "out"), relabel=PUBLISHED)
    assert summary.relabel.applied == applied
    assert summary.relabel.reported == {"no such image in this split": records - applied}
    with open_shards(summary.url) as shards:
        assert named_histogram(member(shards)) == expected(sample, "universal (relabeled)")


@needs_records
def test_the_known_segment_of_ade20k(tmp_path):
    """40,609 pixels by the floor rule; by the rule of centres it would be 40,786."""
    raw = SAMPLES / "ADE20K_test_data/ADEChallengeData2016"
    path = record_file(tmp_path, ["ade20k-150,train,table,desk,training,ADE_train_00000001,30"])
    summary = convert(dataset="ade20k-150", split="train", raw=raw, out=str(tmp_path / "out"), relabel=path)
    assert summary.relabel.applied == 1
    with open_shards(summary.url) as shards:
        assert Counter(member(shards).ravel().tolist())[IDS["desk"]] == 40_609
