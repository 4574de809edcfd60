import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from segstream.shards.checks.verify import verify
from segstream.shards.convert.convert import convert
from segstream.shards.datasets.check import check_release
from segstream.shards.datasets.registry import dataset
from segstream.shards.datasets.release import Release
from segstream.shards.errors import DataError, UsageError
from segstream.shards.format.reader import open_shards
from segstream.shards.taxonomy import load_taxonomy, projection, remap_label
from tests.shards import trees
from tests.shards.shared import CAMVID, needs_camvid

EXAMPLE = Path(__file__).parents[3] / "examples" / "camvid.yaml"
OWN = {
    "name": "mine",
    "splits": {"train": {"images": "images/*.jpg", "labels": "labels/*.png"}, "val": {"list": "val.txt"}},
    "classes": [
        {"name": "up", "universal": "sky"},
        {"name": "down", "universal": ["road", "terrain"], "id": 7},
        {"name": "odd"},
    ],
    "ignore": [9],
}


@pytest.fixture
def raw(tmp_path):
    rng = np.random.default_rng(0)
    for n in range(4):
        trees.save(tmp_path / f"images/a{n}.jpg", trees.picture(rng))
        trees.save(tmp_path / f"labels/a{n}.png", trees.blocks(rng, [0, 2, 7, 9, 255]).astype(np.uint8))
    (tmp_path / "val.txt").write_text("images/a0.jpg labels/a0.png\n\nimages/a1.jpg\tlabels/a1.png\n")
    return tmp_path


def write(folder, **changes):
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump({**OWN, **changes}))
    return str(path)


def test_ids_become_positions_and_ignored_values_255(raw):
    own = dataset(write(raw))
    for pair in own.find(Release(raw), "train").pairs:
        released = np.asarray(Image.open(raw / pair.label))
        label = remap_label(own.read_label((raw / pair.label).read_bytes(), pair), own.remap, where="")
        assert np.array_equal(label, np.vectorize({0: 0, 7: 1, 2: 2, 9: 255, 255: 255}.get)(released))


def test_universal_names_give_both_directions(raw):
    own = dataset(write(raw)).taxonomy
    ids = {c: i for i, c in enumerate(load_taxonomy("universal").classes)}
    assert own.to_universal == (ids["sky"], ids["road"], 255)
    assert set(own.from_universal) == {(ids["sky"], 0), (ids["road"], 1), (ids["terrain"], 1)}
    assert projection(load_taxonomy("universal"), own).sum() == 3
    twins = dataset(write(raw, classes=[{"name": name, "universal": "car"} for name in "ab"])).taxonomy
    assert twins.to_universal == (ids["car"],) * 2
    assert twins.from_universal == ((ids["car"], 0),)  # the first receives the predictions


def test_native_only(raw):
    path = write(raw, classes=[{"name": str(i)} for i in range(10)], ignore=[])
    summary = convert(dataset=path, split="train", raw=raw, out=str(raw / "out"))
    with open_shards(summary.url) as shards:
        assert shards.manifest.members == ("image", "json", "native")
        assert shards.manifest.native.to_universal is None


def test_lists_pair_as_written_and_wildcards_by_what_they_stand_for(raw):
    pairs = dataset(write(raw)).find(Release(raw), "val").pairs
    assert [(p.key, p.label) for p in pairs] == [("images/a0", "labels/a0.png"), ("images/a1", "labels/a1.png")]
    for path in (f"{place}/{city}/0_{end}.png" for place, end in (("left", "left"), ("gt", "ids")) for city in "xy"):
        trees.save(raw / path, np.zeros((8, 8), np.uint8))
    path = write(raw, splits={"train": {"images": "left/**/*_left.png", "labels": "gt/**/*_ids.png"}})
    pairs = dataset(path).find(Release(raw), "train").pairs
    assert [(p.key, p.label) for p in pairs] == [("x/0_left", "gt/x/0_ids.png"), ("y/0_left", "gt/y/0_ids.png")]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_lists_are_read_as_other_programs_write_them(raw, encoding):
    """With a byte order mark, lines and paths as on Windows, paths absolute or from the data's root, lines repeated."""
    lines = (f"{raw}/images/a0.jpg {raw}/labels/a0.png", "/images/a1.jpg labels\\a1.png", "images/a0.jpg labels/a0.png")
    (raw / "val.txt").write_bytes("\r\n".join(lines).encode(encoding))
    found = dataset(write(raw)).find(Release(raw), "val")
    assert [(p.key, p.label) for p in found.pairs] == [("images/a0", "labels/a0.png"), ("images/a1", "labels/a1.png")]
    assert [note.rpartition("list: ")[2] for note in found.notes] == [
        f"1 lines of {raw}/val.txt name a pair again; each is taken once"
    ]


