import csv
import json
import re

import pytest

from segstream.cli.report.results import ModelResults, read_any, read_models, read_summary, summarize
from segstream.model.evaluation.metrics import ClassResult, EvalResult
from segstream.shards.errors import DataError
from tests.cli.report.test_tables import MSEG_1M


def score(dataset, miou, **more):
    classes = (ClassResult(name="road", iou=miou, pixels=7),)
    facts = {"taxonomy": dataset, "macc": 0.5, "acc": 0.8, "classes": classes, "images": 3}
    return EvalResult(dataset=dataset, miou=miou, **facts, **more)


def model(name, **miou):
    return ModelResults(name=name, results=tuple(score(d.replace("_", "-"), v, seed=3) for d, v in miou.items()))


@pytest.fixture
def summary():
    models = (
        model("a-first", camvid_11=0.9, voc2012=0.1),
        model("union", camvid_11=0.5, voc2012=0.4),
        model("zero", camvid_11=0.8, voc2012=0.0),
        model("partial", camvid_11=0.7),
    )
    return summarize(models, data={"bdd": "ab" * 32})


def test_the_summary_holds_the_contract(summary):
    assert json.loads(summary.render("json")) == {
        "models": {
            "a-first": {"heldout": {"camvid-11": 0.9, "voc2012": 0.1}, "hmean": pytest.approx(2 / (1 / 0.9 + 10))},
            "union": {"heldout": {"camvid-11": 0.5, "voc2012": 0.4}, "hmean": pytest.approx(2 / (2 + 2.5))},
            "zero": {"heldout": {"camvid-11": 0.8, "voc2012": 0.0}, "hmean": 0},
            "partial": {"heldout": {"camvid-11": 0.7}, "hmean": None},
        },
        "seed": 3,
        "data": {"bdd": "ab" * 32},
    }


def test_the_harmonic_mean_is_the_published_one():
    """MSeg (1M), single scale: the printed row and its printed mean (Lambert et al., project description)."""
    row = dict(zip("abcdef", MSEG_1M, strict=True))
    assert f"{100 * summarize((model('mseg', **row),)).models['mseg'].hmean:.1f}" == "59.2"


def test_results_that_do_not_belong_together_are_refused():
    with pytest.raises(DataError, match="m: two results on voc2012"):
        summarize((ModelResults(name="m", results=(score("voc2012", 0.1), score("voc2012", 0.2))),))
    for field, says in (("seed", "different seeds"), ("manifest", "another version of voc2012")):
        models = [ModelResults(name=n, results=(score("voc2012", 0.1, **{field: n}),)) for n in "ab"]
        with pytest.raises(DataError, match=says):
            summarize(models)


def test_a_summary_survives_the_disk(summary, tmp_path):
    path = tmp_path / "summary.json"
    path.write_text(summary.render("json"))
    assert read_summary(path) == summary
    path.write_text(json.dumps(json.loads(summary.render("json")) | {"added by a later version": 1}))
    assert read_summary(path) == summary


def test_models_are_ranked_and_the_best_of_each_column_is_bold_in_markdown(summary):
    lines = summary.render("markdown").splitlines()
    assert lines[0] == "| model | camvid-11 | voc2012 | h. mean |"
    assert lines[2:] == [
        "| union | 50.0 | **40.0** | **44.4** |",
        "| a-first | **90.0** | 10.0 | 18.0 |",
        "| zero | 80.0 | 0.0 | 0.0 |",
        "| partial | 70.0 | - | - |",
    ]


def test_the_text_table_is_aligned_and_marks_the_best_and_csv_keeps_every_digit(summary):
    lines = summary.render("text").splitlines()
    assert re.split(r"\s{2,}", lines[0]) == ["model", "camvid-11", "voc2012", "h. mean"]
    assert re.split(r"\s{2,}", lines[2]) == ["union", "50.0", "40.0*", "44.4*"]
    ends = {line.index(value) + len(value) for line, value in zip(lines[2:5], ("50.0", "90.0", "80.0"), strict=True)}
    assert ends == {lines[0].index("camvid-11") + len("camvid-11")}
    bold = summary.render("text", bold=True)
    assert bold.count("\x1b[1m") == 3
    assert re.sub(r"\x1b\[\d+m", "", bold).splitlines() == lines  # nothing but escapes
    rows = list(csv.DictReader(summary.render("csv").splitlines()))  # every digit
    assert (rows[0]["model"], float(rows[0]["hmean"])) == ("union", summary.models["union"].hmean)
    assert rows[3]["hmean"] == ""


CLASSES = [{"name": "Sky", "iou": 1, "pixels": 10}, {"name": "Car", "iou": None, "pixels": 0}]
EVAL = {"dataset": "camvid-11", "taxonomy": "camvid-11", "miou": 0.5, "macc": 0.6, "acc": 0.9, "images": 2}
EVAL |= {"classes": CLASSES, "a key of a later version": []}


def test_a_file_of_eval_is_read_and_unknown_keys_are_left(tmp_path):
    (tmp_path / "union-universal.json").write_text(json.dumps([EVAL]))
    (found,) = read_models(tmp_path)
    assert (found.name, found.results[0].manifest) == ("union-universal", None)
    assert found.results[0].classes[0] == ClassResult(name="Sky", iou=1.0, pixels=10)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[{", "not valid JSON"),
        ("{}", "expected a list"),
        ("[3]", r"m\.json\[0\]: expected `key: value` pairs"),
        (json.dumps([{k: v for k, v in EVAL.items() if k != "miou"}]), r"m\.json\[0\]\.miou: missing"),
        (json.dumps([{**EVAL, "classes": 3}]), r"m\.json\[0\]\.classes: expected a list"),
        (json.dumps([{**EVAL, "miou": "high"}]), r"m\.json\[0\]\.miou: expected float"),
    ],
)
def test_a_damaged_file_is_one_line_that_names_it(tmp_path, text, says):
    path = tmp_path / "m.json"
    path.write_text(text)
    with pytest.raises(DataError, match=says) as caught:
        read_any(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    path.unlink()
    with pytest.raises(DataError, match="no results"):
        read_any(tmp_path)
    with pytest.raises(DataError, match=r"nothing\.json: cannot be read"):
        read_summary(tmp_path / "nothing.json")
