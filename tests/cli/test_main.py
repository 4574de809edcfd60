"""The commands as a user meets them: what they print, where, and with which exit code."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys

import pytest
import yaml

from segstream.cli import main
from tests.commands import ROOT
from tests.shards.shared import CAMVID

COMMANDS = tuple(main.EXAMPLES)


@pytest.mark.parametrize("command", [(), *((c,) for c in COMMANDS)])
def test_help_shows_an_example_that_is_a_command(here, command):
    done = here(*command, "--help")
    assert done.code == 0
    example = re.search(r"Example:\s+segstream\s+(\w+)", done.out)
    assert example is not None
    assert example.group(1) in COMMANDS
    assert not command or example.group(1) == command[0]


def test_report_and_results_follow_from_evaluations(here, place, tmp_path):
    name, shards, final = "recipe", place / "shards/camvid-11/val", place / "runs/recipe/final.pt"
    out = {"--out": "eval/recipe.json", "--metrics": "m/recipe.json", "--pictures": "p/recipe"} | {
        "--confusion": "c/recipe"
    }
    asked = [word for option, path in out.items() for word in (option, tmp_path / path)]
    done = here("eval", final, "--data", shards, "--num-pictures", 1, *asked)
    assert done.code == 0, done.err
    row = json.loads((tmp_path / f"eval/{name}.json").read_text())[0]
    assert json.loads((tmp_path / f"m/{name}.json").read_text())["camvid-11"]["miou"] == row["miou"]
    made = {"--evals": "eval", "--pictures": "p", "--confusion": "c", "--metrics": "m", "--out": "."}
    asked = [word for option, path in made.items() for word in (option, tmp_path / path)]
    done = here("report", *asked, "--runs", place / "runs")
    assert done.code == 0, done.err
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["models"] == {name: {"heldout": {"camvid-11": row["miou"]}, "hmean": pytest.approx(row["miou"])}}
    assert summary["seed"] == 0
    assert set(summary["data"]) == {"ade20k-150", "sunrgbd-37", "camvid-11"}
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image") == 4  # photograph, label, prediction, confusion matrix
    assert page.count('class="chart"') == 2  # loss and learning rate
    assert re.search(r"crops/s.*images/s.*<td>recipe</td>(<td>\d+\.\d%?</td>){3}", page, re.DOTALL)
    assert "http://" not in page.replace("http://www.w3.org", "")
    table = here("results", tmp_path / "eval", "--form", "csv")
    assert table.out.splitlines()[0] == "model,camvid-11,hmean"


def test_verify_tells_a_damaged_set(here, place, tmp_path):
    damaged = shutil.copytree(place / "shards/camvid-11/val", tmp_path / "val")
    assert here("verify", damaged).code == 0
    tar = damaged / "shard-000000.tar"
    data = bytearray(tar.read_bytes())
    data[len(data) // 2] ^= 1
    tar.write_bytes(data)
    done = here("verify", damaged, "--json")
    assert done.code == 1
    assert json.loads(done.out)[0]["ok"] is False


BAD = {
    "unknown dataset": (("shard", "camvid-12", "--raw", ".", "--out", "x"), 2, "did you mean 'camvid-11'"),
    "missing folder": (("shard", "camvid-11", "--raw", "nowhere", "--out", "x"), 1, "nowhere"),
    "a list that is not asked for": (("train", "union-universal", "--json"), 2, "--json goes with --list or --dry-run"),
    "unknown recipe": (("train", "union-univresal"), 2, "did you mean 'union-universal'"),
    "misspelt override": (("train", "union-universal", "train.stepz=3"), 2, "did you mean 'steps'"),
    "recipe of an unknown dataset": (("train", "union-universal", "data.mix={ade20k-151: 1}"), 1, "ade20k-151"),
    "no checkpoint": (("eval", "none.pt", "--data", "x"), 1, "none.pt"),
    "nothing to predict": (("predict", "nowhere", "--checkpoint", "none.pt", "--out", "x"), 1, "nowhere"),
    "no shards": (("verify", "nowhere"), 1, "nowhere"),
    "no results": (("results", "nowhere"), 1, "nowhere"),
    "unknown world": (("world", "--out", "x", "--datasets", "kitty"), 2, "kitti-19"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_use_is_one_line_on_stderr(here, tmp_path, monkeypatch, case):
    args, code, text = BAD[case]
    monkeypatch.chdir(tmp_path)
    done = here(*args)
    errors = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert done.code == code, done.err
    assert len(errors) == 1, done.err
    assert text in errors[0]
    assert "Traceback" not in done.err + done.out


def test_a_corrupt_checkpoint_is_named(here, place, tmp_path):
    final = tmp_path / "final.pt"
    final.write_bytes((place / "runs/recipe/final.pt").read_bytes()[:-2000])
    done = here("eval", final, "--data", place / "shards/camvid-11/val")
    assert (done.code, done.err.count("\n"), "Traceback" in done.err) == (1, 1, False)
    assert str(final) in done.err


def test_debug_shows_the_traceback(segstream, tmp_path):
    done = segstream("shard", "camvid-11", "--raw", "nowhere", "--out", "x", "--debug", cwd=tmp_path)
    assert "Traceback" in done.err


def test_a_stage_runs_the_code_of_its_checkout(here, tmp_path, monkeypatch):
    became = []

    def become(*args):
        became.append(args)
        raise SystemExit(3)

    other = tmp_path / "other"
    for file in ("segstream/__init__.py", "dvc.yaml", "data/file"):
        (other / file).parent.mkdir(parents=True, exist_ok=True)
        (other / file).touch()
    monkeypatch.setattr(os, "execv", become)
    monkeypatch.setenv("PYTHONPATH", os.environ["PYTHONPATH"])  # restored afterwards
    monkeypatch.chdir(other / "data")
    assert json.loads(here("train", "--list", "--json").out)  # nobody's stage: it may use what is installed
    monkeypatch.setenv("DVC_STAGE", "train-union@union-naive")  # as DVC does for the commands of a stage
    assert here("train", "--list").code == 3
    python = sys.executable
    assert became == [(python, [python, "-P", "-m", "segstream.cli.main", "train", "--list"])]
    assert os.environ["PYTHONPATH"].split(os.pathsep)[0] == str(other)
    done = here("train", "--list")  # which did not help
    assert (done.code, done.out) == (2, "")
    refusal = f"{other}: its stages would run the code of {ROOT / 'segstream'}; pip install -e {other}"
    assert done.err == f"error: {refusal}\n"
    (other / "segstream" / "__init__.py").unlink()  # a project of somebody's own that uses segstream
    main.run_checkout(other)
    main.run_checkout(ROOT / "docs")


def test_own_data_trains_and_is_judged_in_its_own_classes(here, tmp_path):
    if not CAMVID.is_dir():
        pytest.skip(f"needs the real street scenes in {CAMVID}")
    example = ROOT / "examples/camvid.yaml"
    small = ["--short-side", 120, "--limit", 4, "--workers", 1]
    done = here("shard", example, "--raw", CAMVID, "--out", tmp_path / "shards", *small)
    assert done.code == 0, done.err
    small = ["train.steps=2", "augment.short_side=60", "augment.crop=33", "loader.batch=2", "eval.short_side=60"]
    small += [f"data.shards={tmp_path / 'shards'}", "eval.crop=61", "train.device=cpu"]
    done = here("train", "oracle-camvid", *small, "--run", tmp_path / "run")
    assert done.code == 0, done.err
    example = yaml.safe_load(example.read_text())
    done = here("eval", tmp_path / "run/final.pt", "--data", tmp_path / "shards" / example["name"] / "val", "--json")
    assert done.code == 0, done.err
    row = json.loads(done.out)[0]
    assert [c["name"] for c in row["classes"]] == [c["name"] for c in example["classes"]]


def test_ctrl_c_says_that_the_same_command_goes_on_and_a_second_leaves_at_once(place, tmp_path):
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # whoever tests may ignore it
    start = f"{heard}from segstream.cli.main import run; run()"
    command = [sys.executable, "-c", start, "train", place / "recipe.yaml", "train.steps=5000"]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen([*command, "--run", tmp_path / "run"], env=env, stderr=subprocess.PIPE, text=True) as process:
        while "step 2 of" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        said = process.stderr.read().splitlines()
    assert (process.returncode, said[-1]) == (130, "interrupted; the same command goes on where it stopped")
    assert not [line for line in said if "Traceback" in line]
    code = f"""{heard}
