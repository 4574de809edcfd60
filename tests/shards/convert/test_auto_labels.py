"""Automatic labels in the place of Cityscapes' coarse ones."""

import json

import numpy as np
import pytest
from PIL import Image

from segstream.pipeline.decode import decode_label
from segstream.shards.convert.convert import convert
from segstream.shards.errors import DataError, UsageError
from segstream.shards.format.left_out import BadSamplesError
from segstream.shards.format.reader import open_shards
from segstream.shards.taxonomy import load_taxonomy, release_remap
from tests.shards import trees
from tests.shards.convert.test_records import write

SPLIT = "train_extra"
CLASSES = load_taxonomy("cityscapes-19").classes
PUBLISHED = """
folder: refinement/train_extra
ids: "{key}.png"
confidences: "{key}_prob.png"
coding: release
threshold: 0.5
region: [1, 2, 9, 13]
or_coarse: [truck, bus]
"""


def labelled(raw, **options):
    given = {"split": SPLIT, "raw": raw, "out": raw.parent / "out", **options}
    return convert("cityscapes-19", **given)


def stored(made):
    with open_shards(made.url) as shards:
        return {
            shards.entry(i).key: (decode_label(shards.read(i, "native"), where=""), json.loads(shards.read(i, "json")))
            for i in range(len(shards))
        }


@pytest.fixture
def raw(tmp_path):
    """A release with coarse labels; beside it ids and 8-bit confidences of its images."""
    root, rng = trees.coarse(tmp_path / "raw"), np.random.default_rng(4)
    for image in (root / f"leftImg8bit/{SPLIT}").rglob("*.png"):
        with Image.open(image) as picture:
            size_hw = picture.size[::-1]
        place = tmp_path / f"refinement/{SPLIT}/{image.parent.name}/{image.stem}"
        trees.save(place.with_suffix(".png"), rng.choice([0, 7, 8, 23, 26, 28], size_hw).astype(np.uint8))
        confidences = rng.choice([0, 127, 128, 255], size_hw).astype(np.uint8)  # 127 is below a half
        trees.save(place.with_name(f"{image.stem}_prob.png"), confidences)
    (tmp_path / "auto.yaml").write_text(PUBLISHED)
    return root


def pixel(auto, coarse, confidence, y, x):
    """The class of one pixel, as docs/datasets.md says it."""
    release, (top, left, bottom, right) = release_remap("cityscapes-19").table, (1, 2, 9, 13)
    if confidence / 255 < 0.5 or not (top <= y < bottom and left <= x < right):
        return 255
    for name in ("truck", "bus"):
        if CLASSES.index(name) == release[coarse]:
            return CLASSES.index(name)
    return release[auto]


def test_what_counts_pixel_by_pixel(raw):
    found = stored(labelled(raw, auto_labels=raw.parent / "auto.yaml"))
    seen = set()
    for key, (native, told) in found.items():
        refined = raw.parent / f"refinement/{SPLIT}/{key}"
        coarse = raw / f"gtCoarse/{SPLIT}/{key.replace('leftImg8bit', 'gtCoarse_labelIds')}.png"
        files = (refined.with_suffix(".png"), coarse, refined.with_name(f"{refined.name}_prob.png"))
        auto, coarse, confidence = (np.asarray(Image.open(file)) for file in files)
        expected = [
            [pixel(auto[y, x], coarse[y, x], confidence[y, x], y, x) for x in range(auto.shape[1])]
            for y in range(auto.shape[0])
        ]
        np.testing.assert_array_equal(native, expected)
        seen |= set(native.ravel().tolist())
        assert (told["label"].partition("/")[0], told["auto_label"]) == ("gtCoarse", f"{key}.png")
    assert len(found) == 2
    assert {CLASSES.index(name) for name in ("road", "car", "truck", "bus")} | {255} <= seen


def test_native_ids_16_bits_and_no_coarse_file(raw):
    """As `predict --confidence` writes them."""
    key = "bayreuth/bayreuth_000000_000019_leftImg8bit"
    size_hw = np.asarray(Image.open(raw / f"leftImg8bit/{SPLIT}/{key}.png")).shape[:2]
    ids = np.arange(np.prod(size_hw), dtype=np.uint8).reshape(size_hw) % 19
    confidences = np.full(size_hw, 32767, np.uint16)  # the last below a half
    confidences[::2] += 1
    ids[0, 0] = 255
    trees.save(raw.parent / f"dump/labels/{key}.png", ids)
    trees.save(raw.parent / f"dump/confidences/{key}.png", confidences)
    (raw / f"gtCoarse/{SPLIT}/{key.replace('leftImg8bit', 'gtCoarse_labelIds')}.png").unlink()
    made = labelled(raw, auto_labels=raw.parent / "dump", skip_bad=1)
    ((_, (native, _)),) = stored(made).items()
    np.testing.assert_array_equal(native[::2], ids[::2])
    assert (native[1::2] == 255).all()
    (one,) = made.skipped
    assert (one.path.split("/")[:2], one.reason) == (["--auto-labels", "labels"], "missing file")


