"""The HTML report: one file that holds its pictures, charts and styles, and loads nothing from anywhere."""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from segstream.cli.report.confusion import OTHERS, plot, shares
from segstream.cli.report.html import data_url, one_byte, render, shrunk
from segstream.cli.report.results import ModelResults, Summary, read_json, read_models, summarize
from segstream.cli.report.text_table import best_of, percent
from segstream.colors import legend
from segstream.model.evaluation.metrics import EvalResult
from segstream.shards.errors import DataError
from segstream.shards.format.reader import manifest_of
from segstream.shards.schema import shown
from segstream.shards.storage.base import below
from segstream.shards.taxonomy import load_taxonomy

NUM_CONFUSIONS = 5  # told in words beside a confusion matrix
MAX_SIDE = 480  # pixels of an inlined picture's longer side: a page of a few MB
AGAIN, DIAGONAL = "score it again", "as sure as right"
MAX_POINTS = 240  # of a curve in the page
ADVICE = "evaluate the model again"
WORST = "*/worst-*/worst.json"  # below a model's pictures

Curve = Sequence[tuple[float, float]]
"""(step, value) by rising step."""


def make_report(
    *, evals: Path, pictures: Path, confusion: Path, metrics: Path, runs: Path, ensembles: Path
) -> tuple[Summary, str]:
    """Read what `train` and `eval` left behind.

    Args:
        evals: folder of result files, MODEL.json; those models are shown.
        pictures: of `eval --pictures`, MODEL/DATASET/.
        confusion: of `eval --confusion`, MODEL/; may be missing.
        metrics: of `eval --metrics`, MODEL.speed.json; may be missing.
        runs: folder of run folders.
        ensembles: folder of folders that `ensemble --score` made; may be missing.

    Returns:
        The summary, and the page as one string of HTML.

    Raises:
        DataError: results are missing, damaged, or do not belong together, or jinja2 (extra `report`) is not installed.
    """
    models = {m.name: m.by_dataset() for m in read_models(evals)}
    metadata = {name: read_json(runs / name / "run.json", "train that model again") for name in models}
    logs = {name: runs / name / "dvclive" / "plots" / "metrics" for name in models}
    mixes = {
        below(run["recipe"]["data"]["shards"], mix["dataset"], split): mix
        for run in metadata.values()
        for mix in run["data"]["mix"]
        for split in run["data"]["split"].split("+")
    }
    summary = summarize(
        [ModelResults(name=name, results=tuple(found.values())) for name, found in models.items()],
        data={mix["dataset"]: mix["manifest"] for mix in mixes.values()},
    )
    ranked = [name for name, _ in summary.rows()]
    results = {d: {name: models[name][d] for name in ranked if d in models[name]} for d in summary.datasets}
    held_out = {r.dataset: r.url for found in models.values() for r in found.values() if r.url}
    charts, names = _charts(logs)
    speeds = [(name, *_speed(log, metrics / f"{name}.speed.json")) for name, log in logs.items()]
    crops = {run["recipe"]["train"]["steps"] * run["recipe"]["loader"]["batch"] for run in metadata.values()}
    page = render(
        "report.html",
        percent=percent,
        summary=summary,
        best=best_of(values for _, values in summary.rows()),
        budgets=sorted(crops),
        galleries=[
            _gallery(dataset, next(iter(found.values())), {name: pictures / name / dataset for name in ranked})
            for dataset, found in results.items()
        ],
        worst=[(f.parts[-3], n, worst_images(f)) for n in ranked for f in sorted((pictures / n).glob(WORST))],
        results=results,
        matrices=[
            (name, *read_confusion(path)) for name in models for path in sorted((confusion / name).glob("*.json"))
        ],
        calibrations=[_calibration(path, ensembles) for path in sorted(ensembles.rglob("score.json"))],
        charts=charts,
        curves=names,
        speeds=[row for row in speeds if not row[1] is row[3] is None],
        data=[("training", manifest_of(u)) for u in sorted(mixes)]
        + [("held out", manifest_of(u)) for u in held_out.values()],
        run=next(iter(metadata.values())),
    )
    return summary, page


