"""The HTML report: one file that holds its pictures, charts and styles, and loads nothing from anywhere."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from segstream.cli.report.chart import NUM_COLORS, line_chart, read_curve
from segstream.cli.report.confusion import OTHERS, plot, shares
from segstream.cli.report.html import data_url, one_byte, render, shrunk
from segstream.cli.report.results import Summary, read_json, read_models, summarize
from segstream.cli.report.text_table import best_of, percent
from segstream.colors import Rgb, legend
from segstream.model.evaluation.metrics import EvalResult
from segstream.shards.errors import DataError
from segstream.shards.format.manifest import Manifest
from segstream.shards.format.reader import open_shards
from segstream.shards.taxonomy import load_taxonomy

NUM_CONFUSIONS = 5  # told in words beside a confusion matrix
MAX_SIDE = 480  # pixels of an inlined picture's longer side: a page of a few MB


def make_report(*, evals: Path, pictures: Path, confusion: Path, metrics: Path, runs: Path) -> tuple[Summary, str]:
    """Read what `train` and `eval` left behind.

    Args:
        evals: folder of result files, MODEL.json; those models are shown.
        pictures: of `eval --pictures`, MODEL/DATASET/.
        confusion: of `eval --confusion`, MODEL/; may be missing.
        metrics: of `eval --metrics`, MODEL.speed.json; may be missing.
        runs: folder of run folders.

    Returns:
        The summary, and the page as one string of HTML.

    Raises:
        DataError: results are missing, damaged, or do not belong together, or jinja2 (extra `report`) is not installed.
    """
    models = [replace(m, results=tuple(m.by_dataset().values())) for m in read_models(evals)]
    metadata = {m.name: _run_metadata(runs / m.name / "run.json") for m in models}
    logs = {m.name: runs / m.name / "dvclive" / "plots" / "metrics" for m in models}
    mixes = {
        f"{run['recipe']['data']['shards']}/{mix['dataset']}/{run['recipe']['data']['split']}": mix
        for run in metadata.values()
        for mix in run["data"]["mix"]
    }
    held_out = {r.dataset: r.url for m in models for r in m.results if r.url}
    summary = summarize(models, data={mix["dataset"]: mix["manifest"] for mix in mixes.values()})
    by_name = {m.name: m.by_dataset() for m in models}
    results = {name: by_name[name] for name, _ in summary.rows()}
    charts, names = _charts(logs)
    page = render(
        "report.html",
        percent=percent,
        summary=summary,
        best=best_of(values for _, values in summary.rows()),
        budgets=sorted(
            {run["recipe"]["train"]["steps"] * run["recipe"]["loader"]["batch"] for run in metadata.values()}
        ),
        galleries=[_gallery(pictures, dataset, results) for dataset in summary.datasets],
        class_tables=[class_table(dataset, results) for dataset in summary.datasets],
        matrices=[{"model": n, **_matrix(path)} for n in by_name for path in sorted((confusion / n).glob("*.json"))],
        charts=charts,
        chart_legend=[(name, i % NUM_COLORS) for i, name in enumerate(names)],
        speeds=[row for name, log in logs.items() if (row := _speed(name, log, metrics / f"{name}.speed.json"))],
        data=[("training", _manifest(u)) for u in sorted(mixes)]
        + [("held out", _manifest(u)) for u in held_out.values()],
        run=next(iter(metadata.values())),
    )
    return summary, page


def class_table(dataset: str, models: Mapping[str, Mapping[str, EvalResult]]) -> dict[str, Any]:
    """IoU of every class of a dataset under every model, classes by labelled area, models in the order given.

    Returns:
        `dataset`, `models`, `images`, and `rows` of (class, share of the labelled pixels, IoU per model).
    """
    results = {name: by_dataset[dataset] for name, by_dataset in models.items() if dataset in by_dataset}
    iou = [{c.name: c.iou for c in result.classes} for result in results.values()]
    first = next(iter(results.values()))
    total = sum(c.pixels for c in first.classes) or 1
    classes = sorted(first.classes, key=lambda c: -c.pixels)
    rows = [(c.name, c.pixels / total, [of_model.get(c.name) for of_model in iou]) for c in classes]
    return {"dataset": dataset, "models": list(results), "images": first.images, "rows": rows}


def read_confusion(path: Path) -> tuple[str, Rgb, list[tuple[str, str, float]]]:
    """A confusion matrix as `eval --confusion` writes it.

    Returns:
        Dataset and how it was evaluated, in words; the heat map, (H, W, 3); the most frequent confusions as (label,
        prediction, share of the label's pixels), the largest first.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        pixels = np.array(content["pixels"], np.int64)
        values, rows, columns = shares(pixels, content["classes"], content["counted"])
        side, scales = content["short_side"] or "native", content["scales"]
        sets = " in ".join(dict.fromkeys([content["dataset"], content["taxonomy"]]))
        about = f"{sets}, short side {side}, {len(scales)} scale{'s' if len(scales) > 1 else ''}"
        picture = plot(values, rows, columns)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataError(f"{path}: not a confusion matrix ({error}); evaluate the model again") from error
    found = [
        (rows[i], columns[j], float(values[i, j]))
        for i, j in zip(*np.nonzero(values), strict=True)
        if columns[j] not in (rows[i], OTHERS)
    ]
    return about, picture, sorted(found, key=lambda item: -item[2])[:NUM_CONFUSIONS]


def inline_photo(path: Path) -> str:
    """A photograph as a `data:` URL, at most `MAX_SIDE` large, JPEG.

    Raises:
        DataError: the file is missing or damaged.
    """
    return data_url(shrunk(_open(path), MAX_SIDE, Image.Resampling.LANCZOS), "JPEG", quality=82)


def inline_label(path: Path) -> str:
    """A colorized label as a `data:` URL, at most `MAX_SIDE` large, its colours unchanged, PNG.

    Raises:
        DataError: the file is missing or damaged.
    """
    return data_url(one_byte(shrunk(_open(path), MAX_SIDE, Image.Resampling.NEAREST)), "PNG", optimize=True)


def _run_metadata(path: Path) -> dict[str, Any]:
    try:
        loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); train that model again") from error
    return loaded