def test_capital_suffixes_pair_and_what_no_glob_matches_is_counted(raw):
    for old, new in (("images/a1.jpg", "images/a1.JPG"), ("labels/a1.png", "labels/a1.PNG")):
        (raw / old).rename(raw / new)
    for name in ("images/b.jpeg", "images/deep/c.heic", "images/d.heic", "labels/clip.MP4", "images/notes.txt"):
        (raw / name).parent.mkdir(exist_ok=True)
        (raw / name).touch()
    found = dataset(write(raw)).find(Release(raw), "train")
    assert [p.key for p in found.pairs] == ["a0", "a1", "a2", "a3"]
    told = "4 other files there: 2 .heic (images/d.heic, ...), 1 .jpeg (images/b.jpeg), 1 .mp4 (labels/clip.MP4)"
    assert [note.partition("no glob matches ")[2] for note in found.notes] == [told]
    assert check_release(write(raw), raw).splits[0].notes == found.notes
    shutil.copy(raw / "images/a1.JPG", raw / "images/a1.jpg")
    with pytest.raises(DataError, match=r"'images/\*\.jpg' means both images/a1\.JPG and images/a1\.jpg"):
        dataset(write(raw)).find(Release(raw), "train")


@pytest.mark.parametrize(("images", "labels"), [("all/*.png", "all/*_mask.png"), ("all/*_rgb.png", "all/*.png")])
def test_masks_may_lie_beside_their_images(raw, images, labels):
    for n in range(2):
        trees.save(raw / images.replace("*", str(n)), trees.picture(np.random.default_rng(n)))
        trees.save(raw / labels.replace("*", str(n)), np.zeros((24, 32), np.uint8))
    found = dataset(write(raw, splits={"train": {"images": images, "labels": labels}})).find(Release(raw), "train")
    assert [p.label for p in found.pairs] == [labels.replace("*", str(n)) for n in range(2)]
    assert not found.orphans + found.notes


def test_ignored_values_may_be_any_and_are_counted_as_stored(raw):
    """-1 of signed files, too; in pixels of the stored size, whichever size the label file has."""
    for path in (raw / "labels").iterdir():
        label = np.asarray(Image.open(path)).astype(np.int32)
        trees.save(raw / f"wide/{path.stem}.tif", np.where(label == 9, -1, label))
    path = write(raw, ignore=[-1, 70000], splits={"train": {"images": "images/*.jpg", "labels": "wide/*.tif"}})
    for again in range(2):
        made = convert(dataset=path, split="train", raw=raw, out=str(raw / "out"), short_side=12)
        assert made.resumed_shards == again
        with open_shards(made.url) as shards:
            labels = [np.asarray(Image.open(io.BytesIO(shards.read(i, "native")))) for i in range(4)]
            assert dict(shards.manifest.ignored) == dict(made.ignored)
        assert made.pixels == 4 * 12 * 16
        assert made.ignored.keys() == {-1, 255}
        assert sum(made.ignored.values()) == sum((label == 255).sum() for label in labels)


def test_names_that_are_not_utf8_are_kept(raw):
    for kind, suffix in (("images", "jpg"), ("labels", "png")):
        (raw / f"{kind}/a0.{suffix}").rename(raw / kind / os.fsdecode(b"caf\xe9." + suffix.encode()))
    (raw / "labels/a1.png").write_bytes(b"")
    made = convert(dataset=write(raw), split="train", raw=raw, out=str(raw / "out"), skip_bad=1)
    assert not verify(made.url).faults
    with open_shards(made.url) as shards:
        (one,) = (i for i in range(3) if shards.entry(i).key == "caf%E9")
        assert os.fsencode(json.loads(shards.read(one, "json"))["image"]) == b"images/caf\xe9.jpg"