def read_confusion(path: Path) -> tuple[str, str, list[tuple[str, str, float]]]:
    """A confusion matrix as `eval --confusion` writes it.

    Returns:
        Dataset and how it was evaluated, in words; the heat map as a `data:` URL; the most frequent confusions as
        (label, prediction, share of the label's pixels), the largest first.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        pixels = np.array(content["pixels"], np.int64)
        values, rows, columns = shares(pixels, content["classes"], content["counted"])
        side, scales = content.get("side") or content["short_side"] or "native", content["scales"]
        sets = " in ".join(dict.fromkeys([content["dataset"], content["taxonomy"]]))
        about = f"{sets}, short side {side}, {len(scales)} scale{'s' if len(scales) > 1 else ''}"
        picture = data_url(Image.fromarray(plot(values, rows, columns)).quantize(64), "PNG", optimize=True)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataError(f"{path}: not a confusion matrix ({error}); {ADVICE}") from error
    found = [
        (rows[i], columns[j], float(values[i, j]))
        for i, j in zip(*np.nonzero(values), strict=True)
        if columns[j] not in (rows[i], OTHERS)
    ]
    return about, picture, sorted(found, key=lambda item: -item[2])[:NUM_CONFUSIONS]


def worst_images(path: Path) -> list[tuple[str, float, dict[str, str]]]:
    """The images of lowest IoU as `eval --worst` leaves them: key, mean IoU, pictures as `data:` URLs.

    Raises:
        DataError: the file, or a picture beside it, is missing or damaged.
    """
    found = read_json(path, ADVICE)
    if not isinstance(found, dict) or not all(isinstance(miou, float) for miou in found.values()):
        raise DataError(f"{path}: found {shown(found)}, not keys with their mIoU; {ADVICE}")
    stems = [f"{path.parent}/{n:03}_" for n in range(len(found))]
    labels = [{kind: inline_label(Path(f"{stem}{kind}.png")) for kind in ("label", "pred", "error")} for stem in stems]
    photos = [{"image": inline_photo(Path(f"{stem}image.jpg"))} for stem in stems]
    return [(*item, photo | of_image) for item, photo, of_image in zip(found.items(), photos, labels, strict=True)]


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


def _charts(logs: Mapping[str, Path]) -> tuple[list[tuple[str, str]], list[str]]:
    """(title, SVG) of what runs logged, and the runs in the order of their colours, the same in all charts."""
    validated = sorted({path.parent.name for log in logs.values() for path in log.glob("val/*/miou.tsv")})
    wanted = [("Training loss", "training loss", "loss.tsv")]
    wanted += [(f"Validation on {name}", "mIoU (0 to 1)", f"val/{name}/miou.tsv") for name in validated]
    wanted += [("Learning rate", "learning rate", "lr.tsv")]
    curves = [{n: read_curve(log / file) for n, log in logs.items() if (log / file).is_file()} for _, _, file in wanted]
    names = sorted({name for of_chart in curves for name in of_chart})
    drawn = [
        (title, svg)
        for (title, y_label, _), of_chart in zip(wanted, curves, strict=True)
        if (svg := line_chart({n: of_chart.get(n, ()) for n in names}, x_label="step", y_label=y_label))
    ]
    return drawn, names


def _calibration(path: Path, folder: Path) -> tuple[str, dict[str, Any], str]:
    """Of scores their folder's name, what they say of each subset, and the reliability diagram of all, an SVG."""
    try:
        rows = {name: row for name, row in read_json(path, AGAIN)["subsets"].items() if "reliability" in row}
        lines = {name: [(float(x), float(y)) for x, y, _ in row["reliability"]] for name, row in rows.items()}
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: not what `ensemble --score` writes ({error}); {AGAIN}") from error
    chart = line_chart(lines | {DIAGONAL: [(0.0, 0.0), (1.0, 1.0)]}, x_label="confidence", y_label="accuracy")
    return path.parent.relative_to(folder).as_posix(), rows, chart


def _speed(log: Path, metrics: Path) -> list[float | None]:
    """Crops/s, the share of a step spent waiting for data, images/s: each a median, or None where it is not known."""
    files = [log / "crops_per_s.tsv", log / "data_wait.tsv"]
    columns = [[y for _, y in read_curve(file)] if file.is_file() else [] for file in files]
    columns.append([*read_json(metrics).values()] if metrics.is_file() else [])
    return [statistics.median(values) if values else None for values in columns]


def _gallery(dataset: str, result: EvalResult, folders: Mapping[str, Path]) -> dict[str, Any]:
    """Samples by the pictures of the first model; `eval` draws the same ones for every model."""
    folders = {name: folder for name, folder in folders.items() if folder.is_dir()}
    classes = load_taxonomy("universal").classes if result.taxonomy == "universal" else [c.name for c in result.classes]
    rows, colored = [], []
    for photo in sorted(next(iter(folders.values())).glob("*_image.jpg")) if folders else ():
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
        raise DataError(f"{path}: not a readable picture ({error}); {ADVICE}") from error


def read_curve(path: Path) -> Curve:
    """Read a curve as dvclive writes it: tab-separated, a header with `step`, the value in the last column.

    Raises:
        DataError: the file is missing, has no `step` column, or holds something else than numbers.
    """
    try:
        header, *lines = path.read_text(encoding="utf-8").splitlines()
        step = header.split("\t").index("step")
        points = [(float(fields[step]), float(fields[-1])) for fields in (line.split("\t") for line in lines)]
    except (OSError, ValueError, IndexError) as error:
        raise DataError(f"{path}: not a training curve ({error}); train the model again or leave it out") from error
    return [p for p in points if math.isfinite(p[1])]


def thin(points: Curve, most: int = MAX_POINTS) -> Curve:
    """At most `most` points: means of equal groups of neighbours, so that noise is averaged and no peak invented."""
    if len(points) <= most:
        return points
    size = math.ceil(len(points) / most)
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return [(sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups]


def ticks(low: float, high: float, about: int = 6) -> list[float]:
    """Round numbers within [low, high], about `about` of them: 1, 2 or 5 times a power of ten apart.

    Raises:
        ValueError: the interval is empty.
    """
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * f for f in (1, 2, 5, 10) if power * f >= rough * (1 - 1e-9))
    return [i * step for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def line_chart(curves: Mapping[str, Curve], *, x_label: str, y_label: str) -> str:
    """An SVG element with axes, grid and one path per curve; path `i` has the classes `line` and
    `c{i}` (modulo 8, as many as the style sheet has).

    Colours, text size and dark mode are the page's business (CSS). The y axis begins at 0.

    Returns:
        "" if no curve has a point.

    Raises:
        DataError: jinja2 (extra `report`) is not installed.
    """
    lines = [(name, thin(points)) for name, points in curves.items()]
    points = [p for _, line in lines for p in line]
    if not points:
        return ""
    x_low, x_high = min(x for x, _ in points), max(x for x, _ in points)
    y_low, y_high = min(0.0, *(y for _, y in points)), max(y for _, y in points)
    x_high, y_high = max(x_high, x_low + 1), y_high if y_high > y_low else y_low + 1
    bounds = {"x_low": x_low, "x_high": x_high, "y_low": y_low, "y_high": y_high}
    return render("chart.svg", x_label=x_label, y_label=y_label, lines=lines, ticks=ticks, **bounds)
