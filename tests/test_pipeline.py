"""dvc.yaml and params.yaml against the code and recipes they speak of."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from segstream.recipe import load_recipe, recipe_names

ROOT = Path(__file__).parent.parent
STAGES: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
PARAMS: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text())
MADE = ("data/", "runs", "results/")


def instances(name: str) -> dict[str, dict[str, Any]]:
    """The stages that `foreach` makes of one, by key, with their placeholders filled in."""
    items = STAGES[name]["foreach"]
    if isinstance(items, str):
        items = PARAMS[items.strip("${}")]
    rows = items.items() if isinstance(items, dict) else ((item, item) for item in items)
    made = {}
    for key, item in rows:
        text = yaml.safe_dump(STAGES[name]["do"]).replace("${key}", str(key)).replace("${seed}", "0")
        if isinstance(item, dict):
            for field, value in item.items():
                text = text.replace(f"${{item.{field}}}", str(value))
        made[str(key)] = yaml.safe_load(text.replace("${item}", str(item)))
    return made


def paths(stage: dict[str, Any]) -> set[str]:
    return {str(dep) for dep in stage["deps"]}


@pytest.mark.parametrize("name", [n for n, s in STAGES.items() if "foreach" in s])
def test_every_dependency_is_a_file_of_ours_or_made_by_a_stage(name: str) -> None:
    for key, stage in instances(name).items():
        missing = [d for d in paths(stage) if not d.startswith(MADE) and not (ROOT / d).exists()]
        assert not missing, f"{name}@{key}"
        assert "${" not in stage["cmd"], f"{name}@{key}"


def test_a_set_depends_on_its_own_converter_and_classes_alone() -> None:
    for key, stage in instances("shard").items():
        entry = PARAMS["shards"][key]
        deps = paths(stage)
        assert {d for d in deps if d.startswith("shards/sources/")} == {
            f"shards/sources/{entry['dataset'].replace('-', '_')}.py",
            "shards/sources/common.py",
        }
        tables = {d for d in deps if d.startswith("shards/taxonomies/")}
        assert tables == {f"shards/taxonomies/{entry['dataset']}.yaml", "shards/taxonomies/universal.yaml"}
        assert not {d for d in deps if d.startswith(("model", "pipeline", "cli"))}


def test_training_depends_on_its_recipe_and_the_shards_of_its_mix() -> None:
    stages = instances("train-union") | {f"single-{k}": s for k, s in instances("train-single").items()}
    demo = [n for n in recipe_names() if n.startswith(("union-", "single-")) and "-1m-" not in n]
    assert sorted(stages) == demo
    for name, stage in stages.items():
        recipe = load_recipe(name)
        wanted = {recipe.data.url(dataset) for dataset in recipe.data.mix}
        assert {d for d in paths(stage) if d.startswith("data/")} == wanted
        assert f"recipes/{name}.yaml" in paths(stage)
        assert set(stage["outs"][0]) == {f"runs/{name}"}
        assert stage["outs"][0][f"runs/{name}"] == {"persist": True}  # or a killed run would start over


def test_own_recipes_are_trained_and_judged_on_the_set_that_params_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PARAMS, "own", {"oracle-camvid": {"data": "camvid-street"}})
    recipe = load_recipe("oracle-camvid")
    train, judge = instances("train-own")["oracle-camvid"], instances("eval-own")["oracle-camvid"]
    assert {d for d in paths(train) if d.startswith("data/")} == {recipe.data.url(name) for name in recipe.data.mix}
    assert "recipes" in paths(train)  # its bases too, whichever they are
    assert {d for d in paths(judge) if d.startswith(MADE)} == {"runs/oracle-camvid", "data/shards/camvid-street/val"}
    assert all((ROOT / d).exists() for d in (paths(train) | paths(judge)) if not d.startswith(MADE))


# Reached from the trainer and the evaluation, without a say in what an HRNet learns or scores.
NO_SAY = {f"model/{name}.py" for name in ("hmsa", "mgda", "ocr", "pspnet", "resnet", "rmi", "recompute", "options")}
NO_SAY |= {"model/loss_triton.py", "model/checkpoint.py", "model/types.py", "model/initial.py"}


def reached(*starts: str) -> set[str]:
    """The modules of a room that these import, directly or not."""
    seen: set[str] = set()
    pending = list(starts)
    while pending:
        path = pending.pop()
        if path in seen:
            continue
        seen.add(path)
        for node in ast.walk(ast.parse((ROOT / path).read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
                files = [f"{name.replace('.', '/')}.py" for name in names]
                pending += [f for f in files if f.split("/")[0] == path.split("/")[0] and (ROOT / f).is_file()]
    return seen


def test_stages_depend_on_every_module_that_shapes_their_output() -> None:
    train, judge = instances("train-union")["union-universal"], instances("eval")["union-universal"]
    assert reached("model/trainer.py", "model/build.py") - NO_SAY <= paths(train)
    assert reached("model/evaluate.py", "model/build.py") - NO_SAY <= paths(judge)
    elsewhere = {f for f in reached("shards/convert.py") if f.startswith("shards/stores/")} | {"shards/publish.py"}
    messages = {f"shards/{name}.py" for name in ("datasets", "errors", "schema", "store", "sources/folder")}
    assert reached("shards/convert.py") - messages - elsewhere <= paths(instances("shard")["ade20k-150-train"])


def test_a_changed_licence_makes_every_set_again() -> None:
    for key, stage in instances("shard").items():
        assert {"shards/registry.yaml", "shards/registry.py"} <= paths(stage), key


def test_a_changed_taxonomy_judges_every_model_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PARAMS, "own", {"oracle-camvid": {"data": "camvid-street"}})
    for key, stage in (instances("eval") | instances("eval-own")).items():
        assert {"shards/taxonomy.py", "shards/taxonomies"} <= paths(stage), key


def test_the_report_is_made_of_outputs_of_the_evaluations() -> None:
    outs = {out for stage in instances("eval").values() for out in [*stage["outs"], *stage["metrics"]]}
    for folder in (d for d in paths(STAGES["report"]) if d.startswith("results/")):
        assert len([out for out in outs if out.startswith(f"{folder}/")]) == 6, folder


def test_evaluation_is_on_datasets_that_no_recipe_trains_on() -> None:
    trained = {dataset for name in instances("eval") for dataset in load_recipe(name).data.mix}
    for stage in instances("eval").values():
        judged = {d.split("/")[2] for d in paths(stage) if d.startswith("data/shards/")}
        assert len(judged) == 3
        assert not judged & trained


@pytest.mark.skipif(shutil.which("dvc", path=str(Path(sys.executable).parent)) is None, reason="dvc is not installed")
def test_dvc_reads_the_pipeline() -> None:
    dvc = shutil.which("dvc", path=str(Path(sys.executable).parent))
    done = subprocess.run(
        [str(dvc), "stage", "list", "--name-only"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    names = done.stdout.split()
    assert sum(n.startswith("eval@") for n in names) == 6
    assert sum(n.startswith("shard@") for n in names) == len(PARAMS["shards"])
