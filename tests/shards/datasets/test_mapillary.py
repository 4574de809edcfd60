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


@pytest.mark.parametrize(
    ("change", "entries"),
    [("other colour", "3"), ("swapped", "3, 4"), ("cut short", "3(, 4, 5, 6, 7)?"), ("beyond", "66")],
)
def test_a_palette_that_is_not_the_releases_is_an_error_not_class_0(tmp_path, change, entries):
    palette, label = colours(), every_id()
    match change:
        case "other colour":
            palette[3] = [1, 2, 3]
        case "swapped":
            palette[3], palette[4] = palette[4], palette[3]
        case "cut short":
            palette = palette[:3]
        case "beyond":
            label[0, 0] = 66
            palette.append(palette[0])  # the colour of class 0
    photo(tmp_path, label, palette)
    with pytest.raises(UnreadableError, match=rf"palette entries \[{entries}\] do not have the colours"):
        natives("mapillary-public65", tmp_path, "train")


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_label_without_a_palette_and_one_with_other_colours_of_unused_entries(tmp_path, mode):
    path = photo(tmp_path, np.minimum(every_id(), 59), [*colours()[:60], *[[9, 9, 9]] * 100])
    assert len(natives("mapillary-public65", tmp_path, "train")) == 1
    Image.open(path).convert(mode).save(path)
    with pytest.raises(UnreadableError, match=f"of mode {mode}, expected a palette"):
        natives("mapillary-public65", tmp_path, "train")


@pytest.mark.parametrize("name", DATASETS)
def test_the_config_tells_the_version(tmp_path, name):
    photo(tmp_path, every_id())
    path, config = tmp_path / "config.json", json.loads(CONFIG.read_text())
    labels, field = config["labels"], {"mapillary-public65": "readable", "mapillary-19": "name"}[name]
    path.write_text(json.dumps(config))
    assert found(name, tmp_path, "train").pairs
    more = [*labels[:4], {"readable": "Road Shoulder", "name": "construction--flat--shoulder"}, *labels[4:]]
    for content, said in (
        ({"labels": more}, rf"config\.json: class 4 of 67 differs from ours.*than {name}'s"),
        ({"labels": labels[:65]}, "class 65 of 65 differs"),
        ([], r"config\.json: not Mapillary's class list"),
        ({"labels": 3}, r"config\.json: not Mapillary's class list"),
        ({"labels": [{field + "x": 1}]}, r"config\.json: not Mapillary's class list"),
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(DataError, match=said):
            found(name, tmp_path, "train")
    path.write_text("{")
    with pytest.raises(DataError, match=r"config\.json: not Mapillary's class list"):
        found(name, tmp_path, "train")
    assert config["version"] == 1.1
    path.write_text(json.dumps(config | {"version": 1.2}))
    if name == "mapillary-19":
        assert found(name, tmp_path, "train").pairs
    else:  # it has the records and colours of MSeg
        with pytest.raises(DataError, match=r"version 1\.2, not 1\.1; this is another release"):
            found(name, tmp_path, "train")
