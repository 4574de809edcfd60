"""dvc.yaml and params.yaml against the code and recipes they speak of."""

import ast
import hashlib
import shutil
import sys

import pytest
import yaml

from segstream.recipe import load_recipe, recipe_names
from segstream.shards.datasets.registry import registry
from tests.commands import ROOT, sh
from tests.test_imports import MODULES, imported_by, ours

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text()) | {
    "own_data": {"camvid-street": {"yaml": "examples/camvid.yaml", "raw": "data/raw/camvid", "short_side": 360}},
    "own": {"oracle-camvid": {"data": "camvid-street"}},
}
MADE = ("data/", "runs", "results/")
needs_dvc = pytest.mark.skipif(shutil.which("dvc") is None, reason="dvc is not installed")

# Folders and modules that a command reaches and its stage does not depend on, nor on what only they import.
NOT_DEPENDED_ON = {
    "": dict.fromkeys(("cli.commands", "cli.console"), "reads options, tells how far the work is")
    | {
        "cli.run": "tells how far the work is; shows what a run would be",
        "cli.jobs": "starts processes; the result is the same in any number of them",
        "shards.errors": "texts of errors, which end a stage",
        "shards.checks": "tells what labels hold; makes nothing",
        "shards": "hands names on",
    },
    "world": {},
    "shard": {},
    "train": dict.fromkeys(
        ("evaluation", "colors", "model.inference", "model.evaluation"),
        "scores and pictures on the way, of which the demo's recipes ask none; weights do not see them",
    ),
    "eval": {"calibration": "fits a temperature instead, which no stage asks for"},
    "report": dict.fromkeys(
        ("evaluation", "model", "pipeline", "shards.codecs"), "how the results that it reads were made"
    )
    | {"shards.parallel": "makes centroids"}
    | {"shards.files": "writes what it is given", "shards.schema": "reads manifests"},
}


def instances(name):
    """The stages that `foreach` makes of one, by key, with their placeholders filled in."""
    if "foreach" not in STAGES[name]:
        return {name: STAGES[name]}
    items = STAGES[name]["foreach"]
    if isinstance(items, str):
        items = PARAMS[items.strip("${}")]
    rows = items.items() if isinstance(items, dict) else ((item, item) for item in items)
    made = {}
    for key, item in rows:
        text = (
            yaml.safe_dump(STAGES[name]["do"])
            .replace("${key}", str(key))
            .replace("${seed}", "0")
            .replace("${shard_options}", "")
        )
        if isinstance(item, dict):
            for field, value in item.items():
                text = text.replace(f"${{item.{field}}}", str(value))
        made[str(key)] = yaml.safe_load(text.replace("${item}", str(item)))
    return made


def paths(stage):
    return {str(dep) for dep in stage["deps"]}


@pytest.mark.parametrize("name", STAGES)
def test_every_dependency_is_a_file_of_ours_or_made_by_a_stage(name):
    for key, stage in instances(name).items():
        missing = [d for d in paths(stage) if not d.startswith(MADE) and not (ROOT / d).exists()]
        assert not missing, f"{name}@{key}"
        assert "${" not in stage["cmd"], f"{name}@{key}"
        assert len(stage["deps"]) == len(paths(stage)), f"{name}@{key}"
        assert "segstream" not in paths(stage), "its links lead to all rooms"


def imported(nodes):
    """Our modules that code imports, within functions too but not for types alone."""
    for node in nodes:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        for inner in ast.walk(node):
            yield from (module for module in map(ours, imported_by(inner)) if module is not None)


def covers(prefixes, name):
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


def reached(command, *more):
    """The modules on the call path of a command, without those in NOT_DEPENDED_ON and what only they import."""
    pending = [*more, *imported(ast.parse(MODULES[f"cli.commands.{command}"].read_text()).body)]
    left_out = {name for stage in ("", command) for name in NOT_DEPENDED_ON[stage]} - {"shards"}
    seen = {"__init__", "shards", "model"}  # they hand names on: who uses one imports its module here
    while pending:
        name = pending.pop()
        if name not in seen and not covers(left_out, name):
            seen.add(name)
            pending += imported(ast.parse(MODULES[name].read_text()).body)
    return seen - {"__init__", "shards", "model"}