def test_files_that_pair_with_nothing_are_listed(raw):
    (raw / "labels/a1.png").unlink()
    (raw / "images/a3.jpg").unlink()
    with pytest.raises(DataError, match="2 of 3 samples") as error:
        convert(dataset=write(raw), split="train", raw=raw, out=str(raw / "out"))
    for said in ("labels/a1.png: missing file", "labels/a3.png: label without an image"):
        assert said in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clases": []}, r"own\.yaml\.clases: unknown key; did you mean 'classes'"),
        ({"classes": [{"name": "a", "univrsal": "sky"}]}, r"classes\[0\]\.univrsal: unknown key; did you mean 'univ"),
        ({"classes": [{"name": "a", "universal": "ski"}]}, r"classes\[0\]\.universal: 'ski' is not .*did you mean 'sk"),
        ({"classes": [{"name": "a"}, {"name": "a"}]}, "class name 'a' is given twice"),
        ({"classes": [{"name": "a"}, {"name": "b", "id": 0}]}, "label id 0 is given twice"),
        ({"classes": [{"name": "a"}], "ignore": [0]}, "label id 0 is given twice"),
        ({"classes": [{"name": "a", "id": -1}]}, "label id -1 is outside"),
        ({"ignore": [-(2**31) - 1]}, "ignore: -2147483649 is no value of 32 bits"),
        ({"classes": []}, "at least one split and one class"),
        ({"classes": [{"name": str(i)} for i in range(256)], "ignore": []}, "256 of them; at most 255"),
        ({"classes": [{"id": 1}]}, r"classes\[0\]\.name: missing"),
        ({"name": "camvid-11"}, "taken by a published taxonomy"),
        ({"name": "a/b"}, "use letters"),
        ({"classes": [{"name": "a\x1b[2J"}]}, r"classes\[0\]\.name: 'a.x1b\[2J' is not of the form"),
        ({"splits": {"train": {"images": "*.jpg"}}}, "give either `images` and `labels`"),
        ({"splits": {"train": {"images": "a", "labels": "b", "list": "c"}}}, "give either"),
        ({"splits": {"train": {"image": "a"}}}, r"splits\.train\.image: unknown key; did you mean 'images'"),
    ],
)
def test_mistakes_in_the_yaml(tmp_path, changes, message):
    with pytest.raises(DataError, match=message) as error:
        dataset(write(tmp_path, **changes))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"train": {"images": "image/*.jpg", "labels": "labels/*.png"}}, r"'image/\*\.jpg' matches no file below"),
        ({"train": {"images": "images/*.jpg", "labels": "labels/b*.png"}}, r"'labels/b\*\.png' matches no file"),
        ({"train": {"images": "images/*.jpg", "labels": "*/a*.png"}}, "none of 4 images pairs with one of 4 labels"),
        ({"train": {"images": "/images/*.jpg", "labels": "*/a*.png"}}, "not a glob relative to"),
        ({"train": {"list": "train.txt"}}, r"train\.list: .*train\.txt cannot be read"),
        (
            {"train": {"images": "images/*.jpg", "labels": "images/*.jpg"}},
            r"none of 4 images .* of 4 labels \(first ones: images/a0\.jpg, images/a0\.jpg",
        ),
        (
            {"train": {"list": "two.txt"}},
            r"line 2: images/a0\.jpg has the label labels/a1\.png here and labels/a0\.png",
        ),
        ({"train": {"list": "far.txt"}}, r"far\.txt, line 1: /nowhere/a\.jpg is absolute, and neither in "),
        ({"train": {"list": "bad.txt"}}, r"bad\.txt, line 2: 3 words, expected \"image label\""),
        ({"train": {"list": "empty.txt"}}, "names no images"),
    ],
)
def test_mistakes_about_files(raw, splits, message):
    (raw / "bad.txt").write_text("a b\na b c\n")
    (raw / "empty.txt").write_text("\n")
    (raw / "two.txt").write_text("images/a0.jpg labels/a0.png\nimages/a0.jpg labels/a1.png\n")
    (raw / "far.txt").write_text("/nowhere/a.jpg labels/a0.png\n")
    with pytest.raises(DataError, match=message):
        dataset(write(raw, splits=splits)).find(Release(raw), "train")


