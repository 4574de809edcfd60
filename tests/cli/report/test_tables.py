import csv
import json
import re

import pytest

from segstream.cli.report.results import ModelResults
from segstream.cli.report.tables import TABLES, build_table, render_table, table_dict
from segstream.cli.report.text_table import HMEAN
from segstream.model.evaluation.metrics import EvalResult
from segstream.shards.errors import DataError

HELD_OUT = ("voc2012", "pascal-context-60", "camvid-11", "wilddash-19", "kitti-19", "scannet-20")
TRAINING = ("coco-panoptic-133", "ade20k-150", "mapillary-public65", "idd-39", "bdd", "cityscapes-19", "sunrgbd-37")
MSEG_1M = (0.707, 0.427, 0.833, 0.620, 0.670, 0.482)  # as published: harmonic mean 59.2
COCO_1M = (0.734, 0.433, 0.587, 0.382, 0.476, 0.334)  # 45.8
RECIPE = "mseg-relabeled-1m-1080p"


def score(dataset, miou, *, regime="zero-shot", side=720, scales=(1.0,), recipe=None, **more):
    taxonomy = "universal" if regime == "training" else dataset
    return EvalResult(
        **{"dataset": dataset, "taxonomy": taxonomy, "miou": miou, "macc": 0.5, "acc": 0.8, "classes": (), "images": 3},
        **{"regime": regime, "short_side": side, "scales": scales, "model": recipe, **more},
    )


def model(name, values, columns=HELD_OUT, **options):
    scores = tuple(score(d, v, **options) for d, v in zip(columns, values, strict=True) if v is not None)
    return ModelResults(name=name, results=scores)


def table(results, name="zero-shot", *, at="max", scales="ss", compare=False):
    return build_table(name, results, at=at, scales=scales, compare=compare)


def of_scores(*scores, name="m"):
    return ModelResults(name=name, results=scores)


def test_the_published_rows_give_the_published_table():
    results = [model("mseg", MSEG_1M[::-1], HELD_OUT[::-1]), model("coco", COCO_1M)]
    lines = render_table(table(results), "markdown").splitlines()
    assert lines[2] == "| model | " + " | ".join((*HELD_OUT, "h. mean")) + " |"
    assert lines[4:] == [
        "| mseg | 70.7 | 42.7 | **83.3** | **62.0** | **67.0** | **48.2** | **59.2** |",
        "| coco | **73.4** | **43.3** | 58.7 | 38.2 | 47.6 | 33.4 | 45.8 |",
    ]


def test_published_figures_stand_beside_with_differences():
    made = table([model("mine", (0.727, None, *MSEG_1M[2:]), recipe=RECIPE)], compare=True)
    line = render_table(made, "markdown").splitlines()[4]
    cells = [cell.strip(" *") for cell in line.strip("| ").split(" | ")]
    assert cells[:4] == ["mine", "72.7 (70.7, +2.0)", "- (42.7, -)", "83.3 (83.3, +0.0)"]
    assert cells[-1] == "- (59.2, -)"  # a column is missing, so there is no mean
    unknown = table([model("mine", MSEG_1M, recipe="my-recipe")], compare=True)
    assert "(" not in render_table(unknown, "markdown").splitlines()[4]
    # Evaluated by itself, a released checkpoint's results carry the name of its file.
    made = table([model("whatever", MSEG_1M, recipe="mseg-3m-480p")], compare=True)
    figures = [figure.published for figure in made.rows[0][1].values()]
    assert figures == pytest.approx([0.764, 0.459, 0.812, 0.627, 0.682, 0.495, 0.612])


def test_published_figures_are_those_of_the_same_scales_and_table():
    several = table([model("m", MSEG_1M, scales=(0.5, 1.0), recipe=RECIPE)], scales="ms", compare=True)
    assert several.rows[0][1]["kitti-19"].published == pytest.approx(0.637)
    values = [0.5] * len(TRAINING)
    made = table([model("m", values, TRAINING, regime="training", recipe=RECIPE)], "training", compare=True)
    row = made.rows[0][1]
    assert made.columns == (*TRAINING, HMEAN)
    assert (row["cityscapes-19"].published, row[HMEAN].published) == pytest.approx((0.804, 0.571))
    assert row[HMEAN].value == pytest.approx(0.5)


def test_a_missing_side_is_missing_and_never_the_maximum():
    scores = score("voc2012", 0.3, side=360), score("voc2012", 0.4, side=720), score("camvid-11", 0.5, side=360)
    result = of_scores(*scores)
    ((_, best),) = table([result]).rows
    assert (best["voc2012"].value, best["voc2012"].short_side) == (0.4, 720)
    assert (best["camvid-11"].value, best["camvid-11"].short_side) == (0.5, 360)
    assert best[HMEAN].value == pytest.approx(2 / (1 / 0.4 + 1 / 0.5))
    at_720 = table([result], at=720)
    assert at_720.columns == ("voc2012", HMEAN)
    both = [result, of_scores(score("camvid-11", 0.6, side=720), name="n")]
    at_720 = table(both, at=720)
    assert at_720.rows[0][1]["camvid-11"].value is None
    assert at_720.rows[0][1][HMEAN].value is None
    assert table([result], at=1080).rows == ()
    assert "shorter sides 360, 720" in render_table(table([result]), "text")
    long = of_scores(score("voc2012", 0.3, side=None), score("camvid-11", 0.5, side=None, long_side=2177))
    assert "shorter sides long 2177, native" in render_table(table([long]), "text")
    (row,) = table_dict(table([long]))["rows"]
    assert (row["cells"]["camvid-11"]["side"], row["cells"]["camvid-11"]["short_side"]) == ("long 2177", None)


