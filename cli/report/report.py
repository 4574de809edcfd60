"""The HTML report: one file that holds its pictures, charts and styles, and loads nothing from anywhere."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from segstream.cli.report.chart import NUM_COLORS, Curve, line_chart
from segstream.cli.report.html import data_url, one_byte, render, shrunk
from segstream.cli.report.results import HMEAN, DatasetScore, ModelResult, Summary, cell, percent
from segstream.colors import Rgb, legend
from segstream.shards.errors import DataError

NUM_CONFUSIONS = 5  # told in words beside a confusion matrix
MAX_SIDE = 480  # pixels of an inlined picture's longer side: a page of a few MB


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureRow:
    """One held-out sample: files of the photograph, its label and each model's prediction (both by `colorize`)."""

    key: str
    image: Path
    label: Path
    predictions: Mapping[str, Path]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gallery:
    """Samples of one dataset; `classes` are the names by id with which labels and predictions were coloured."""

    dataset: str
    classes: tuple[str, ...]
    rows: tuple[PictureRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet:
    """One shard set that the results rest on."""

    name: str
    split: str
    role: str  # "training" or "held out"
    samples: int
    shards: int
    bytes: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One chart: the same figure of several runs over their steps."""

    title: str
    y_label: str
    curves: tuple[Curve, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """A confusion matrix as `eval --confusion` writes it; of one model on one dataset."""

    model: str
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """How fast a model was: medians over its run's log, and over the sets it was judged on. None: not known."""

    model: str
    crops_per_s: float | None
    data_wait: float | None
    """Share of a training step that was spent waiting for data, 0..1."""
    images_per_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportInputs:
    """Everything the page shows; where the files lie is the caller's decision."""

    summary: Summary
    results: tuple[ModelResult, ...]
    about: str = ""  # a sentence or two: what was compared, with which budget
    panels: tuple[Panel, ...] = ()
    matrices: tuple[Matrix, ...] = ()
    speeds: tuple[Speed, ...] = ()
    galleries: tuple[Gallery, ...] = ()
    data: tuple[DataSet, ...] = ()
    commands: tuple[str, ...] = ("make demo",)
    facts: Mapping[str, str] = field(default_factory=dict)  # versions, machine, commit: name -> value


def render_report(inputs: ReportInputs) -> str:
    """The page as one string of HTML.

    Raises:
        DataError: a picture is missing or damaged, or jinja2 (extra `report`) is not installed.
    """
    names = sorted({curve.name for panel in inputs.panels for curve in panel.curves})
    return render(
        "report.html",
        percent=percent,
        inputs=inputs,
        summary=inputs.summary,
        headline=headline(inputs.summary),
        table=_results_table(inputs.summary),
        columns=(*inputs.summary.datasets, HMEAN),
        class_tables=[t for d in inputs.summary.datasets if (t := class_table(d, inputs.results, inputs.summary))],
        charts=[chart for panel in inputs.panels if (chart := _chart(panel, names))["svg"]],
        chart_legend=[(name, i % NUM_COLORS) for i, name in enumerate(names)],
        matrices=[_matrix(matrix) for matrix in inputs.matrices],
        galleries=[_gallery(gallery, inputs.summary) for gallery in inputs.galleries],
        megabytes=lambda count: f"{count / 1e6:.1f} MB",
    )


def headline(summary: Summary) -> str:
    """The outcome in one sentence."""
    ranked = [(name, model.hmean) for name, model in summary.ranked() if model.hmean is not None]
    count = len(summary.datasets)
    over = f"{count} held-out dataset{'s' if count != 1 else ''}"
    if not ranked:
        return f"No model was judged on all of the {over}."
    name, best = ranked[0]
    text = f"{name} reaches a harmonic mean of {percent(best)} over {over}"
    if len(ranked) > 1:
        second, value = ranked[1]
        text += f"; the next, {second}, reaches {percent(value)}"
    return text + "."


def class_table(dataset: str, results: Sequence[ModelResult], summary: Summary) -> dict[str, Any] | None:
    """IoU of every class of a dataset under every model, classes by labelled area, models as ranked.

    Returns:
        `dataset`, `models`, and `rows` of (class, share of the labelled pixels, IoU per model); None if no model
        was judged on the dataset.
    """
    scores: dict[str, DatasetScore] = {
        result.name: score for result in results for score in result.scores if score.dataset == dataset
    }
    models = [name for name, _ in summary.ranked() if name in scores]
    if not models:
        return None
    by_class = {name: {c.name: c for c in scores[name].classes} for name in models}
    first = scores[models[0]].classes
    total = sum(c.pixels for c in first) or 1
    rows = [
        (c.name, c.pixels / total, [known.iou if (known := by_class[m].get(c.name)) else None for m in models])
        for c in sorted(first, key=lambda c: -c.pixels)
    ]
    return {"dataset": dataset, "models": models, "rows": rows, "images": scores[models[0]].images}


def matrix_of(path: Path) -> tuple[str, Rgb, list[tuple[str, str, float]]]:
    """A confusion matrix for the page.

    Returns:
        Dataset and how it was judged, in words; the heat map, (H, W, 3); the most frequent confusions as (label,
        prediction, share of the label's pixels), the largest first.

    Raises:
        DataError: the file is missing or damaged.
    """
    from segstream.cli.report.confusion import (  # with the network's code, which other pages do without
        OTHERS,
        plot,
        shares,
    )

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
    found.sort(key=lambda item: -item[2])
    return about, picture, found[:NUM_CONFUSIONS]


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


def _results_table(summary: Summary) -> list[dict[str, Any]]:
    columns = (*summary.datasets, HMEAN)
    best = {column: summary.best(column) for column in columns}
    rows = []
    for name, model in summary.ranked():
        values = [(value := cell(model, column), value is not None and value == best[column]) for column in columns]
        rows.append({"name": name, "cells": values})
    return rows


def _chart(panel: Panel, names: Sequence[str]) -> dict[str, str]:
    """With a place for every run, so that a run has one colour in all charts."""
    points = {curve.name: curve.points for curve in panel.curves}
    curves = [Curve(name=name, points=points.get(name, ())) for name in names]
    return {"title": panel.title, "svg": line_chart(curves, x_label="step", y_label=panel.y_label)}


def _matrix(matrix: Matrix) -> dict[str, Any]:
    about, picture, confusions = matrix_of(matrix.path)
    url = data_url(Image.fromarray(picture).quantize(64), "PNG", optimize=True)
    return {"model": matrix.model, "about": about, "url": url, "confusions": confusions}


def _gallery(gallery: Gallery, summary: Summary) -> dict[str, Any]:
    rows = []
    colored: list[Rgb] = []
    for row in gallery.rows:
        models = [name for name, _ in summary.ranked() if name in row.predictions]
        models += sorted(set(row.predictions) - set(models))
        colored += [np.asarray(_open(path)) for path in (row.label, *(row.predictions[m] for m in models))]
        pictures = [("image", inline_photo(row.image)), ("label", inline_label(row.label))]
        pictures += [(model, inline_label(row.predictions[model])) for model in models]
        rows.append({"key": row.key, "pictures": pictures})
    return {"dataset": gallery.dataset, "rows": rows, "legend": legend(colored, gallery.classes)}


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as picture:
            return picture.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path}: not a readable picture ({error}); evaluate the model again") from error
