"""Update records of MSeg, from a CSV and from a checkout."""

import csv
import gzip
import hashlib
import random
from collections import Counter

import pytest

from segstream.shards.convert.relabel import Record, read_records
from segstream.shards.errors import DataError
from segstream.shards.taxonomy import load_taxonomy
from tests.shards.shared import SHARED

HEADER = "dataset,split,original_class,new_class,parent,image_stem,segment_id,source_file"
PUBLISHED = SHARED / "mseg/relabeled/records.csv.gz"
UNIVERSAL = [*load_taxonomy("universal").classes]

needs_records = pytest.mark.skipif(not PUBLISHED.is_file(), reason="the published records are not here")


def write(path, *rows, header=HEADER):
    path.write_text("\n".join([header, *rows, ""]))
    return path


def count(records):
    return sum(map(len, records.by_image.values()))


ROWS = (
    "bdd,train,person,bicyclist,train,a-b,11,x.txt",
    "idd-39,val,rider_other,unlabeled,18,005506_leftImg8bit,44,y.txt",
    "bdd,val,rider_other,person,val,c,12,x.txt",
    "bdd,train,rider_other,rider_other,train,z,12,x.txt",
    "bdd,train,rider_other,motorcyclist,train,a-b,12,x.txt",
)


def test_records_of_a_split_by_image_in_file_order(tmp_path):
    records = read_records(write(tmp_path / "r.csv", *ROWS), "bdd", "train")
    ids = {name: UNIVERSAL.index(name) for name in ("person", "bicyclist", "rider_other", "motorcyclist")}
    assert records.by_image == {
        ("train", "a-b"): (
            Record(11, ids["person"], ids["bicyclist"]),
            Record(12, ids["rider_other"], ids["motorcyclist"]),
        ),
        ("train", "z"): (Record(12, ids["rider_other"], ids["rider_other"]),),
    }
    assert count(records) == 3
    (record,) = read_records(tmp_path / "r.csv", "idd-39", "val").by_image["18", "005506_leftImg8bit"]
    assert record.new == 255
    assert count(read_records(tmp_path / "r.csv", "idd-39", "train")) == 0


def test_a_gzip_and_its_content_are_the_same_records(tmp_path):
    plain = write(tmp_path / "r.csv", *ROWS)
    packed = tmp_path / "packed"  # known by its content, not its name
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert read_records(packed, "bdd", "train") == read_records(plain, "bdd", "train")
    assert read_records(packed, "bdd", "val").sha256 == hashlib.sha256(plain.read_bytes()).hexdigest()


def test_columns_may_stand_in_any_order_and_the_source_may_be_missing(tmp_path):
    rows = [",".join(reversed(row.split(",")[:-1])) for row in (HEADER, *ROWS)]
    turned = write(tmp_path / "turned.csv", *rows[1:], header=rows[0])
    expected = read_records(write(tmp_path / "r.csv", *ROWS), "bdd", "train")
    assert read_records(turned, "bdd", "train").by_image == expected.by_image


