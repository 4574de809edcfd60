"""The recipes as a table: for people, for machines, and the page in the docs."""

import json

from segstream.cli.run.recipe_table import show
from segstream.recipe import recipe_names
from tests.commands import ROOT


def test_the_page_of_recipes_is_the_generated_one(capsys):
    show("markdown")
    page, how = (ROOT / "docs" / "recipes.md").read_text(), "segstream train --list --markdown > docs/recipes.md"
    assert page == capsys.readouterr().out, how


def test_the_list_says_crops_of_a_dataset_as_asked_and_of_the_run(capsys):
    show("json")
    rows = {row["recipe"]: row for row in json.loads(capsys.readouterr().out)}
    row = rows["mseg-relabeled-3m-720p"]
    assert (row["steps"], row["batch"], row["crops"]) == (428_571, 49, 3_000_000)
    assert row["crops_total"] == 428_571 * 49
    assert (rows["union-naive"]["steps"], rows["union-naive"]["crops"]) == (700, 700 * 24 // 4)
    assert set(row) >= {"recipe", "arch", "taxonomy", "datasets", "crops", "short_side", "crop"}
    show("text")
    lines = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines()}
    assert lines["mseg-relabeled-3m-720p"][2:] == ["7", "3,000,000", "49", "428,571", "720", "593"]
    sizes = ["200", "epochs", "16", "225,000", "2177", "long", "1024", "x", "1024"]
    assert lines["hmsa-mapillary-public65"] == ["hmsa", "native", "1", *sizes]
    assert lines["hmsa-gta5-19"][2:] == ["1", "175", "epochs", "6", "-", "-", "1052", "x", "1914"]


def test_every_recipe_is_on_the_page_once():
    page = (ROOT / "docs" / "recipes.md").read_text()
    assert [name for name in recipe_names() if page.count(f"| [{name}](") != 1] == []