def _manifest(url: str) -> Manifest:
    with open_shards(url) as shards:
        return shards.manifest


def _charts(logs: Mapping[str, Path]) -> tuple[list[tuple[str, str]], list[str]]:
    """(title, SVG) of what runs logged, and the runs in the order of their colours, the same in all charts."""
    validated = sorted({path.parent.name for log in logs.values() for path in log.glob("val/*/miou.tsv")})
    wanted = [("Training loss", "training loss", "loss.tsv")]
    wanted += [(f"Validation on {name}", "mIoU (0 to 1)", f"val/{name}/miou.tsv") for name in validated]
    wanted += [("Learning rate", "learning rate", "lr.tsv")]
    curves = [{n: read_curve(log / file) for n, log in logs.items() if (log / file).is_file()} for _, _, file in wanted]
    names = sorted({name for of_chart in curves for name in of_chart})
    drawn = [
        (title, line_chart({name: of_chart.get(name, ()) for name in names}, x_label="step", y_label=y_label))
        for (title, y_label, _), of_chart in zip(wanted, curves, strict=True)
    ]
    return [(title, svg) for title, svg in drawn if svg], names


def _speed(model: str, log: Path, metrics: Path) -> tuple[str, float | None, float | None, float | None] | None:
    """(model, crops/s, share of a step spent waiting for data, images/s), each a median or None where it is not known.

    None if nothing is.
    """
    crops, wait = (
        _median([y for _, y in read_curve(log / file)] if (log / file).is_file() else [])
        for file in ("crops_per_s.tsv", "data_wait.tsv")
    )
    images = _median([*read_json(metrics).values()] if metrics.is_file() else [])
    return None if crops is images is None else (model, crops, wait, images)


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def _matrix(path: Path) -> dict[str, Any]:
    about, picture, confusions = read_confusion(path)
    url = data_url(Image.fromarray(picture).quantize(64), "PNG", optimize=True)
    return {"about": about, "url": url, "confusions": confusions}


def _gallery(pictures: Path, dataset: str, models: Mapping[str, Mapping[str, EvalResult]]) -> dict[str, Any]:
    """Samples by the pictures of the first model; `eval` draws the same ones for every model."""
    folders = {name: pictures / name / dataset for name in models if (pictures / name / dataset).is_dir()}
    first = next(by_dataset[dataset] for by_dataset in models.values() if dataset in by_dataset)
    classes = load_taxonomy("universal").classes if first.taxonomy == "universal" else [c.name for c in first.classes]
    rows, colored = [], []
    for photo in sorted(next(iter(folders.values()), pictures).glob("*_image.jpg")):
        key = photo.name.removesuffix("_image.jpg")
        labels = {"label": photo.with_name(f"{key}_label.png")}
        labels |= {name: folder / f"{key}_pred.png" for name, folder in folders.items()}
        colored += [np.asarray(_open(path)) for path in labels.values()]
        shown = {"image": inline_photo(photo)} | {name: inline_label(path) for name, path in labels.items()}
        rows.append({"key": key, "pictures": shown})
    return {"dataset": dataset, "rows": rows, "legend": legend(colored, classes)}


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as picture:
            return picture.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path}: not a readable picture ({error}); evaluate the model again") from error