def undeclared(modules, stage):
    files = {name: str(MODULES[name].relative_to(ROOT)) for name in modules}
    deps = paths(stage)
    return {file for file in files.values() if not any(file == dep or file.startswith(f"{dep}/") for dep in deps)}


@pytest.mark.parametrize("name", STAGES)
def test_stages_depend_on_every_module_that_shapes_their_output(name):
    modules = reached(name.split("-")[0])
    assert len(modules) > 10 or name == "report"
    for key, stage in instances(name).items():
        assert not undeclared(modules, stage), f"{name}@{key}"


def test_what_stages_do_not_depend_on_still_exists():
    names = {name for stage in NOT_DEPENDED_ON.values() for name in stage}
    assert not [name for name in names if not any(covers({name}, module) for module in MODULES)]


def test_a_set_depends_on_its_own_dataset_and_those_it_builds_on_alone():
    for key, stage in instances("shard").items():
        folder = PARAMS["shards"][key]["folder"]
        deps = {d for d in paths(stage) if d.startswith("shards/datasets") and not d.endswith(".py")}
        assert deps == {folder}, key
        assert not {d for d in paths(stage) if d.startswith(("model", "pipeline", "cli"))}
        assert folder == f"shards/datasets/{PARAMS['shards'][key]['dataset'].replace('-', '_')}"
        facts = yaml.safe_load((ROOT / folder / "dataset.yaml").read_text())
        assert not {"base", "taxonomy"} & facts.keys(), f"{key}: builds on another, so `folder` is shards/datasets"
        assert "licence" in facts  # is in every sample


@pytest.mark.parametrize("dataset", sorted(registry()))
def test_the_reader_of_a_dataset_imports_its_own_folder_and_what_all_share(dataset):
    own = dataset.replace("-", "_")
    if f"shards.datasets.{own}.source" not in MODULES:
        return
    facts = yaml.safe_load((ROOT / "shards/datasets" / own / "dataset.yaml").read_text())
    modules = reached("shard", f"shards.datasets.{own}.source")
    folders = {own} if "base" not in facts else {own, facts["base"].replace("-", "_")}
    found = {name.split(".")[2] for name in modules if name.startswith("shards.datasets.") and name.count(".") > 2}
    assert found <= folders
    shared = next(iter(instances("shard").values()))
    assert not undeclared({m for m in modules if not any(f".{folder}." in m for folder in folders)}, shared)


@pytest.mark.parametrize("name", ["shard", "shard-own", "train-union", "train-single", "train-own"])
def test_what_takes_long_goes_on_when_killed(name):
    for stage in instances(name).values():
        assert " --staged" in stage["cmd"]
        assert all(isinstance(out, str) for out in stage["outs"])  # no `persist`: it switches off DVC's run cache


def test_training_depends_on_its_recipe_and_the_shards_of_its_mix():
    stages = instances("train-union") | {f"single-{k}": s for k, s in instances("train-single").items()}
    demo = [n for n in recipe_names() if n.startswith(("union-", "single-")) and "-1m-" not in n]
    assert sorted(stages) == demo
    for name, stage in stages.items():
        recipe = load_recipe(name)
        wanted = {url for dataset in recipe.data.mix for url in recipe.data.urls(dataset).values()}
        assert {d for d in paths(stage) if d.startswith("data/")} == wanted
        assert {d for d in paths(stage) if d.startswith("recipes/")} == {"recipes/_demo.yaml", f"recipes/{name}.yaml"}
        assert yaml.safe_load((ROOT / f"recipes/{name}.yaml").read_text())["extends"] == "_demo.yaml"
        assert stage["outs"] == [f"runs/{name}"]
        assert not recipe.validate.data, "then training depends on the code that evaluates"


