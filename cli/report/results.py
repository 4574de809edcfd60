"""Results of evaluations: read from what `eval` wrote, checked that they belong together, summed up by model."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from segstream.cli.report.text_table import HMEAN, Format, csv_text, percent, text_table
from segstream.model.evaluation.metrics import EvalResult, harmonic_mean
from segstream.shards.errors import DataError
from segstream.shards.schema import parse

ALIKE = ("taxonomy", "regime", "relabeled", "rule", "scales", "manifest")  # in results that can stand for one another


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelResults:
    """Everything one model was evaluated on."""

    name: str
    results: tuple[EvalResult, ...]

    def by_dataset(self) -> dict[str, EvalResult]:
        """The one result on each dataset that stands for the model: that of the side at which it did best.

        Raises:
            DataError: two results differ in something else than the side.
        """
        chosen: dict[str, EvalResult] = {}
        sides: set[tuple[str, str]] = set()
        for result in self.results:
            known = chosen.setdefault(result.dataset, result)
            differs = [name for name in ALIKE if getattr(known, name) != getattr(result, name)]
            if differs or (result.dataset, result.side) in sides:
                what = f", of different {' and '.join(differs)}" if differs else ""
                raise DataError(
                    f"{self.name}: two results on {result.dataset}{what}; keep one of them, or choose with --table, "
                    f"--at and --scales"
                )
            sides.add((result.dataset, result.side))
            if result.miou > known.miou:
                chosen[result.dataset] = result
        return chosen


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSummary:
    """mIoU by held-out dataset, in 0..1, and their harmonic mean (None if a dataset is missing)."""

    heldout: dict[str, float]
    hmean: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What `results/summary.json` holds: models side by side."""

    models: dict[str, ModelSummary]
    seed: int
    data: dict[str, str]
    """Dataset -> digest of its manifest."""

    @property
    def datasets(self) -> tuple[str, ...]:
        """Held-out datasets, in the order in which models name them."""
        return tuple(dict.fromkeys(d for model in self.models.values() for d in model.heldout))

    @property
    def columns(self) -> tuple[str, ...]:
        """Of the table: `datasets` and `HMEAN`."""
        return (*self.datasets, HMEAN)

    def rows(self) -> list[tuple[str, list[float | None]]]:
        """Of the table, the best harmonic mean first; models without one last; ties by name."""
        ranked = sorted(self.models.items(), key=lambda item: (1 if item[1].hmean is None else -item[1].hmean, item[0]))
        return [(name, [*map(model.heldout.get, self.datasets), model.hmean]) for name, model in ranked]

    def render(self, form: Format, *, bold: bool = False) -> str:
        """The table; `csv` and `json` give unrounded values in 0..1.

        Args:
            bold: with `text`, also print the best in bold (for a terminal).
        """
        if form == "json":
            return json.dumps(asdict(self), indent=2, allow_nan=False)
        if form == "csv":
            header = ("model", *self.datasets, "hmean")
            return csv_text(header, [(name, *values) for name, values in self.rows()])
        rows = [(name, [(value, percent(value)) for value in values]) for name, values in self.rows()]
        foot = "mIoU in percent; h. mean: harmonic mean over the datasets; *: best"
        return text_table(form, self.columns, rows, bold=bold, foot=foot)


def summarize(models: Sequence[ModelResults], *, data: Mapping[str, str] | None = None) -> Summary:
    """Put models side by side.

    Args:
        data: digests of the manifests of further datasets that were used.

    Raises:
        DataError: models differ in their seed or in the version of a dataset, so that they are no fair comparison, or
            one has two results for one dataset that are not the same at another shorter side.
    """
    seeds = {model.name: result.seed for model in models for result in model.results if result.seed is not None}
    if len(set(seeds.values())) > 1:
        raise DataError(f"models of different seeds side by side: {seeds}; evaluate runs of one seed together")
    digests = dict(data or {}) | manifests(models)
    datasets = list(dict.fromkeys(result.dataset for model in models for result in model.results))
    summaries = {}
    for model in models:
        found = {dataset: result.miou for dataset, result in model.by_dataset().items()}
        heldout = {name: found[name] for name in datasets if name in found}
        mean = harmonic_mean(heldout.values()) if len(heldout) == len(datasets) else None
        summaries[model.name] = ModelSummary(heldout=heldout, hmean=mean)
    return Summary(models=summaries, seed=next(iter(seeds.values()), 0), data=digests)


def manifests(models: Sequence[ModelResults]) -> dict[str, str]:
    """By dataset, the digest of the shard set that models were evaluated on.

    Raises:
        DataError: two models were evaluated on different data under one name.
    """
    found: dict[str, str] = {}
    for model in models:
        for result in model.results:
            if result.manifest is not None and found.setdefault(result.dataset, result.manifest) != result.manifest:
                raise DataError(f"{model.name}: was judged on another version of {result.dataset}; evaluate it again")
    return found


def read_summary(path: Path) -> Summary:
    """Read `results/summary.json`; what later versions add is left out.

    Raises:
        DataError: the file is missing, damaged, or lacks a key.
    """
    values = _known(Summary, read_json(path))
    if isinstance(values, dict) and isinstance(values.get("models"), dict):
        values["models"] = {name: _known(ModelSummary, model) for name, model in values["models"].items()}
    return parse(Summary, values, at=str(path))


def read_any(path: Path) -> tuple[ModelResults, ...]:
    """Results from one file, from a folder of MODEL.json files, or from a run folder.

    A run folder is one that holds `eval.json` or a folder `eval` of result files (or both): all are of one model, which
    is named by the folder.

    Raises:
        DataError: there is no result at that place.
    """
    if path.is_file():
        return (ModelResults(name=path.stem, results=read_results(path)),)
    if files := [*path.glob("eval.json"), *sorted(path.glob("eval/*.json"))]:
        return (ModelResults(name=path.resolve().name, results=tuple(r for file in files for r in read_results(file))),)
    return read_models(path)


def read_models(folder: Path) -> tuple[ModelResults, ...]:
    """Read every FOLDER/MODEL.json, by name.

    Raises:
        DataError: there is none, or one is not what `segstream eval --json` writes.
    """
    files = sorted(folder.glob("*.json"))
    if not files:
        raise DataError(f"{folder}: no results (MODEL.json) in it; write some with `segstream eval ... --out`")
    return tuple(ModelResults(name=file.stem, results=read_results(file)) for file in files)


def read_results(path: Path) -> tuple[EvalResult, ...]:
    """Read one file of `segstream eval --json`.

    Raises:
        DataError: the file is missing, damaged, or lacks a key.
    """
    rows = read_json(path)
    if not isinstance(rows, list):
        raise DataError(f"{path}: expected a list, one entry per dataset; write it with `segstream eval ... --out`")
    return tuple(EvalResult.from_json(row, at=f"{path}[{i}]") for i, row in enumerate(rows))


def read_json(path: Path, advice: str = "write it again") -> Any:
    """The values of a JSON file; `advice` is what to do about a damaged one.

    Raises:
        DataError: it is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); {advice}") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line {error.lineno}: not valid JSON ({error.msg}); {advice}") from error


def _known(cls: type, values: Any) -> Any:
    """Only the keys that this version knows."""
    return {f.name: values[f.name] for f in fields(cls) if f.name in values} if isinstance(values, dict) else values
