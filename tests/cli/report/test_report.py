"""The report: from the files that runs and evaluations leave to one page that holds everything."""

import base64
import io
import json
import re
import sys

import numpy as np
import pytest
from PIL import Image

from segstream.cli.report.report import MAX_SIDE, inline_label, inline_photo, make_report, read_confusion
from segstream.colors import colorize, palette
from segstream.shards.errors import DataError
from tests.cli.conftest import Page

CLASSES = ("Sky", "Road", "Never seen")
LABEL = np.array([[0, 0, 1], [0, 255, 1]], np.uint8).repeat(8, 0).repeat(8, 1)

CONFUSION = {"dataset": "camvid-11", "taxonomy": "camvid-11", "short_side": 360, "scales": [0.5, 1.0]}
CONFUSION |= {"classes": CLASSES, "counted": [0, 1], "pixels": [[6, 2, 0], [1, 2, 1], [0, 0, 5]]}


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


class Left:
    """A folder in which models were trained and evaluated."""

    def __init__(self, folder, sets):
        self.folder, self.sets = folder, sets

    def model(self, name, **miou):
        """The least that `train` and `eval` leave of a model."""
        shards, _, _ = self.sets["ade20k-150"].rsplit("/", 2)
        recipe = {"data": {"shards": shards, "split": "train"}, "train": {"steps": 1000}, "loader": {"batch": 8}}
        mix = [{"dataset": "ade20k-150", "manifest": "ab" * 32}]
        about = {"versions": {"torch": "2.0"}, "python": "3.12", "git": "abc123"}
        run = {
            "recipe": recipe,
            "data": {"mix": mix, "split": "train"},
            "machine": {"processor": "x", "cores": 2},
            **about,
        }
        write(self.folder / f"runs/{name}/run.json", json.dumps(run))
        rows = []
        for dataset, value in miou.items():
            classes = [{"name": c, "iou": value, "pixels": p} for c, p in zip(CLASSES, (3, 1, 0), strict=True)]
            facts = {"taxonomy": dataset, "macc": 0.5, "acc": 0.5, "classes": classes, "images": 2, "seed": 7}
            rows.append({"dataset": dataset, "url": self.sets.get(dataset), "miou": value, **facts})
        write(self.folder / f"evals/{name}.json", json.dumps(rows))

    def logs_and_pictures(self, name):
        """What else they leave."""
        log = self.folder / f"runs/{name}/dvclive/plots/metrics"
        for file, values in (("loss", (2.0, 1.0)), ("crops_per_s", (12.345, 12.345)), ("data_wait", (0.02, 0.02))):
            write(log / f"{file}.tsv", f"step\t{file}\n0\t{values[0]}\n10\t{values[1]}\n")
        write(self.folder / f"confusion/{name}/camvid-11.json", json.dumps(CONFUSION))
        pictures = self.folder / f"pictures/{name}/camvid-11"
        pictures.mkdir(parents=True)
        Image.fromarray(np.full((16, 24, 3), 90, np.uint8)).save(pictures / "seq_0001_image.jpg")
        for kind in ("label", "pred"):
            Image.fromarray(colorize(LABEL, 3)).save(pictures / f"seq_0001_{kind}.png")

    def worst_images(self, name, mious):
        """What `eval --worst` leaves of a set."""
        folder = self.folder / f"pictures/{name}/camvid-11/worst-val"
        write(folder / "worst.json", json.dumps(mious))
        for n in range(len(mious) if isinstance(mious, dict) else 0):
            Image.fromarray(np.full((16, 24, 3), 90, np.uint8)).save(folder / f"{n:03}_image.jpg")
            for kind in ("label", "pred", "error"):
                Image.fromarray(colorize(LABEL, 3)).save(folder / f"{n:03}_{kind}.png")

    def page(self):
        return make_report(
            **{n: self.folder / n for n in ("evals", "pictures", "confusion", "metrics", "runs", "ensembles")}
        )[1]


@pytest.fixture
def bare(tmp_path, sets):
    left = Left(tmp_path, {name: str(url) for name, url in sets.items()})
    left.model("weak", **{"camvid-11": 0.2})
    return left


