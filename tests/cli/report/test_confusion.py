import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from segstream.cli.report.confusion import OTHERS, plot, shares, write_confusion
from segstream.model.config import InferConfig
from segstream.model.evaluation.metrics import EvalResult
from segstream.model.evaluation.protocol import protocols
from segstream.shards.errors import DataError
from segstream.shards.taxonomy import load_taxonomy


def result_on(native, *, relabeled=False):
    members = ("native", "universal", "universal-relabeled")
    (protocol,) = protocols(load_taxonomy("universal"), load_taxonomy(native), members, relabeled=relabeled or None)
    count = protocol.taxonomy.num_classes
    pixels = np.random.default_rng(0).integers(0, 50, (count, count + relabeled))
    pixels[0] = 0  # a class without a labelled pixel
    return EvalResult.of(pixels, protocol, InferConfig(crop=9, short_side=360), dataset=native, split="val", images=3)


def test_shares_are_of_the_labelled_pixels_of_a_row():
    pixels = np.array([[6, 2, 2], [0, 0, 0], [1, 0, 3]])
    values, rows, columns = shares(pixels, ("a", "b", "c"), (0, 2))
    assert (rows, columns) == (("a", "c"), ("a", "c", OTHERS))
    assert values.tolist() == [[0.6, 0.2, 0.2], [0.25, 0.75, 0.0]]
    values, _, columns = shares(pixels, ("a", "b", "c"), (1,))
    assert (values.tolist(), columns) == ([[0.0]], ("b",))
    values, _, columns = shares(np.array([[3, 0, 1], [0, 4, 0]]), ("a", "b"), (0, 1))  # a prediction of no class
    assert columns == ("a", "b", OTHERS)
    assert values[:, 2].tolist() == [0.25, 0.0]


@pytest.mark.parametrize(("native", "relabeled"), [("camvid-11", False), ("coco-panoptic-133", True)])
def test_a_matrix_is_written_whole_and_drawn_or_it_is_said_where_it_cannot(tmp_path, native, relabeled):
    found = result_on(native, relabeled=relabeled)
    path = write_confusion(tmp_path / "new", found)
    taxonomy = "universal-relabeled" if relabeled else native
    assert path.name == f"{native}_{taxonomy}_360_ss.json"
    content = json.loads(path.read_text())
    assert (content["short_side"], content["side"]) == (360, "360")
    long = write_confusion(tmp_path, replace(found, short_side=None, long_side=2177))
    assert (long.name, json.loads(long.read_text())["side"]) == (f"{native}_{taxonomy}_long-2177_ss.json", "long 2177")
    assert write_confusion(tmp_path, replace(found, split="train")).name == f"{native}-train_{taxonomy}_360_ss.json"
    assert content["pixels"] == found.confusion.tolist()
    assert content["classes"] == list(found.protocol.taxonomy.classes)
    assert content["counted"] == list(found.protocol.counted)
    with Image.open(path.with_suffix(".png")) as picture:
        assert max(picture.size) < 1700
        assert min(picture.size) > 300
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file/.*cannot be written"):
        write_confusion(tmp_path / "file", found)


def test_the_picture_is_dark_where_the_share_is_high():
    values = np.array([[1.0, 0.0], [0.25, 0.75]])
    picture = plot(values, ("aa", "bb"), ("aa", "bb")).astype(int).sum(axis=2)
    height, width = picture.shape
    right, bottom = width - 8, height - 8  # the matrix ends 8 pixels from the edge, cells are 28 wide
    corner = {(i, j): picture[bottom - 56 + 28 * i + 2, right - 56 + 28 * j + 2] for i in (0, 1) for j in (0, 1)}
    assert corner[0, 0] < corner[1, 1] < corner[1, 0] < corner[0, 1] == 3 * 255