def test_another_way_to_read_them_converts_again(raw):
    spec = raw.parent / "auto.yaml"
    assert [labelled(raw, auto_labels=spec).resumed_shards for _ in range(2)] == [0, 1]
    assert labelled(raw, auto_labels=spec).params["auto_labels"]["region"] == (1, 2, 9, 13)
    spec.write_text(PUBLISHED.replace("0.5", "0.4"))
    assert labelled(raw, auto_labels=spec).resumed_shards == 0
    coarse = labelled(raw)
    assert (coarse.resumed_shards, "auto_labels" in coarse.params) == (0, False)
    next((raw.parent / "refinement").rglob("*_prob.png")).unlink()
    with pytest.raises(BadSamplesError, match=r"1 of 2 samples .*: --auto-labels/.*_prob\.png: missing file"):
        labelled(raw, auto_labels=spec)


@pytest.mark.parametrize(
    ("end", "values", "message"),
    [
        (".png", np.full((24, 32), 77, np.uint8), r"768 of 768 pixels carry ids \[77\]"),
        (".png", np.zeros((5, 4), np.uint8), r"leftImg8bit\.png: is of \(5, 4\), leftImg8bit/train_extra/.* of \("),
        ("_prob.png", np.zeros((5, 4), np.uint8), r"_prob\.png: is of \(5, 4\)"),
    ],
)
def test_files_that_cannot_be_used_are_named(raw, end, values, message):
    path = next((raw.parent / "refinement").rglob(f"*leftImg8bit{end}"))
    trees.save(path, values)
    with pytest.raises(BadSamplesError, match=rf"1 of 2 samples cannot be used: --auto-labels/.*{message}"):
        labelled(raw, auto_labels=raw.parent / "auto.yaml")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("0.5", "1.5", r"auto\.yaml: region \(1, 2, 9, 13\), threshold 1\.5: give"),
        ("[1, 2, 9, 13]", "[9, 2, 1, 13]", r"auto\.yaml: region \(9, 2, 1, 13\), threshold 0\.5: give top"),
        ("truck", "lorry", r"auto\.yaml: or_coarse: cityscapes-19 has no class 'lorry'"),
        ("refinement", "refined", r"2 of 2 samples .*--auto-labels/.*\.png: missing file"),
        ("threshold", "treshold", r"auto\.yaml.*treshold: unknown key; did you mean 'threshold'"),
    ],
)
def test_a_yaml_that_says_what_cannot_be(raw, old, new, message):
    spec = raw.parent / "auto.yaml"
    spec.write_text(PUBLISHED.replace(old, new))
    with pytest.raises(DataError, match=message):
        labelled(raw, auto_labels=spec)


def test_what_does_not_go_together(raw, tmp_path):
    (tmp_path / "dump").mkdir()
    (tmp_path / "dump/predict.json").write_text('{"taxonomy": {"name": "toy", "digest": "0"}}')
    with pytest.raises(DataError, match=r"predict\.json: no ids of coding native.*--taxonomy cityscapes-19"):
        labelled(raw, auto_labels=tmp_path / "dump")
    own = {"name": "cityscapes-19", "digest": load_taxonomy("cityscapes-19").digest}
    (tmp_path / "dump/predict.json").write_text(json.dumps({"taxonomy": own}))
    (tmp_path / "auto.yaml").write_text("folder: dump\ncoding: release\n")
    with pytest.raises(DataError, match=r"predict\.json: no ids of coding release; .*coding native"):
        labelled(raw, auto_labels=tmp_path / "auto.yaml")
    records = write(tmp_path / "r.csv", "cityscapes-19,val,rider_other,bicyclist,ulm,ulm_1_leftImg8bit,3,x")
    with pytest.raises(UsageError, match="leave it out, or --auto-labels"):
        labelled(raw, auto_labels=tmp_path / "dump", relabel=records)