def test_own_recipes_are_trained_and_judged_on_the_set_that_params_name():
    recipe = load_recipe("oracle-camvid")
    train, judge = instances("train-own")["oracle-camvid"], instances("eval-own")["oracle-camvid"]
    assert {d for d in paths(train) if d.startswith("data/")} == {
        recipe.data.urls(name)["train"] for name in recipe.data.mix
    }
    assert "recipes" in paths(train)  # its bases too, whichever they are
    assert {d for d in paths(judge) if d.startswith(MADE)} == {"runs/oracle-camvid", "data/shards/camvid-street/val"}
    made = instances("shard-own")["camvid-street"]["outs"]
    assert made == ["data/shards/camvid-street/train", "data/shards/camvid-street/val"]


def test_the_report_is_made_of_outputs_of_the_evaluations():
    outs = {out for stage in instances("eval").values() for out in [*stage["outs"], *stage["metrics"]]}
    for folder in (d for d in paths(STAGES["report"]) if d.startswith("results/")):
        found = [out for out in outs if out.startswith(f"{folder}/") and ".speed." not in out]
        assert len(found) == 6, folder


def test_evaluation_is_on_datasets_that_no_recipe_trains_on():
    trained = {dataset for name in instances("eval") for dataset in load_recipe(name).data.mix}
    for stage in instances("eval").values():
        judged = {d.split("/")[2] for d in paths(stage) if d.startswith("data/shards/")}
        assert len(judged) == 3
        assert not judged & trained


@pytest.fixture
def checkout(tmp_path):
    """A repository with this pipeline and this code, its runs and pictures made small."""
    for name in ("benchmarks", "cli", "model", "pipeline", "recipes", "segstream", "shards", "examples"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, tmp_path / name, symlinks=True, ignore=ignored)
    for name in ("dvc.yaml", ".dvcignore", ".gitignore"):
        shutil.copy(ROOT / name, tmp_path)
    few = {"train": 4, "val": 4}
    small = {name: world | {p: min(world[p], n) for p, n in few.items()} for name, world in PARAMS["world"].items()}
    params = PARAMS | {"world": small, "own": {}, "own_data": {}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    demo = tmp_path / "recipes/_demo.yaml"
    text = demo.read_text().replace("steps: 700", "steps: 2").replace("batch: 24", "batch: 2")
    assert "steps: 2\n" in text
    assert "batch: 2," in text
    demo.write_text(text)
    for command in ("init -q", "commit -q --allow-empty -m start"):
        sh("git", *command.split(), cwd=tmp_path)
    return tmp_path


@needs_dvc
def test_dvc_reads_the_pipeline():
    names = sh("dvc", "stage", "list", "--name-only", cwd=ROOT).split()
    assert sum(n.startswith("eval@") for n in names) == 6
    assert sum(n.startswith("shard@") for n in names) == len(PARAMS["shards"])


@needs_dvc
def test_a_former_seed_comes_out_of_the_cache_and_links_are_never_written_through(checkout):
    stage, run = "train-single@cityscapes-19", checkout / "runs/single-cityscapes-19"
    params = yaml.safe_load((checkout / "params.yaml").read_text())
    here = {"cwd": checkout, "PYTHONPATH": str(checkout), "PYTHONDONTWRITEBYTECODE": "1"}  # runs the code of the folder
    for command in ("init -q", "config cache.type hardlink"):
        sh("dvc", *command.split(), **here)
    made = {}
    for seed in (0, 1, 0):
        (checkout / "params.yaml").write_text(yaml.safe_dump(params | {"seed": seed}))
        said = sh("dvc", "repro", stage, **here)
        assert said.count("Running stage") == (0 if seed in made else 3), said  # world, shard, train
        files = {path: path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}
        assert made.setdefault(seed, files) == files  # run.json, too, which says when it ran
        assert not (checkout / "runs/.partial").exists()
    assert made[0][run / "final.pt"] != made[1][run / "final.pt"]
    assert (run / "run.json").stat().st_nlink == 2
    train = [sys.executable, "-m", "segstream.cli.main", "train"]
    sh(*train, "single-cityscapes-19", "seed=2", "--restart-changed", **here)
    for file in (checkout / ".dvc/cache/files/md5").glob("*/*"):
        digest = hashlib.md5(file.read_bytes()).hexdigest()
        assert digest == file.parent.name + file.name.removesuffix(".dir"), "an object of the cache was written to"
