"""Mapillary Vistas 1.1 in MSeg's 65 classes, and 1.2 in Cityscapes' 19."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from segstream.shards.errors import DataError, UnreadableError
from segstream.shards.taxonomy import load_taxonomy
from tests.shards.datasets.reading import VOID, found, natives, noise, write
from tests.shards.shared import SAMPLES, TAXONOMY, needs_mseg

CONFIG = SAMPLES / "mapillary-vistas-dataset_public_v1.1_config.json"
DATASETS = ("mapillary-public65", "mapillary-19")
STEM = "--NSVcUgfVhFd6uzkqHOOg"  # a real one
pytestmark = needs_mseg


def colours():
    return [label["color"] for label in json.loads(CONFIG.read_text())["labels"]]


def every_id():
    """(32, 40) with ids 0 to 65."""
    return (np.arange(32 * 40).reshape(32, 40) // 7 % 66).astype(np.uint8)


def photo(raw, label, palette=None, *, part="training", stem=STEM):
    palette = colours() if palette is None else palette
    write(raw / f"{part}/images/{stem}.jpg", noise(label.shape))
    return write(raw / f"{part}/labels/{stem}.png", label, [v for c in palette for v in c])


def test_every_id_and_colour_of_the_released_config(tmp_path):
    """As upstream does it: to RGB, then each class by its colour, then by name."""
    shutil.copy(CONFIG, tmp_path / "config.json")
    path = photo(tmp_path, every_id())
    labels = json.loads(CONFIG.read_text())["labels"]
    classes = (TAXONOMY / "mapillary-public65_names.txt").read_text().splitlines()
    assert [c["readable"] for c in labels[:65]] == classes == list(load_taxonomy("mapillary-public65").classes)
    rgb = np.asarray(Image.open(path).convert("RGB"))
    expected = np.full(rgb.shape[:2], -1)
    for label in labels:
        name = label["readable"]
        expected[(rgb == label["color"]).all(-1)] = classes.index(name) if name in classes else VOID
    assert (expected == VOID).any()
    ((key, found_label),) = natives("mapillary-public65", tmp_path, "train").items()
    assert key == STEM
    assert np.array_equal(found_label, expected)


@pytest.mark.parametrize("name", DATASETS)
def test_splits_and_stems(tmp_path, name):
    label = np.zeros((8, 8), np.uint8)
    for part, stem in (("training", "-_a-_B"), ("training", STEM), ("validation", "_-"), ("testing", "t")):
        photo(tmp_path, label, part=part, stem=stem)
    write(tmp_path / f"training/instances/{STEM}.png", label)
    pairs = found(name, tmp_path, "train").pairs
    assert [p.key for p in pairs] == [STEM, "-_a-_B"]
    assert (pairs[0].image, pairs[0].label) == (f"training/images/{STEM}.jpg", f"training/labels/{STEM}.png")
    assert [p.key for p in found(name, tmp_path, "val").pairs] == ["_-"]


@pytest.mark.parametrize("change", ["other colour", "swapped", "cut short", "index beyond"])
def test_a_palette_that_is_not_the_releases_is_an_error_not_class_0(tmp_path, change):
    palette, label = colours(), every_id()
    if change == "other colour":
        palette[3] = [1, 2, 3]
    elif change == "swapped":
        palette[3], palette[4] = palette[4], palette[3]
    elif change == "cut short":
        palette = palette[:3]
    else:
        label[0, 0] = 66
        palette.append(palette[0])  # the colour of class 0
    photo(tmp_path, label, palette)
    with pytest.raises(UnreadableError, match=r"palette entries \[(3|3, 4|3, 4, 5, 6, 7|66)\] do not have the colours"):
        natives("mapillary-public65", tmp_path, "train")


def test_colours_of_unused_entries_do_not_matter(tmp_path):
    palette = colours()
    palette[60:] = [[9, 9, 9]] * 100
    photo(tmp_path, np.minimum(every_id(), 59), palette)
    assert len(natives("mapillary-public65", tmp_path, "train")) == 1


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_label_without_a_palette(tmp_path, mode):
    path = photo(tmp_path, every_id())
    Image.open(path).convert(mode).save(path)
    with pytest.raises(UnreadableError, match=f"label of mode {mode}, expected a palette"):
        natives("mapillary-public65", tmp_path, "train")


@pytest.mark.parametrize("name", DATASETS)
def test_the_config_tells_the_version(tmp_path, name):
    photo(tmp_path, every_id())
    config = json.loads(CONFIG.read_text())
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    assert found(name, tmp_path, "train").pairs
    field = {"mapillary-public65": "readable", "mapillary-19": "name"}[name]
    config["labels"].insert(4, {"readable": "Road Shoulder", "name": "construction--flat--shoulder"})
    path.write_text(json.dumps(config))
    with pytest.raises(DataError, match=rf"config\.json: class 4 of 67 differs from ours.*than {name}'s"):
        found(name, tmp_path, "train")
    path.write_text(json.dumps({"labels": json.loads(CONFIG.read_text())["labels"][:65]}))
    with pytest.raises(DataError, match="class 65 of 65 differs"):
        found(name, tmp_path, "train")
    for content in ("{", "[]", '{"labels": 3}', json.dumps({"labels": [{field + "x": 1}]})):
        path.write_text(content)
        with pytest.raises(DataError, match=r"config\.json: not Mapillary's class list"):
            found(name, tmp_path, "train")


def test_only_version_1_1_has_the_records_and_colours_of_mseg(tmp_path):
    photo(tmp_path, every_id())
    config = json.loads(CONFIG.read_text())
    assert config["version"] == 1.1
    config["version"] = 1.2
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(DataError, match=r"version 1\.2, not 1\.1; this is another release"):
        found("mapillary-public65", tmp_path, "train")
    assert found("mapillary-19", tmp_path, "train").pairs
