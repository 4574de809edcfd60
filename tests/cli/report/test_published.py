"""The figures that we compare with: whole, and consistent in themselves."""

import re

import pytest

from segstream.cli.report.published import published
from segstream.cli.report.text_table import HMEAN
from segstream.recipe import recipe_names
from segstream.shards.datasets.registry import registry
from tests.shards.shared import SHARED

FACTS = SHARED / "mseg/results.md"
ROUNDING = 0.05
TABLES = ("zero_shot", "training", "zero_shot_ms")


def harmonic(values):
    return len(values) / sum(1 / v for v in values)


@pytest.mark.parametrize("name", TABLES)
def test_columns_are_datasets_and_printed_means_are_those_of_the_printed_values(name):
    table = getattr(published(), name)
    complete = [row for row in table.rows if row.hmean is not None]
    assert len(complete) == {"zero_shot": 13, "training": 13, "zero_shot_ms": 8}[name]
    for row in complete:
        values = [v for v in row.miou if v is not None]
        assert row.hmean is not None
        low, high = (harmonic([v + shift for v in values]) for shift in (-ROUNDING, ROUNDING))
        assert low - ROUNDING <= row.hmean <= high + ROUNDING, row.model
    role = "train" if name == "training" else "test"
    assert {registry()[column].role for column in table.columns} == {role}


@pytest.mark.skipif(not FACTS.exists(), reason=f"no {FACTS}")
@pytest.mark.parametrize(("name", "section"), [(n, f"## {i}.") for i, n in enumerate(TABLES, 1)])
def test_every_figure_is_the_published_one(name, section):
    text = FACTS.read_text().split(section)[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"][2:]
    table = getattr(published(), name)
    width = len(table.columns) + 1
    blank = re.compile("\N{EN DASH}|n/a")
    theirs = [(row[0], [None if blank.fullmatch(c) else float(c) for c in row[1 : width + 1]]) for row in rows]
    assert [(row.model, [*row.miou, row.hmean]) for row in table.rows] == theirs


def test_rows_and_released_checkpoints_are_of_recipes_that_exist():
    known, tables = set(recipe_names()), [getattr(published(), name) for name in TABLES]
    named = [
        (row.recipe, c, value) for t in tables for row in t.rows for c, value in zip(t.columns, row.miou, strict=True)
    ]
    made = [(name.replace("DATASET", column), name, value) for name, column, value in named]
    assert {recipe for recipe, name, value in made if value is not None or recipe == name} <= known
    assert set(published().released.values()) <= known & {recipe for recipe, _, _ in made}


def test_figures_by_recipe():
    table = published().zero_shot
    assert table.figures("oracle-camvid-11-1m-1080p") == {"camvid-11": 78.8}
    assert table.figures("mseg-relabeled-3m-480p")["voc2012"] == 76.4
    assert table.figures("mseg-relabeled-1m-1080p")[HMEAN] == 59.2
    assert table.figures("mseg-naive-1m-1080p") == {}