@pytest.fixture
def left(bare):
    bare.model("union & co", **{"camvid-11": 0.6})
    bare.logs_and_pictures("weak")
    return bare


def test_the_page_is_well_formed_and_loads_nothing_from_outside(left):
    text = left.page()
    page = Page(text)
    assert page.open == []
    assert len(page.loads) == 4
    assert all(url.startswith("data:image/") for url in page.loads)
    assert not {"script", "link", "iframe"} & page.seen
    assert not re.search(r"url\(|@import|https?://", text)
    assert "prefers-color-scheme: dark" in text


def test_the_page_tells_the_results(left):
    text = left.page()
    cells = Page(text).cells
    assert cells[:3] == ["model", "camvid-11", "h. mean"]
    assert cells[3:9] == ["union & co", "60.0", "60.0", "weak", "20.0", "20.0"]
    assert 'class="best ">60.0' in text
    at = cells.index("Sky")
    assert cells[at : at + 4] == ["Sky", "75.0", "60.0", "20.0"]
    assert "2 models, each trained on 8,000 crops" in text
    assert "12.3</td><td>2.0%" in text  # crops/s, waiting for data
    for shown in ("seq_0001", "make demo", "abc123", "<dd>7</dd>", "torch 2.0", "x, 2 cores", "ade20k-150</td>"):
        assert shown in text
    gallery = text[text.index("<h2>Predictions") : text.index("<h2>Classes")]
    assert "</i>Sky" in gallery
    assert "</i>not scored" in gallery
    assert "Never seen" not in gallery


def test_the_worst_images_are_shown_worst_first_whatever_their_keys(bare):
    bare.worst_images("weak", {"<b>&../seq": 0.125, "a/b": 0.5})
    text = bare.page()
    page = Page(text)
    assert page.open == []
    assert "b" not in page.seen
    assert len(page.loads) == 8
    assert re.findall(r"image · (.*?) · mIoU (.*?)<", text) == [("&lt;b&gt;&amp;../seq", "12.5"), ("a/b", "50.0")]


@pytest.mark.parametrize("found", [[], {"a": "bad"}, 3])
def test_a_damaged_list_of_worst_images_is_named(bare, found):
    bare.worst_images("weak", {"a": 0.5})
    bare.worst_images("weak", found)
    with pytest.raises(
        DataError, match=r"worst-val/worst\.json: found .*, not keys with their mIoU; evaluate the model"
    ):
        bare.page()


def test_what_is_not_there_is_left_out(bare):
    text = bare.page()
    assert not [title for title in ("<h2>Worst", "<h2>Confusion", "<h2>Training", "<h2>Speed", "<img") if title in text]
    assert Page(text).open == []


def test_the_calibration_of_ensembles_is_drawn(bare):
    bins = [[0.25, 0.1, 0.4], [0.75, 0.5, 0.6]]
    row = {"miou_mseg": 0.5, "accuracy": 0.34, "ece": 0.21, "auroc": None, "fpr95": 0.625, "reliability": bins}
    scores = write(bare.folder / "ensembles/two/score.json", json.dumps({"subsets": {"<a>": row, "SMIYC": {}}}))
    text = bare.page()
    section = text[text.index("<h2>Calibration") : text.index("<h2>Data")]
    page = Page(text)
    assert page.open == []
    assert section.count('<path class="line') == 2
    assert 'class="line c0" d="M225.5 253.4L572.5 147.0"><title>&lt;a&gt;' in section  # x: 52 + 694 c; y: 280 - 266 a
    assert 'class="line c1" d="M52.0 280.0L746.0 14.0"><title>as sure as right' in section
    at = page.cells.index("FPR95") + 1
    assert page.cells[at : at + 6] == ["<a>", "50.0", "34.0", "21.0", "-", "62.5"]
    for damaged in ("[]", '{"subsets": {"a": {"reliability": [1]}}}', '{"subsets": {"a": 1}}'):
        scores.write_text(damaged)
        with pytest.raises(DataError, match=r"two/score\.json: not what `ensemble --score` writes"):
            bare.page()


