import base64
import io
import json
import re
import sys
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest
from PIL import Image

from segstream.cli.report.chart import Curve
from segstream.cli.report.report import (
    MAX_SIDE,
    DataSet,
    Gallery,
    Matrix,
    Panel,
    PictureRow,
    ReportInputs,
    Speed,
    headline,
    inline_label,
    inline_photo,
    matrix_of,
    render_report,
)
from segstream.cli.report.results import ClassScore, DatasetScore, ModelResult, summarize
from segstream.colors import colorize, palette
from segstream.shards.errors import DataError

CLASSES = ("Sky", "Road", "Never seen")
LABEL = np.array([[0, 0, 1], [0, 255, 1]], np.uint8).repeat(8, 0).repeat(8, 1)

CONFUSION = {
    "dataset": "camvid-11",
    "taxonomy": "camvid-11",
    "short_side": 360,
    "scales": [0.5, 1.0],
    "classes": CLASSES,
    "counted": [0, 1],
    "pixels": [[6, 2, 0], [1, 2, 1], [0, 0, 5]],
}


def result(name, miou):
    classes = tuple(ClassScore(name=c, iou=miou, pixels=p) for c, p in zip(CLASSES, (3, 1, 0), strict=True))
    score = DatasetScore(
        dataset="camvid-11", taxonomy="camvid-11", miou=miou, macc=0.5, acc=0.5, classes=classes, images=2
    )
    return ModelResult(name=name, scores=(score,))


@pytest.fixture
def inputs(tmp_path):
    files = {name: tmp_path / f"{name}.png" for name in ("label", "pred")}
    for path in files.values():
        cv2.imwrite(str(path), colorize(LABEL, 3)[..., ::-1])
    photo = tmp_path / "image.jpg"
    cv2.imwrite(str(photo), np.full((16, 24, 3), 90, np.uint8))
    confusion = tmp_path / "confusion.json"
    confusion.write_text(json.dumps(CONFUSION))
    results = (result("weak", 0.2), result("union & co", 0.6))
    row = PictureRow(key="seq/0001", image=photo, label=files["label"], predictions={"weak": files["pred"]})
    return ReportInputs(
        summary=summarize(results, heldout=("camvid-11",), seed=7, data={}),
        results=results,
        panels=(
            Panel(title="Training loss", y_label="loss", curves=(Curve(name="weak", points=((0, 2.0), (10, 1.0))),)),
            Panel(title="Validation on voc2012", y_label="mIoU", curves=()),
        ),
        matrices=(Matrix(model="weak", path=confusion),),
        speeds=(Speed(model="weak", crops_per_s=12.345, data_wait=0.02, images_per_s=None),),
        galleries=(Gallery(dataset="camvid-11", classes=CLASSES, rows=(row,)),),
        data=(
            DataSet(
                name="camvid-11", split="val", role="held out", samples=2, shards=1, bytes=2_500_000, digest="f" * 64
            ),
        ),
        commands=("segstream world --out data/world", "dvc repro"),
        facts={"commit": "abc123"},
    )


