import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from segstream.cli.report.report import line_chart, read_curve, thin, ticks
from segstream.shards.errors import DataError


@pytest.mark.parametrize("text", ["", "epoch\tloss\n1\t2\n", "step\tloss\n1\thigh\n", "step\tloss\n\n"])
def test_a_curve_is_read_and_what_is_none_is_named(tmp_path, text):
    path = tmp_path / "loss.tsv"
    path.write_text("timestamp\tstep\tloss\n9\t0\t5.5\n9\t10\t4.25\n9\t20\tnan\n")  # as dvclive writes it
    assert read_curve(path) == [(0.0, 5.5), (10.0, 4.25)]
    path.write_text(text)
    with pytest.raises(DataError, match=r"loss\.tsv: not a training curve"):
        read_curve(path)
    with pytest.raises(DataError, match="not a training curve"):
        read_curve(tmp_path / "none.tsv")


def test_thinning_keeps_the_mean_and_the_order():
    points = [(float(i), float(i % 7)) for i in range(1000)]
    few = thin(points, most=50)
    assert len(few) == 50
    assert sum(y for _, y in few) / 50 == pytest.approx(sum(y for _, y in points) / 1000)
    assert few == sorted(few)
    assert thin(points, most=1000) == points


@pytest.mark.parametrize(("low", "high"), [(0, 5.37), (0, 1200), (0.001, 0.0042), (-3, 3), (99.5, 100.5), (0, 1)])
def test_ticks_are_round_inside_and_neither_few_nor_many(low, high):
    found = ticks(low, high)
    assert 3 <= len(found) <= 8
    assert all(low - 1e-9 <= t <= high + 1e-9 for t in found)
    assert {f"{b - a:.0e}"[0] for a, b in pairwise(found)} <= set("125")
    with pytest.raises(ValueError, match="domain"):
        ticks(low, low)


def test_a_chart_draws_values_where_the_axis_says():
    curves = {"<a>": ((0, 4.0), (100, 1.0)), "b": ((0, 2.0), (100, 2.0))}
    svg = ElementTree.fromstring(line_chart(curves, x_label="step", y_label="loss"))
    lines = [node for node in svg.iter("path") if node.get("class", "").startswith("line")]
    assert [line.get("class") for line in lines] == ["line c0", "line c1"]
    assert [line.findtext("title") for line in lines] == ["<a>", "b"]
    y_of = {node.text: float(node.get("y")) - 4 for node in svg.iter("text") if node.get("text-anchor") == "end"}
    ends = [[float(v) for v in re.findall(r"[\d.]+ ([\d.]+)", line.get("d"))] for line in lines]
    assert ends[0] == pytest.approx([y_of["4"], y_of["1"]], abs=0.2)
    assert ends[1] == pytest.approx([y_of["2"], y_of["2"]], abs=0.2)
    assert line_chart({"a": ()}, x_label="step", y_label="loss") == ""
    assert "<svg" in line_chart({"a": ((0, 0.0),)}, x_label="step", y_label="loss")