def test_headlines(bare):
    def headline():
        return re.search(r'class="lead">(.*?)</p>', bare.page()).group(1)

    assert headline() == "weak reaches a harmonic mean of 20.0 over 1 held-out dataset."
    bare.model("best", **{"camvid-11": 0.6})
    bare.model("worst", **{"camvid-11": 0.1})
    first = "best reaches a harmonic mean of 60.0 over 1 held-out dataset"
    assert headline() == f"{first}; the next, weak, reaches 20.0."
    for name in ("best", "worst"):
        (bare.folder / f"evals/{name}.json").unlink()
    bare.model("other", **{"cityscapes-19": 0.1})
    assert headline() == "No model was judged on all of the 2 held-out datasets."


def test_a_run_has_one_colour_in_all_charts_and_empty_ones_are_left_out(bare):
    bare.model("a", **{"camvid-11": 0.2})
    write(bare.folder / "runs/weak/dvclive/plots/metrics/loss.tsv", "step\tloss\n0\t1\n1\t2\n")
    for name, step in (("a", "nan"), ("weak", "0.5")):
        write(bare.folder / f"runs/{name}/dvclive/plots/metrics/val/voc2012/miou.tsv", f"step\tmiou\n0\t{step}\n")
    write(bare.folder / "runs/a/dvclive/plots/metrics/val/bdd/miou.tsv", "step\tmiou\n0\tnan\n")
    text = bare.page()
    assert re.findall(r'class="line (c\d)"', text) == ["c1", "c1"]
    assert "Training loss" in text
    assert "Validation on voc2012" in text
    assert "Validation on bdd" not in text


def decode(url):
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))


def test_an_inlined_label_keeps_its_colours_in_one_byte_a_pixel_and_large_pictures_are_reduced(tmp_path):
    label = np.random.default_rng(0).integers(0, 194, (40, 60)).astype(np.uint8)
    Image.fromarray(colorize(label, 194)).save(tmp_path / "label.png")
    picture = decode(inline_label(tmp_path / "label.png"))
    assert picture.mode == "P"
    assert (np.asarray(picture.convert("RGB")) == palette(194)[label]).all()
    Image.fromarray(colorize(np.zeros((300, 1200), np.uint8), 1)).save(tmp_path / "large.png")
    for inlined in (inline_label, inline_photo):
        assert decode(inlined(tmp_path / "large.png")).size == (MAX_SIDE, MAX_SIDE // 4)


@pytest.mark.parametrize("content", [None, b"\x89PNG\r\n\x1a\n", b""])
def test_a_missing_or_damaged_picture_is_named(left, content):
    path = left.folder / "pictures/weak/camvid-11/seq_0001_pred.png"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"pred\.png: not a readable picture"):
        left.page()


def test_without_jinja2_the_extra_is_named_and_without_its_description_the_run(bare, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "jinja2", None)
        with pytest.raises(DataError, match=r"segstream\[report\]"):
            bare.page()
    (bare.folder / "runs/weak/run.json").unlink()
    with pytest.raises(DataError, match=r"weak/run\.json: cannot be read"):
        bare.page()


def test_a_confusion_matrix_is_drawn_and_its_largest_confusions_told(tmp_path):
    (tmp_path / "c.json").write_text(json.dumps(CONFUSION))
    about, picture, confusions = read_confusion(tmp_path / "c.json")
    assert about == "camvid-11, short side 360, 2 scales"  # of a file made before it held `side`
    assert decode(picture).mode == "P"
    assert confusions == [("Sky", "Road", 0.25), ("Road", "Sky", 0.25)]  # the class that does not count is no mistake


@pytest.mark.parametrize("content", ["", "[]", "{}", json.dumps(CONFUSION | {"pixels": [[1]]})])
def test_a_damaged_confusion_matrix_is_named(tmp_path, content):
    (tmp_path / "c.json").write_text(content)
    with pytest.raises(DataError, match=r"c\.json: not a confusion matrix"):
        read_confusion(tmp_path / "c.json")