class Page(HTMLParser):
    """Collects what a page loads, its table cells, and whether its tags close."""

    def __init__(self, text):
        super().__init__()
        self.loads, self.cells, self.open, self.seen = [], [], [], set()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        self.loads += [value for key, value in attrs if key in ("src", "href", "srcset", "action")]
        if tag not in ("meta", "img", "input", "path"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in ("path",):
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.cells.append(data)


def test_the_page_is_well_formed_and_loads_nothing_from_outside(inputs):
    text = render_report(inputs)
    page = Page(text)
    assert page.open == []
    assert len(page.loads) == 4
    assert all(url.startswith("data:image/") for url in page.loads)
    assert not {"script", "link", "iframe"} & page.seen
    assert not re.search(r"url\(|@import|https?://", text)
    assert "prefers-color-scheme: dark" in text


def test_the_page_tells_the_results(inputs):
    text = render_report(inputs)
    cells = Page(text).cells
    assert cells[:3] == ["model", "camvid-11", "h. mean"]
    assert cells[3:9] == ["union & co", "60.0", "60.0", "weak", "20.0", "20.0"]
    assert 'class="best "' in text.replace("best sum", "best ")
    at = cells.index("Sky")
    assert cells[at : at + 4] == ["Sky", "75.0", "60.0", "20.0"]
    assert "2.5 MB" in cells
    for shown in ("seq/0001", "dvc repro", "abc123", "<dd>7</dd>", "union &amp; co reaches a harmonic mean of 60.0"):
        assert shown in text


def test_the_legend_has_the_classes_that_occur(inputs):
    text = render_report(inputs)
    gallery = text[text.index("<h2>Predictions") : text.index("<h2>Classes")]
    assert "</i>Sky" in gallery
    assert "</i>not scored" in gallery
    assert "Never seen" not in gallery


def test_parts_without_content_are_left_out(inputs):
    bare = render_report(ReportInputs(summary=inputs.summary, results=()))
    for title in ("Predictions", "Classes", "Training", "<h2>Data"):
        assert title not in bare
    assert Page(bare).open == []


def test_headlines(inputs):
    assert headline(inputs.summary) == (
        "union & co reaches a harmonic mean of 60.0 over 1 held-out dataset; the next, weak, reaches 20.0."
    )
    alone = summarize((result("weak", 0.2),), heldout=("camvid-11",), seed=0, data={})
    assert headline(alone) == "weak reaches a harmonic mean of 20.0 over 1 held-out dataset."
    none = summarize((result("weak", 0.2),), heldout=("camvid-11", "voc2012"), seed=0, data={})
    assert "No model" in headline(none)


def decode(url):
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))


def test_an_inlined_label_keeps_its_colours_in_one_byte_a_pixel(tmp_path):
    label = np.random.default_rng(0).integers(0, 194, (40, 60)).astype(np.uint8)
    Image.fromarray(colorize(label, 194)).save(tmp_path / "label.png")
    picture = decode(inline_label(tmp_path / "label.png"))
    assert picture.mode == "P"
    assert (np.asarray(picture.convert("RGB")) == palette(194)[label]).all()


def test_large_pictures_are_reduced(tmp_path):
    Image.fromarray(colorize(np.zeros((300, 1200), np.uint8), 1)).save(tmp_path / "x.png")
    assert decode(inline_label(tmp_path / "x.png")).size == (MAX_SIDE, MAX_SIDE // 4)
    assert decode(inline_photo(tmp_path / "x.png")).size == (MAX_SIDE, MAX_SIDE // 4)


@pytest.mark.parametrize("content", [None, b"\x89PNG\r\n\x1a\n", b""])
def test_a_missing_or_damaged_picture_is_named(inputs, tmp_path, content):
    path = tmp_path / "pred.png"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"pred\.png: not a readable picture"):
        render_report(inputs)


def test_without_jinja2_the_extra_is_named(inputs, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(DataError, match=r"segstream\[report\]"):
        render_report(inputs)


def test_a_confusion_matrix_is_drawn_and_its_largest_confusions_told(tmp_path):
    (tmp_path / "c.json").write_text(json.dumps(CONFUSION))
    about, picture, confusions = matrix_of(tmp_path / "c.json")
    assert about == "camvid-11, short side 360, 2 scales"
    assert picture.ndim == 3
    assert confusions == [("Sky", "Road", 0.25), ("Road", "Sky", 0.25)]  # the class that does not count is no mistake


def test_charts_keep_a_runs_colour_and_empty_ones_are_left_out(inputs):
    text = render_report(inputs)
    assert "Training loss" in text
    assert "Validation on voc2012" not in text
    assert "12.3</td><td>2.0%" in text


@pytest.mark.parametrize("content", ["", "[]", "{}", json.dumps(CONFUSION | {"pixels": [[1]]})])
def test_a_damaged_confusion_matrix_is_named(tmp_path, content):
    (tmp_path / "c.json").write_text(content)
    with pytest.raises(DataError, match=r"c\.json: not a confusion matrix"):
        matrix_of(tmp_path / "c.json")