def test_both_cityscapes_have_the_same_records(tmp_path):
    path = write(tmp_path / "r.csv", "cityscapes-19,val,rider_other,bicyclist,ulm,ulm_1_leftImg8bit,3,x")
    assert read_records(path, "cityscapes-34", "val") == read_records(path, "cityscapes-19", "val")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"header": HEADER + ",colour"}, r":1: unknown column 'colour'"),
        ({"header": HEADER.replace("_id", "id")}, r":1: unknown column 'segmentid'; did you mean 'segment_id'\?"),
        ({"header": HEADER.replace("parent,", "")}, r":1: needs one column 'parent'"),
        ({"header": HEADER.replace("parent,", "parent,parent,")}, r":1: needs one column 'parent'"),
        ({"header": ""}, r":1: needs one column 'dataset'"),
        ("bddd,train,person,person,train,a,11,x", r"r\.csv:3: unknown dataset 'bddd'; did you mean 'bdd'\?"),
        ("camvid-11,train,person,person,train,a,11,x", r"r\.csv:3: unknown dataset 'camvid-11'"),
        ("bdd,test,person,person,train,a,11,x", r"r\.csv:3: split 'test'; must be train or val"),
        ("bdd,train,person,persn,train,a,11,x", r"r\.csv:3: bdd has no class 'persn' .*did you mean 'person'\?"),
        ("bdd,train,table,person,train,a,11,x", r"r\.csv:3: bdd has no class 'table' after relabelling"),
        ("bdd,train,person,person,train,a,11a,x", r"r\.csv:3: segment id '11a' is no number"),
        ("bdd,train,person,person,train,a,-1,x", r"r\.csv:3: segment id '-1' is no number"),
        (f"bdd,train,person,person,train,a,{'9' * 5000},x", r"r\.csv:3: segment id '9{19}' is no number"),
        ("bdd,train,person,person,train,a,11", r"r\.csv:3: 7 values for 8 columns"),
        ("", r"r\.csv:3: 0 values for 8 columns"),
        ("bdd,train,person,person,train,a-b,11,y", r"r\.csv:3: segment 11 of 'train/a-b' is named a second time"),
        ('bdd,train,"person,person,train,a,11,x', r"r\.csv: not a CSV of update records"),
    ],
)
def test_a_bad_line_is_named(tmp_path, row, message):
    path = tmp_path / "r.csv"
    write(path, *ROWS, **row) if isinstance(row, dict) else write(path, ROWS[0], row, ROWS[2])
    with pytest.raises(DataError, match=message):
        read_records(path, "bdd", "train")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone", None, r"gone: cannot be read \(No such file"),
        ("cut.csv.gz", gzip.compress(b"x" * 9999)[:-9], r"cut\.csv\.gz: does not unpack as gzip"),
        ("binary", b"\xff\xfe\x00\x01", r"binary: not a CSV of update records"),
        ("r.csv", "\n".join([HEADER, *ROWS, ""]).encode(), r"holds no records of sunrgbd-37"),
        (".", None, r"holds no mseg/label_preparation"),
    ],
)
def test_what_cannot_be_read_is_an_error(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_records(tmp_path / name, "sunrgbd-37", "train")


WRITTEN = (  # what a line of the list says, the text file that it names; whose records these are, as (image, segment)
    ("'bdd', 'train',\t'person', 'bicyclist', 'bdd_person/to_bicyclist.txt'", "3dc8-f3a3_11.jpg\nff55-a06b_11.jpg",
     "bdd", "train", [(("train", "3dc8-f3a3"), 11), (("train", "ff55-a06b"), 11)]),
    ("'bdd', 'val',  'rider_other', 'unlabeled', 'bdd_person/to_none.txt'", "0a-0b_12.jpg\n",
     "bdd", "val", [(("val", "0a-0b"), 12)]),
    ("'ade20k-v1', 'train', 'fence', 'guard_rail', 'ade.txt'", "ADE_train_00001001_255.png\n",
     "ade20k-150", "train", [(("training", "ADE_train_00001001"), 255)]),
    ("'cocop', 'val', 'tent', 'awning', 'coco.txt'", "000000346785_8158335.png",
     "coco-panoptic-133", "val", [(("val2017", "000000346785"), 8158335)]),
    ("'cityscapes', 'train', 'rider_other', 'bicycle', 'city.txt'", "seqcologne_cologne_000115_19_leftImg8bit_70.jpg\n",
     "cityscapes-34", "train", [(("cologne", "cologne_000115_19_leftImg8bit"), 70)]),
    ("'idd', 'val', 'rider_other', 'person', 'idd.txt'", "seq173_316862_leftImg8bit_34.jpg\r\n",
     "idd-39", "val", [(("173", "316862_leftImg8bit"), 34)]),
    ("'sunrgbd', 'val', 'light_other', 'lamp', 'sun.txt'", "img-000015_34.jpg\n",
     "sunrgbd-37", "val", [(("test", "img-000015"), 34)]),
    ("'mapillary-public65', 'val', 'dog', 'cow', 'mapillary.txt'", "mapillary_czkO_9In4u30opBy5H1uLg_259.jpg\n",
     "mapillary-public65", "val", [(("labels", "czkO_9In4u30opBy5H1uLg"), 259)]),
    ("'ade20k', 'val', 'fence', 'fence', 'empty.txt'", "", "ade20k-150", "val", []),
)  # fmt: skip
HEAD = '''""" a comment, and an import that is never run """
from somewhere.absent import nothing
# dataset, split, class, new class, file
'''
CALLS = [f"    DatasetClassUpdateRecord({said})," for said, *_ in WRITTEN]
LIST = "\n".join([HEAD, "bdd_update_records = [", *CALLS[:2], "]", "others = [", *CALLS[2:], "]", ""])
AT = 1 + LIST[: LIST.index("cocop")].count("\n")


@pytest.fixture
def checkout(tmp_path):
    mseg = tmp_path / "mseg-api/mseg"
    (mseg / "label_preparation").mkdir(parents=True)
    (mseg / "label_preparation/dataset_update_records.py").write_text(LIST)
    for said, text, *_ in WRITTEN:
        path = mseg / "relabeled_data" / said.split("'")[-2]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
    return tmp_path / "mseg-api"


def test_a_checkout_is_read_as_published(checkout):
    for _, _, dataset, split, expected in WRITTEN:
        records = read_records(checkout, dataset, split)
        assert [(image, r.segment) for image, of in records.by_image.items() for r in of] == expected
        assert read_records(checkout / "mseg", dataset, split) == records
    (record,) = read_records(checkout, "bdd", "val").by_image["val", "0a-0b"]
    assert record == (12, UNIVERSAL.index("rider_other"), 255)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("'cocop'", "'cocoa'", rf"records\.py:{AT}: unknown dataset or split 'cocoa'"),
        ("'val', 'tent'", "'test', 'tent'", rf"records\.py:{AT}: unknown dataset or split 'cocop', 'test'"),
        ("'coco.txt'", "'../../coco.txt'", rf"records\.py:{AT}: '\.\./\.\./coco\.txt' is no path below"),
        ("'coco.txt'", "'/etc/hosts'", rf"records\.py:{AT}: '/etc/hosts' is no path below"),
        ("'coco.txt'", "FILES['coco']", rf"records\.py:{AT}: expected \(dataset, split"),
        ("'coco.txt'", "'gone.txt'", r"gone\.txt: cannot be read"),
        ("'tent'", "'tnt'", r"coco-panoptic-133 has no class 'tnt'"),
        ("others = [", "others = [[", r"not the list of update records"),
        ("others = [", f"{'(' * 500}", r"not the list of update records"),
        ("others = [", "others = [\0", r"not the list of update records"),
    ],
)
def test_a_checkout_of_another_form_is_an_error(checkout, old, new, message):
    assert old in LIST
    (checkout / "mseg/label_preparation/dataset_update_records.py").write_text(LIST.replace(old, new))
    with pytest.raises(DataError, match=message):
        read_records(checkout, "bdd", "train")


