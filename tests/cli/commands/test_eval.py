"""Options of `eval`, and `results --table`, through the command line's own parser."""

import json

import pytest
from typer.testing import CliRunner

from segstream.cli.commands.eval import _headline
from segstream.cli.main import app
from segstream.model.evaluation.metrics import EvalResult
from segstream.shards.errors import DataError, UsageError


def invoke(*args):
    """stdout of a command; what it raises is raised here."""
    done = CliRunner().invoke(app, list(map(str, args)))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--short-side", "720p"), "--short-side '720p': give a number"),
        (("--long-side", "0"), "--long-side '0': give a number"),
        (("--scales", "0.5;1"), "--scales '0.5;1': give numbers"),
        (("--n-scales", "half"), "--n-scales 'half': give numbers"),
        (("--taxonomy", "native,univers"), "'univers' is not one of auto, native, universal"),
    ],
)
def test_options_that_cannot_be_read_are_bad_use(options, says):
    with pytest.raises(UsageError, match=says):
        invoke("eval", "none.pt", "--data", "x", *options)


def test_what_is_wrong_beforehand_is_said_once_and_starts_no_process(monkeypatch):
    monkeypatch.setattr("segstream.cli.jobs.torchrun.run_processes", lambda *_: pytest.fail("processes were started"))
    with pytest.raises(DataError, match=r"none\.pt"):
        invoke("eval", "none.pt", "--data", "x", "--processes", 2)


ONLY_WITHOUT = [("--taxonomy", "native"), ("--rule", "mseg"), ("--processes", 2), ("--num-pictures", 4), ("--worst", 4)]
ONLY_WITHOUT += [("--restart-changed",), ("--flip",), ("--data", "x"), ("--metrics", "m.json")]
ONLY_WITH = [("--runner", "ray"), ("--jobs", 2), ("--retries", 1), ("--print",)]


@pytest.mark.parametrize("option", [*ONLY_WITHOUT, *ONLY_WITH])
def test_what_a_grid_would_ignore_or_only_a_grid_understands_is_refused(option):
    asked, says = ("none.pt", "--data", "x"), "is for --grid only"
    if option in ONLY_WITHOUT:
        asked, says = ("--grid", "none.yaml"), "is not for --grid"
    with pytest.raises(UsageError, match=f"^{option[0]} {says}"):
        invoke("eval", *asked, *option)


def row(dataset, side, miou, **more):
    base = {"dataset": dataset, "url": f"shards/{dataset}/val", "taxonomy": dataset, "split": "val", "classes": []}
    base |= {"macc": 0.5, "acc": 0.75, "images": 3, "scales": [1.0], "regime": "zero-shot", "max": True}
    return base | {"miou": miou, "short_side": side} | more


def test_headline_figures_are_the_best_side_by_dataset_and_classes():
    sides = [row("a", 360, 0.1, max=False), row("a", 720, 0.2)]
    rows = [*sides, row("b", 720, 0.3), row("b", 720, 0.4, taxonomy="universal")]
    rows += [row("c", 720, 0.5), row("c", 720, 0.6, url="shards/c/train")]
    found = _headline([EvalResult.from_json(values, at="rows") for values in rows])
    assert {name: values["miou"] for name, values in found.items()} == {
        **{"a": 0.2, "b b": 0.3, "b universal": 0.4},
        **{"shards/c/val c": 0.5, "shards/c/train c": 0.6},
    }


@pytest.fixture
def runs(tmp_path):
    """A run folder with one file, and one with a file for every cell."""
    first, second = tmp_path / "mseg-relabeled-1m-1080p", tmp_path / "other"
    (second / "eval").mkdir(parents=True)
    first.mkdir()
    cells = [row("voc2012", 360, 0.5), row("voc2012", 720, 0.6), row("camvid-11", 720, 0.7)]
    (first / "eval.json").write_text(json.dumps(cells))
    for i, cell in enumerate([row("voc2012", 720, 0.55), row("camvid-11", 720, 0.8), row("camvid-11", 360, 0.9)]):
        (second / "eval" / f"{i}.json").write_text(json.dumps([cell]))
    return [first, second]


def test_tables_of_run_folders(runs):
    lines = invoke("results", *runs, "--table", "zero-shot", "--form", "markdown").splitlines()
    assert lines[2] == "| model | voc2012 | camvid-11 | h. mean |"
    assert lines[4] == "| mseg-relabeled-1m-1080p | **60.0** | 70.0 | 64.6 |"
    assert lines[5] == "| other | 55.0 | **90.0** | **68.3** |"
    (table,) = json.loads(invoke("results", *runs, "--table", "all", "--at", 360, "--json"))
    assert [r["cells"]["voc2012"]["value"] for r in table["rows"]] == [0.5, None]
    assert "60.0 (70.7, -10.7)" in invoke("results", *runs, "--table", "zero-shot", "--published")
    models = json.loads(invoke("results", *runs, "--json"))["models"]  # without a table the best side counts
    assert {name: m["heldout"]["camvid-11"] for name, m in models.items()} == {runs[0].name: 0.7, "other": 0.9}


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        (("--table", "oracle"), DataError, "no result belongs into the table oracle at max, single scale"),
        (("--table", "zero-shot", "--at", "1080"), DataError, "at 1080"),
        (("--table", "zero-shot", "--at", "best"), UsageError, "--at best: give a shorter side"),
        (("--published",), UsageError, "add --table"),
        (("--scales", "ms"), UsageError, "add --table"),
    ],
)
def test_choices_that_leave_nothing_are_said(runs, options, error, says):
    with pytest.raises(error, match=says):
        invoke("results", *runs, *options)