import threading
from segstream.cli import main
main._prepare_process()
told_by_whoever_waits = threading.Thread(target=open, args=("/no/such/file",))
told_by_whoever_waits.start()
told_by_whoever_waits.join()
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    signal.raise_signal(signal.SIGINT)
print("still here")
"""
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


def test_a_foreign_working_folder_closed_streams_and_no_home_do_no_harm(tmp_path):
    for name in ("random", "tempfile", "segstream", "model"):  # which Python would take for its own
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the file of the working folder was run')")
    make = "world --out world --datasets camvid-11 --images 4 --val-images 4 --workers 2"
    command = f"exec {sys.executable} -P -m segstream.cli.main {make} <&- >&- 2>&-"
    env = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], "LC_ALL": "C"}
    done = subprocess.run(command, shell=True, cwd=tmp_path, env=env, check=False)
    assert done.returncode == 0
    assert len(list((tmp_path / "world").rglob("*.png"))) >= 8


@pytest.mark.parametrize("full", ["2>/dev/full", ">/dev/full"])
def test_a_full_disk_behind_a_stream(full):
    command = f"{sys.executable} -m segstream.cli.main datasets camvid-11 --json {full}"
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, check=False)
    if full.startswith(">"):
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert done.stderr.startswith("error: No space left on device")
    else:
        assert (done.returncode, json.loads(done.stdout)["name"]) == (0, "camvid-11")