def test_missing_yaml_root_and_split_and_a_root_that_is_stated(raw, tmp_path):
    with pytest.raises(DataError, match=r"none\.yaml: cannot be read"):
        dataset(str(tmp_path / "none.yaml"))
    with pytest.raises(UsageError, match="says no `root`; give the folder of the data with --raw"):
        convert(dataset=write(raw), split="train", out=str(raw / "out"))
    with pytest.raises(UsageError, match="mine has no split 'tran'; did you mean 'train'"):
        convert(dataset=write(raw), split="tran", raw=raw, out=str(raw / "out"))
    with pytest.raises(DataError, match="no such folder; give the folder of the data with --raw"):
        convert(dataset=write(raw), split="train", raw=raw / "x", out=str(raw / "out"))
    (raw / "yamls").mkdir()
    path = write(raw / "yamls", root="..")  # relative to the YAML
    assert convert(dataset=path, split="train", out=str(raw / "out")).samples == 4


@needs_camvid
def test_the_example_converts_real_camvid(tmp_path):
    for split, count in (("train", 367), ("val", 101)):
        assert len(dataset(str(EXAMPLE)).find(Release(CAMVID), split).pairs) == count
    summary = convert(dataset=str(EXAMPLE), split="train", raw=CAMVID, out=str(tmp_path), limit=3)
    with open_shards(summary.url) as shards:
        for i in range(3):
            key = shards.entry(i).key
            assert shards.read(i, "image") == (CAMVID / f"images/train/{key}.jpg").read_bytes()
            released = np.asarray(Image.open(CAMVID / f"labels/train/{key}.png"))
            native = np.asarray(Image.open(io.BytesIO(shards.read(i, "native"))))
            assert np.array_equal(native, np.where(released == 11, 255, released))
            assert (released == 11).any()


def test_a_yaml_edited_between_two_uses_is_read_again(raw):
    path = write(raw)
    before = dataset(path).taxonomy.digest
    assert dataset(write(raw, classes=[{"name": str(i)} for i in range(10)], ignore=[])).taxonomy.digest != before
    shutil.rmtree(raw / "labels")
    with pytest.raises(DataError, match="matches no file"):
        dataset(path).find(Release(raw), "train")


def test_an_index_means_one_colour_in_all_label_files(tmp_path):
    def save(name, colours, ids):
        label = Image.frombytes("P", (4, 4), bytes([*ids, *[0] * 14]))
        label.putpalette([channel for colour in colours for channel in colour])
        for path, picture in ((f"labels/{name}.png", label), (f"images/{name}.png", Image.new("RGB", (4, 4)))):
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            picture.save(tmp_path / path)

    black, red, blue = [0, 0, 0], [255, 0, 0], [0, 0, 255]
    save("train/a", [black, red, blue], [1, 2])
    save("train/b", [black, red], [1, 1])  # a shorter one
    save("val/c", [black, blue, red], [0, 0])  # differs where no pixel is
    splits = {name: {"images": f"images/{name}/*.png", "labels": f"labels/{name}/*.png"} for name in ("train", "val")}
    own = {"name": "p", "splits": splits, "classes": [{"name": n} for n in ("black", "red", "blue")]}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(own))
    data = dataset(str(tmp_path / "own.yaml"))
    assert len(data.find(Release(tmp_path), "train").pairs) == 2
    save("val/c", [black, blue, red], [1, 1])
    for split in splits:
        with pytest.raises(
            DataError, match=r"index 1 is the colour \[255, 0, 0\] in labels/train/a.png and \[0, 0, 255\] in"
        ):
            data.find(Release(tmp_path), split)
