"""examples/mseg: run as it stands, but for one small dataset and a stand-in for the repository of the records."""

import json
import shutil

import pytest
import yaml

from segstream.recipe import load_recipe
from segstream.shards.datasets.registry import registry
from segstream.shards.synthetic import draw
from segstream.shards.taxonomy import TRAINING_TAXONOMIES
from tests.commands import ROOT, sh
from tests.shards.synthetic.truth import tiny

EXAMPLE = ROOT / "examples/mseg"
RECIPE = "mseg-relabeled-1m-1080p"
LIST = "records = [DatasetClassUpdateRecord('sunrgbd', 'train', 'chair_other', 'armchair', 'chairs.txt')]\n"


def test_it_names_the_training_datasets_and_the_revision_that_tables_are_compared_with():
    names = [entry["name"] for entry in yaml.safe_load((EXAMPLE / "params.yaml").read_text())["datasets"]]
    assert names == sorted(n for n in registry() if n in TRAINING_TAXONOMIES and n != "cityscapes-34")
    revision = yaml.safe_load((EXAMPLE / "mseg-api.dvc").read_text())["deps"][0]["repo"]["rev_lock"]
    assert f"mseg-api@{revision}" in (ROOT / "pyproject.toml").read_text()


@pytest.mark.skipif(shutil.which("dvc") is None, reason="dvc is not installed")
def test_records_are_imported_and_applied(tmp_path):
    with tiny():
        draw(tmp_path / "world", "sunrgbd-37", train=2, val=1, seed=0, workers=1)
    source, project = tmp_path / "mseg-api", tmp_path / "project"
    shutil.copytree(EXAMPLE, project)
    for path, text in (
        (source / "mseg/label_preparation/dataset_update_records.py", LIST),
        (source / "mseg/relabeled_data/chairs.txt", "img-000001_4.jpg\nimg-000002_4.jpg\nimg-000777_4.jpg\n"),
    ):
        path.parent.mkdir(parents=True)
        path.write_text(text)
    for command in ("init -q", "add -A", "commit -qm records"):
        sh("git", *command.split(), cwd=source)
    revision = sh("git", "rev-parse", "HEAD", cwd=source).strip()
    imported = yaml.safe_load((project / "mseg-api.dvc").read_text())
    imported["deps"][0]["repo"] = {"url": str(source), "rev": revision, "rev_lock": revision}
    (project / "mseg-api.dvc").write_text(yaml.safe_dump(imported))
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["datasets"] = [{"name": "sunrgbd-37", "raw": str(tmp_path / "world/sunrgbd-37")}]
    params["recipes"] = {RECIPE: {"weights": "imagenet.pth"}}
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    for command in ("git init", "dvc init", "dvc update mseg-api.dvc", "dvc repro shard@dataset0-train"):
        sh(*command.split(), "-q", cwd=project)
    manifest = json.loads((project / "shards/sunrgbd-37/train/manifest.json").read_text())
    assert "universal-relabeled" in manifest["members"]
    assert manifest["relabel"]["applied"] + sum(manifest["relabel"]["reported"].values()) == 3
    assert manifest["relabel"]["reported"]["no such image in this split"] == 1
    assert RECIPE in sh("dvc", "stage", "list", "--all", cwd=project)


def test_it_trains_on_every_dataset_that_it_converts():
    stage = yaml.safe_load((EXAMPLE / "dvc.yaml").read_text())["stages"]["train"]["do"]
    names = [entry["name"] for entry in yaml.safe_load((EXAMPLE / "params.yaml").read_text())["datasets"]]
    assert stage["deps"][1:] == [f"shards/{name}/train" for name in names]
    command = stage["cmd"].replace("${key}", RECIPE).replace("${item.weights}", "imagenet.pth").split()
    recipe = load_recipe(command[2], [word for word in command[3:] if "=" in word])
    assert [recipe.data.urls(name)["train"] for name in recipe.data.mix] == stage["deps"][1:]
    assert recipe.model.weights == "imagenet.pth"
