import json
import re
import shutil

import pytest

from segstream.cli.commands.stats import _short, stats
from segstream.shards.checks.stats import class_table
from segstream.shards.errors import DataError, UsageError
from segstream.shards.format.reader import open_shards
from segstream.shards.taxonomy import load_taxonomy
from tests.cli.conftest import Page


def test_one_set_is_told_in_its_own_classes(sets, capsys):
    stats([sets["cityscapes-19"]], json=True)
    [(url, rows)] = json.loads(capsys.readouterr().out).items()
    assert url == sets["cityscapes-19"]
    assert [row["name"] for row in rows] == list(load_taxonomy("cityscapes-19").classes)
    assert rows[0].keys() == {"id", "name", "pixels", "share", "images"}
    stats([sets["cityscapes-19"]])
    printed = capsys.readouterr().out
    nowhere = [row["name"] for row in rows if not row["images"]]
    assert f"19 classes (native), {len(nowhere)} occur nowhere: {', '.join(nowhere)}\n" in printed
    for row in rows:
        if row["images"]:
            line = next(line for line in printed.splitlines() if line.startswith(f"{row['name']} "))
            assert line.split()[-4:] == [str(row[k]) for k in ("id", "images", "pixels")] + [f"{row['share']:.2%}"]


def test_several_sets_are_told_side_by_side_with_their_sum(sets, capsys):
    urls = [sets["ade20k-150"], sets["cityscapes-19"]]
    stats(urls, json=True)
    tables = json.loads(capsys.readouterr().out)
    assert list(tables) == [*urls, "total"]
    assert {len(table) for table in tables.values()} == {194}
    for one, other, both in zip(*tables.values(), strict=True):
        assert (one["pixels"] + other["pixels"], one["images"] + other["images"]) == (both["pixels"], both["images"])
    stats(urls)
    printed = capsys.readouterr().out
    header, *lines = printed.splitlines()
    assert "ade20k-150 train" in header
    assert "cityscapes-19 val" in header
    building = next(row for row in tables["total"] if row["name"] == "building")
    line = next(line for line in lines if line.startswith("building "))
    assert f"{_short(building['pixels'])} / {building['images']}" in line
    assert "194 classes (universal)" in printed


def test_a_row_is_one_line_however_many_sets(sets, tmp_path, capsys):
    urls = [str(shutil.copytree(sets["cityscapes-19"], tmp_path / f"{n}/cityscapes-19/val")) for n in range(20)]
    stats(urls)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    occurring = [row.name for row in class_table(open_shards(urls[0]).manifest, "universal") if row.images]
    assert sorted(row[0] for row in rows[1:-2]) == sorted(occurring)
    assert {len(row) for row in rows[1:-2]} == {1 + 3 * 21 + 1}


def test_sets_without_common_classes_are_told_by_name(sets, capsys):
    urls = [sets["cityscapes-19"], sets["camvid-11"]]
    stats(urls, json=True)
    tables = json.loads(capsys.readouterr().out)
    names = {row["name"].lower() for url in urls for row in tables[url]}
    assert {row["name"].lower() for row in tables["total"]} == names
    assert len(tables["total"]) == len(names) < 30
    stats(urls)
    line = next(
        line for line in capsys.readouterr().out.splitlines() if line.startswith("Column_Pole ") or "Bicyclist " in line
    )
    assert line.split()[1] == "-"  # Cityscapes has no such class


def test_a_page_shows_what_sampling_by_class_does(sets, tmp_path, capsys):
    url = str(shutil.copytree(sets["camvid-11"], tmp_path / "camvid-11/val"))
    stats([url], centroids=True, sampling=tmp_path / "page.html", share=1.0)
    assert f"sampling: {tmp_path / 'page.html'}" in capsys.readouterr().err
    text = (tmp_path / "page.html").read_text()
    page = Page(text)
    assert page.open == []
    assert page.loads == []
    classes = open_shards(url).manifest.native.classes
    assert sorted(re.findall(r"<title>(.*?): [\d.]+% plain, [\d.]+% by class</title>", text)) == sorted(classes)
    plain = [float(width) for width in re.findall(r'class="plain" x="220" y="3" height="9" width="(.*?)"', text)]
    assert plain == sorted(plain, reverse=True)
    assert plain[0] == 480.0  # a class that is in both images
    with pytest.raises(DataError, match="--centroids"):
        stats([sets["camvid-11"]], sampling=tmp_path / "page.html")


def test_the_command_keeps_its_json(here, sets):
    done = here("stats", sets["camvid-11"], "--member", "native", "--json")
    assert done.code == 0
    [rows] = json.loads(done.out).values()
    assert [row["name"] for row in rows] == list(open_shards(sets["camvid-11"]).manifest.native.classes)
    wrong = here("stats", sets["camvid-11"], "--taxonomy", "univresal")
    assert (wrong.code, wrong.err.count("\n"), wrong.out) == (2, 1, "")
    with pytest.raises(UsageError, match="camvid-11 val has no labels 'universal'; it holds native"):
        stats([sets["ade20k-150"], sets["camvid-11"]], taxonomy="universal")
    assert [_short(n) for n in (0, 999, 1234, 12_345_678, 5_000_000_000)] == ["0", "999", "1.23k", "12.3M", "5G"]


def test_centroids_are_made_beside_the_set_and_the_tables_stay(here, sets, tmp_path):
    url = shutil.copytree(sets["ade20k-150"], tmp_path / "set")
    before = here("stats", url, "--json")
    made = here("stats", url, "--centroids", "--tile", 16, "--workers", 1, "--json")
    assert (made.code, made.out) == (0, before.out)
    assert made.err.startswith(f"centroids {url}: 5 of 5 images in ")
    with open_shards(url) as shards:
        assert shards.centroid_counts("native").sum() > 5 * 4
    refused = here("stats", "https://host/set", "--centroids")
    assert (refused.code, refused.out, refused.err.count("\n")) == (2, "", 1)
    assert "https://host/set: https:// is not supported here; give a path or a file:// URL" in refused.err
