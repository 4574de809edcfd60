"""Collects what `train` and `eval` left behind into the inputs of tables and report."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from segstream.cli.report.chart import read_curve
from segstream.cli.report.report import DataSet, Gallery, Matrix, Panel, PictureRow, ReportInputs, Speed
from segstream.cli.report.results import ModelResult, pick, read_json, read_result, read_results, summarize
from segstream.shards.errors import DataError
from segstream.shards.format.reader import open_shards
from segstream.shards.taxonomy import load_taxonomy


def read_any(path: Path) -> tuple[ModelResult, ...]:
    """Results from one file, from a folder of MODEL.json files, or from a run folder.

    A run folder is one that holds `eval.json` or a folder `eval` of result files (or both): all are of one model, which
    is named by the folder.

    Raises:
        DataError: there is no result at that place.
    """
    if path.is_file():
        return (read_result(path),)
    files = [path / "eval.json"] if (path / "eval.json").is_file() else []
    files += sorted((path / "eval").glob("*.json"))
    if not files:
        return read_results(path)
    return (ModelResult(name=path.resolve().name, scores=tuple(s for file in files for s in read_result(file).scores)),)


def common_seed(results: Sequence[ModelResult]) -> int:
    """The seed that all models were trained with.

    Raises:
        DataError: they differ, so the models are no fair comparison.
    """
    seeds = {result.name: score.seed for result in results for score in result.scores if score.seed is not None}
    if len(set(seeds.values())) > 1:
        raise DataError(f"models of different seeds side by side: {seeds}; evaluate runs of one seed together")
    return next(iter(seeds.values()), 0)


def manifests(results: Sequence[ModelResult]) -> dict[str, str]:
    """By dataset, the digest of the shard set that models were judged on.

    Raises:
        DataError: two models were judged on different data under one name.
    """
    found: dict[str, str] = {}
    for result in results:
        for score in result.scores:
            if score.manifest is not None and found.setdefault(score.dataset, score.manifest) != score.manifest:
                raise DataError(f"{result.name}: was judged on another version of {score.dataset}; evaluate it again")
    return found


def gather(*, evals: Path, pictures: Path, confusion: Path, metrics: Path, runs: Path) -> ReportInputs:
    """Read everything the report shows.

    Raises:
        DataError: results are missing, damaged, or do not belong together.
    """
    results = tuple(replace(r, scores=tuple(pick(r).values())) for r in read_results(evals))
    accounts = {r.name: _run_json(runs / r.name / "run.json") for r in results}
    urls = {score.dataset: score.url for r in results for score in r.scores if score.url}
    trained = {
        f"{account['recipe']['data']['shards']}/{mix['dataset']}/{account['recipe']['data']['split']}": mix
        for account in accounts.values()
        for mix in account["data"]["mix"]
    }
    data = [_data_set(url, "training") for url in sorted(trained)]
    data += [_data_set(url, "held out") for url in urls.values()]
    summary = summarize(
        results,
        heldout=list(urls),
        seed=common_seed(results),
        data={mix["dataset"]: mix["manifest"] for mix in trained.values()} | manifests(results),
    )
    return ReportInputs(
        summary=summary,
        results=results,
        about=_about(accounts),
        panels=tuple(_panels(runs, results)),
        matrices=tuple(
            Matrix(model=r.name, path=path) for r in results for path in sorted((confusion / r.name).glob("*.json"))
        ),
        speeds=tuple(_speeds(runs, metrics, results)),
        galleries=tuple(_gallery(pictures, dataset, results) for dataset in urls),
        data=tuple(data),
        facts=_facts(next(iter(accounts.values()))),
    )


def _run_json(path: Path) -> dict[str, Any]:
    try:
        loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); train that model again") from error
    return loaded


def _data_set(url: str, role: str) -> DataSet:
    with open_shards(url) as shards:
        manifest = shards.manifest
        return DataSet(
            name=manifest.dataset,
            split=manifest.split,
            role=role,
            samples=manifest.samples,
            shards=len(manifest.shards),
            bytes=manifest.bytes,
            digest=manifest.digest,
        )


def _about(accounts: dict[str, dict[str, Any]]) -> str:
    budgets = sorted({a["recipe"]["train"]["steps"] * a["recipe"]["loader"]["batch"] for a in accounts.values()})
    crops = " or ".join(f"{b:,}" for b in budgets)
    return (
        f"{len(accounts)} models, each trained on {crops} crops, judged on datasets that none of them saw, "
        f"in those datasets' own classes: probabilities are mapped before the best class is chosen."
    )


def _facts(account: dict[str, Any]) -> dict[str, str]:
    versions = ", ".join(f"{name} {version}" for name, version in account["versions"].items())
    machine = account["machine"]
    facts = {
        "versions": versions,
        "Python": account["python"],
        "machine": f"{machine['processor']}, {machine['cores']} cores",
    }
    return facts | ({"commit": account["git"]} if account["git"] else {})


def _panels(runs: Path, results: Sequence[ModelResult]) -> list[Panel]:
    """Charts of what runs logged, those of validation by data set; what no run logged is left out."""
    judged = {path.parent.name for r in results for path in _metrics(runs, r.name).glob("val/*/miou.tsv")}
    wanted = [("Training loss", "training loss", "loss.tsv")]
    wanted += [(f"Validation on {name}", "mIoU (0 to 1)", f"val/{name}/miou.tsv") for name in sorted(judged)]
    wanted += [("Learning rate", "learning rate", "lr.tsv")]
    panels = []
    for title, y_label, file in wanted:
        files = {r.name: _metrics(runs, r.name) / file for r in results}
        curves = tuple(read_curve(path, name=name) for name, path in files.items() if path.is_file())
        panels.append(Panel(title=title, y_label=y_label, curves=curves))
    return panels


def _speeds(runs: Path, metrics: Path, results: Sequence[ModelResult]) -> list[Speed]:
    rows = []
    for r in results:
        crops, wait = (_median(_metrics(runs, r.name) / file) for file in ("crops_per_s.tsv", "data_wait.tsv"))
        images = _images_per_s(metrics / f"{r.name}.speed.json")
        if crops is not None or images is not None:
            rows.append(Speed(model=r.name, crops_per_s=crops, data_wait=wait, images_per_s=images))
    return rows


def _images_per_s(path: Path) -> float | None:
    """The median over the sets that `eval --metrics` timed; None where it timed none."""
    found = read_json(path) if path.is_file() else {}
    return statistics.median(found.values()) if found else None


def _metrics(runs: Path, name: str) -> Path:
    return runs / name / "dvclive" / "plots" / "metrics"


def _median(path: Path) -> float | None:
    values = [value for _, value in read_curve(path, name="").points] if path.is_file() else []
    return statistics.median(values) if values else None


def _gallery(pictures: Path, dataset: str, results: Sequence[ModelResult]) -> Gallery:
    """Rows by the pictures of the first model; `eval` draws the same samples for every model."""
    names = [r.name for r in results if (pictures / r.name / dataset).is_dir()]
    first = pictures / names[0] / dataset if names else pictures
    rows = [
        PictureRow(
            key=image.name.removesuffix("_image.jpg"),
            image=image,
            label=image.with_name(image.name.replace("_image.jpg", "_label.png")),
            predictions={n: pictures / n / dataset / image.name.replace("_image.jpg", "_pred.png") for n in names},
        )
        for image in sorted(first.glob("*_image.jpg"))
    ]
    taxonomy = next(s.taxonomy for r in results for s in r.scores if s.dataset == dataset)
    return Gallery(dataset=dataset, classes=_classes(taxonomy, dataset, results), rows=tuple(rows))


def _classes(taxonomy: str, dataset: str, results: Sequence[ModelResult]) -> tuple[str, ...]:
    """Names by id: the universal taxonomy, of which only some classes count, or the dataset's own."""
    if taxonomy == "universal":
        return load_taxonomy("universal").classes
    return next(tuple(c.name for c in s.classes) for r in results for s in r.scores if s.dataset == dataset)