def test_scales_and_regimes_are_kept_apart():
    result = of_scores(
        score("voc2012", 0.3),
        score("voc2012", 0.9, scales=(0.5, 1.0)),
        score("bdd", 0.6, regime="training"),
        score("bdd", 0.7, regime="training-own"),
        score("camvid-11", 0.2, regime="oracle"),
    )
    rows = {name: table([result], name).rows[0][1] for name in TABLES}
    found = {name: {c: figure.value for c, figure in row.items() if c != HMEAN} for name, row in rows.items()}
    own = {"training-own": {"bdd": 0.7}, "oracle": {"camvid-11": 0.2}}
    assert found == {"zero-shot": {"voc2012": 0.3}, "training": {"bdd": 0.6}} | own
    assert table([result], scales="ms").rows[0][1]["voc2012"].value == 0.9


def test_naive_models_stand_where_their_datasets_do_and_own_datasets_follow_the_papers():
    result = of_scores(score("voc2012", 0.3, regime="naive"), score("bdd", 0.2, regime="naive"))
    assert table([result]).columns == ("voc2012", HMEAN)
    assert table([result], "training-own").columns == ("bdd", HMEAN)
    result = of_scores(score("mine", 0.3), score("camvid-11", 0.4), score("voc2012", 0.5))
    assert table([result]).columns == ("voc2012", "camvid-11", "mine", HMEAN)
    assert table([result], compare=True).columns == (*HELD_OUT, HMEAN)


def test_oracles_are_one_row_without_a_mean_each_beside_its_own_figure():
    values = {"voc2012": 0.778, "camvid-11": 0.8, "kitti-19": 0.5}
    about = {d: {"regime": "oracle", "recipe": f"oracle-{d}-1m-1080p"} for d in values}
    results = [model(f"oracle-{d}", [v], [d], **about[d]) for d, v in values.items()]
    made = table(results, "oracle", compare=True)
    ((_, row),) = made.rows
    assert HMEAN not in row
    assert row["voc2012"].published == pytest.approx(0.778)
    assert row["camvid-11"].difference == pytest.approx(0.8 - 0.788)
    assert row["wilddash-19"].value is None
    assert "h. mean" not in render_table(made, "text")
    with pytest.raises(DataError, match="oracle-voc2012 and other are both oracles of voc2012"):
        table([*results, model("other", [0.1], ["voc2012"], regime="oracle")], "oracle")


@pytest.mark.parametrize("more", [{}, {"relabeled": True}, {"rule": "hmsa"}])
def test_two_results_for_one_cell_are_refused(more):
    scores = (score("bdd", 0.6, regime="training"), score("bdd", 0.7, regime="training", **more))
    with pytest.raises(DataError, match="m: two results on bdd"):
        table([of_scores(*scores)], "training")


def test_machines_get_every_digit():
    made = table([model("m", [1 / 3, *MSEG_1M[1:]], recipe=RECIPE)], compare=True)
    (row,) = csv.DictReader(render_table(made, "csv").splitlines())
    assert float(row["voc2012"]) == 1 / 3
    assert float(row["voc2012 published"]) == pytest.approx(0.707)
    assert float(row["hmean difference"]) == pytest.approx(made.rows[0][1][HMEAN].value - 0.592)
    content = json.loads(json.dumps(table_dict(made)))
    assert content["rows"][0]["cells"]["voc2012"]["value"] == 1 / 3


def test_latex_is_rows_of_a_tabular():
    lines = render_table(table([model("a_b", MSEG_1M), model("coco", COCO_1M)]), "latex").splitlines()
    assert lines[0].startswith("% Zero-shot")
    assert lines[3].startswith(r"a\_b & $ 70.7 $ & $ 42.7 $ & $ \mathbf{83.3} $")
    assert all(line.endswith(r"\\") and line.count("&") == 7 for line in (lines[1], *lines[3:]))


def test_text_is_aligned_even_with_figures_in_brackets():
    made = table([model("m", MSEG_1M, recipe=RECIPE), model("long-name", COCO_1M)], compare=True)
    lines = render_table(made, "text").splitlines()
    heads, first, second = lines[2], lines[4], lines[5]
    end = heads.index("voc2012") + len("voc2012")
    assert re.search(r"\(70\.7, \+0\.0\)", first).end() == end
    assert second[:end].rstrip("*").endswith("73.4")
