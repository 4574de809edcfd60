"""Results as data and as tables: what evaluations wrote, the summary of models and datasets, its renderings."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

from segstream.cli.report.text_tables import lay_out
from segstream.model.evaluation.metrics import harmonic_mean
from segstream.shards.errors import DataError
from segstream.shards.schema import parse

Format = Literal["text", "markdown", "latex", "csv", "json"]
Known = TypeVar("Known")
HMEAN = "h. mean"
FOOT = "mIoU in percent; h. mean: harmonic mean over the datasets; *: best"
ALIKE = ("taxonomy", "regime", "relabeled", "rule", "scales", "manifest")  # in results that can stand for one another


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassScore:
    """One class of one dataset: IoU in [0, 1] (None where it is not defined) and labelled pixels."""

    name: str
    iou: float | None
    pixels: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetScore:
    """One model on one dataset: an element of what `segstream eval --json` prints. Ratios are in [0, 1]."""

    dataset: str
    taxonomy: str
    miou: float
    macc: float
    acc: float
    classes: tuple[ClassScore, ...]
    images: int
    manifest: str | None = None
    url: str | None = None  # of the shard set
    seed: int | None = None  # of the model's run
    model: str | None = None  # its recipe
    regime: str | None = None  # see `cli.protocol`
    relabeled: bool = False
    rule: str = "mseg"
    short_side: int | None = None  # None: the images' own
    scales: tuple[float, ...] = (1.0,)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelResult:
    """Everything one model was judged on."""

    name: str
    scores: tuple[DatasetScore, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSummary:
    """mIoU per held-out dataset, in [0, 1], and their harmonic mean (None if a dataset is missing)."""

    heldout: dict[str, float]
    hmean: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What `results/summary.json` holds."""

    models: dict[str, ModelSummary]
    seed: int
    data: dict[str, str]

    @property
    def datasets(self) -> tuple[str, ...]:
        """Held-out datasets, in the order in which models name them."""
        return tuple(dict.fromkeys(d for model in self.models.values() for d in model.heldout))

    def ranked(self) -> tuple[tuple[str, ModelSummary], ...]:
        """Models, the best harmonic mean first; those without one last; ties by name."""
        return tuple(sorted(self.models.items(), key=lambda item: (-_or(item[1].hmean, -1.0), item[0])))

    def best(self, column: str) -> float | None:
        """The highest value of a dataset's column, or of `HMEAN`."""
        found = [value for model in self.models.values() if (value := cell(model, column)) is not None]
        return max(found, default=None)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as written to `results/summary.json`."""
        models = {name: {"heldout": dict(m.heldout), "hmean": m.hmean} for name, m in self.models.items()}
        return {"models": models, "seed": self.seed, "data": dict(self.data)}


def read_results(folder: Path) -> tuple[ModelResult, ...]:
    """Read every FOLDER/MODEL.json, by name.

    Raises:
        DataError: there is none, or one is not what `segstream eval --json` writes.
    """
    files = sorted(folder.glob("*.json"))
    if not files:
        raise DataError(f"{folder}: no results (MODEL.json) in it; write some with `segstream eval ... --out`")
    return tuple(read_result(file) for file in files)


def read_result(path: Path) -> ModelResult:
    """Read one file of `segstream eval --json`; the model is named by the file.

    Raises:
        DataError: the file is missing, damaged, or lacks a key.
    """
    rows = read_json(path)
    if not isinstance(rows, list):
        raise DataError(f"{path}: expected a list, one entry per dataset; write it with `segstream eval ... --out`")
    scores = []
    for i, row in enumerate(rows):
        at = f"{path}[{i}]"
        values = _known(DatasetScore, row, at=at)
        classes = values.get("classes", ())
        if not isinstance(classes, list):
            raise DataError(f"{at}.classes: expected a list, found {classes!r}")
        values["classes"] = [_known(ClassScore, c, at=f"{at}.classes[{j}]") for j, c in enumerate(classes)]
        scores.append(parse(DatasetScore, values, at=at))
    return ModelResult(name=path.stem, scores=tuple(scores))


def summarize(results: Sequence[ModelResult], *, heldout: Sequence[str], seed: int, data: Mapping[str, str]) -> Summary:
    """Put models side by side.

    Args:
        heldout: the datasets that count, in the order of the table's columns.
        data: digest of the manifest of every dataset that was used.

    Raises:
        DataError: a model has two results for one dataset that are not the same at another shorter side.
    """
    models = {}
    for result in results:
        found = {dataset: score.miou for dataset, score in pick(result).items()}
        row = {name: found[name] for name in heldout if name in found}
        complete = bool(heldout) and len(row) == len(heldout)
        models[result.name] = ModelSummary(
            heldout=row, hmean=float(harmonic_mean(list(row.values()))) if complete else None
        )
    return Summary(models=models, seed=seed, data=dict(data))


def pick(result: ModelResult) -> dict[str, DatasetScore]:
    """The one result on each dataset that stands for a model: that of the shorter side at which it did best.

    Raises:
        DataError: two results differ in something else than the shorter side.
    """
    chosen: dict[str, DatasetScore] = {}
    sides: set[tuple[str, int | None]] = set()
    for score in result.scores:
        known = chosen.setdefault(score.dataset, score)
        differs = [name for name in ALIKE if getattr(known, name) != getattr(score, name)]
        if differs or (score.dataset, score.short_side) in sides:
            what = f", of different {' and '.join(differs)}" if differs else ""
            raise DataError(
                f"{result.name}: two results on {score.dataset}{what}; keep one of them, or choose with --table, --at "
                f"and --scales"
            )
        sides.add((score.dataset, score.short_side))
        if score.miou > known.miou:
            chosen[score.dataset] = score
    return chosen


def read_summary(path: Path) -> Summary:
    """Read `results/summary.json`.

    Raises:
        DataError: the file is missing, damaged, or lacks a key.
    """
    values = _known(Summary, read_json(path), at=str(path))
    if isinstance(values.get("models"), dict):
        values["models"] = {
            name: _known(ModelSummary, model, at=f"{path}.models.{name}") for name, model in values["models"].items()
        }
    return parse(Summary, values, at=str(path))


def cell(model: ModelSummary, column: str) -> float | None:
    """A model's value in a dataset's column, or in that of `HMEAN`."""
    return model.hmean if column == HMEAN else model.heldout.get(column)


def render(summary: Summary, form: Format, *, bold: bool = False) -> str:
    """The table of models by held-out datasets, best first.

    `text`, `markdown` and `latex` give percent with one decimal, as such tables are printed, the best of each column
    marked (`*`, or bold); `csv` and `json` give unrounded values in [0, 1].

    Args:
        bold: with `text`, also print the best in bold (for a terminal).
    """
    if form == "json":
        return json.dumps(summary.as_dict(), indent=2, allow_nan=False)
    if form == "csv":
        return _csv(summary)
    columns = (*summary.datasets, HMEAN)
    best = {column: summary.best(column) for column in columns}
    rows = []
    for name, model in summary.ranked():
        values = {column: cell(model, column) for column in columns}
        marked = [(percent(v), v is not None and v == best[column]) for column, v in values.items()]
        rows.append((name, marked))
    return lay_out(
        form, columns, rows, bold=bold, foot="mIoU in percent; h. mean: harmonic mean over the datasets; *: best"
    )


def percent(value: float | None) -> str:
    """A ratio as percent with one decimal; a dash where there is none."""
    return "-" if value is None else f"{100 * value:.1f}"


def _csv(summary: Summary) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("model", *summary.datasets, "hmean"))
    for name, model in summary.ranked():
        values = [cell(model, column) for column in (*summary.datasets, HMEAN)]
        writer.writerow((name, *("" if value is None else repr(value) for value in values)))
    return out.getvalue().rstrip("\n")


def read_json(path: Path) -> Any:
    """The values of a JSON file.

    Raises:
        DataError: it is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); check the path") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line {error.lineno}: not valid JSON ({error.msg}); write it again") from error


def _known(cls: type[Known], values: Any, *, at: str) -> dict[str, Any]:
    """Only the keys this version knows: later versions may add some."""
    if not isinstance(values, dict):
        raise DataError(f"{at}: expected `key: value` pairs, found {values!r}")
    names = {f.name for f in fields(cls)}  # type: ignore[arg-type]
    return {key: value for key, value in values.items() if key in names}


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value