@pytest.mark.parametrize("line", ["nothing", "cologne_000115_70.jpg", "", "seqx_y_leftImg8bit_1x.jpg"])
def test_a_line_that_names_no_segment_is_named(checkout, line):
    (checkout / "mseg/relabeled_data/city.txt").write_text(f"seqx_y_leftImg8bit_1.jpg\n{line}\n")
    with pytest.raises(DataError, match=r"city\.txt:2: .* names no segment of cityscapes-19"):
        read_records(checkout, "bdd", "train")


@needs_records
@pytest.mark.parametrize(
    ("dataset", "split", "number", "images"), [("idd-39", "train", 28_001, 6_012), ("cityscapes-34", "val", 556, 254)]
)
def test_the_published_records_are_read_whole(dataset, split, number, images):
    """Against the counts published beside them."""
    records = read_records(PUBLISHED, dataset, split)
    assert (count(records), len(records.by_image)) == (number, images)
    ids = {**{name: i for i, name in enumerate(UNIVERSAL)}, "unlabeled": 255}
    with (PUBLISHED.parent / "counts.csv").open(newline="") as file:
        expected = {
            (ids[r["original_class"]], ids[r["new_class"]]): int(r["records"])
            for r in csv.DictReader(file)
            if (r["dataset"], r["split"]) == (dataset.replace("34", "19"), split)
        }
    assert Counter((r.original, r.new) for of in records.by_image.values() for r in of) == expected
    assert records.sha256 == "f40e4b96ddb1bfffdebf21632bb4388acc4255f6834313609a671baa686e3bec"


@needs_records
def test_the_records_agree_with_the_published_spot_checks(tmp_path):
    with (PUBLISHED.parent / "spot_checks.csv").open(newline="") as file:
        checks = list(csv.DictReader(file))
    images = {(c["parent"], c["image_stem"]) for c in checks}
    with gzip.open(PUBLISHED, "rt", newline="") as file:
        header, *rows = csv.reader(file)
    path = write(tmp_path / "few.csv", *(",".join(r) for r in rows if (r[4], r[5]) in images), header=",".join(header))
    for c in checks:
        records = read_records(path, c["dataset"], c["split"]).by_image[c["parent"], c["image_stem"]]
        (new,) = (r.new for r in records if r.segment == int(c["segment_id"]))
        assert UNIVERSAL[new] == c["expected_relabeled_class"]
    assert len(checks) == 43


def test_a_damaged_file_is_read_otherwise_or_is_an_error_of_one_line(tmp_path):
    """Bytes flipped, cut out or put in, in the plain file and in the packed one."""
    plain = write(tmp_path / "r.csv", *ROWS).read_bytes()
    rng = random.Random(0)
    path = tmp_path / "damaged"
    refused = 0
    for content in (plain, gzip.compress(plain, mtime=0)):
        for _ in range(150):
            data = bytearray(content)
            place = rng.randrange(len(data))
            data[place : place + rng.choice([0, 1, 1, 9])] = rng.randbytes(rng.choice([0, 1, 1, 7]))
            path.write_bytes(data)
            try:
                assert count(read_records(path, "bdd", "train")) <= 4
            except DataError as error:
                refused += 1
                assert str(error).count("\n") == 0  # noqa: PT017
    assert refused > 150
