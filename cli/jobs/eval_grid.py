"""A grid of evaluations: models x datasets x shorter sides x scales, every one of them brought to an end.

A file says what to evaluate (`read_grid`); `plan` makes a job of each combination; `run_jobs` runs them, each in a
process of its own that may fail alone, and tries again what failed.
"""

import json as jsonlib
import re
import signal
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any, Literal

import typer

from segstream.cli.console import Advance, note, print_json, print_table, progress
from segstream.cli.jobs import runners
from segstream.cli.jobs.eval_job import EvalJob, JobOutcome, write_jobs
from segstream.cli.report.text_table import percent
from segstream.model.networks.weights import file_sha256
from segstream.shards.errors import DataError
from segstream.shards.files import write_text
from segstream.shards.format.reader import manifest_of
from segstream.shards.schema import parse, read_yaml

RECIPE = "recipe"  # in paths and tables: what the checkpoint's recipe says
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_OURS = frozenset({"data", "short-side", "scales", "out", "json", "grid", "metrics", "pictures", "confusion"})

Value = bool | int | float | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A grid file. It stands for all combinations of the first four."""

    models: dict[str, Path]
    """Checkpoints, by the names that results will carry."""
    data: tuple[str, ...]
    """URLs of shard sets."""
    short_sides: tuple[int | str, ...] = ()
    """Each as `eval --short-side` takes it; none: the recipe's."""
    scales: tuple[str | tuple[float, ...], ...] = ()
    """Each as `eval --scales` takes it; none: the recipe's."""
    options: dict[str, Value] = field(default_factory=dict)
    """Further options of `eval` for every evaluation: `crop: 473`, `flip: false`."""
    ray: dict[str, Any] = field(default_factory=dict)
    """Of every Ray task: `num_cpus`, `num_gpus`, `resources` ..."""
    slurm: dict[str, Any] = field(default_factory=dict)
    """Of sbatch, with underscores: `partition`, `time`, `gpus_per_node` ..."""

    def __post_init__(self) -> None:
        for name, given in (("models", self.models), ("data", self.data)):
            if not given:
                raise DataError(f"{name}: empty; name at least one")
        for name in self.models:
            if not _NAME.fullmatch(name):
                raise DataError(f"models.{name}: becomes a file name; use letters, digits, '.', '_' and '-'")
        for key in self.options:
            if key.replace("_", "-") in _OURS:
                raise DataError(f"options.{key}: set by the grid for each evaluation; leave it out")


def read_grid(path: Path) -> Grid:
    """Read a grid file.

    Raises:
        DataError: the file is missing, no YAML, or has an unknown key or a value of the wrong kind.
    """
    return parse(Grid, read_yaml(path), at=str(path))


def plan(grid: Grid, out: Path) -> list[EvalJob]:
    """The evaluations of a grid; results go to `out/MODEL/DATASET-SPLIT/SHORT_SIDE/SCALES.json`.

    Every checkpoint and manifest is read, so that what is missing shows before work begins.

    Raises:
        DataError: a checkpoint or shard set is missing, or two sets are of one dataset and split.
    """
    digests = {name: file_sha256(path) for name, path in grid.models.items()}
    sets = {url: manifest_of(url) for url in grid.data}
    names = {url: f"{manifest.dataset}-{manifest.split}" for url, manifest in sets.items()}
    twice = [name for name, count in Counter(names.values()).items() if count > 1]
    if twice or len(sets) < len(grid.data):
        raise DataError(f"data: {twice or 'a URL'} is there twice; evaluate each version in a grid of its own")
    more = [word for key, value in grid.options.items() for word in _option(key, value)]
    jobs = []
    for model, url, side, scales in product(grid.models, grid.data, grid.short_sides or ("",), grid.scales or ("",)):
        side, scales = str(side), scales if isinstance(scales, str) else ",".join(map(str, scales))
        how = [*(("--short-side", side) if side else ()), *(("--scales", scales) if scales else ()), *more]
        location = url if "://" in url else str(Path(url).resolve())  # processes may have another working folder
        identity = {"segstream": version("segstream"), "checkpoint": digests[model], "manifest": sets[url].digest}
        folder = out.resolve() / model / names[url] / (side or RECIPE)
        jobs.append(
            EvalJob(
                model=model,
                dataset=names[url],
                short_side=side,
                scales=scales,
                args=("eval", str(grid.models[model].resolve()), "--data", location, *how),
                identity=identity | {"how": how},
                result=folder / f"{scales.replace(',', '-') or RECIPE}.json",
            )
        )
    return jobs


def evaluate_grid(
    path: Path,
    out: Path,
    *,
    runner: Literal["local", "ray", "slurm"],
    at_a_time: int | None,
    retries: int,
    script: bool,
    json: bool,
) -> bool:
    """`segstream eval --grid`: plan, run, write, print.

    Args:
        at_a_time: evaluations side by side (local, slurm); None: as many as there are GPUs, or as SLURM sees fit.
        script: print a SLURM array script instead of running.

    Returns:
        Whether every evaluation has its result.

    Raises:
        DataError: the grid cannot be planned, the runner is not installed, or results cannot be written.
    """
    grid = read_grid(path)
    jobs = plan(grid, out)
    own = out.resolve() / ".grid"  # what the runners need
    if script:
        pending = [job for job in jobs if not job.finished()]
        if not pending:
            raise DataError(f"{out}: every evaluation is finished; there is nothing to submit")
        cells, count = own / "cells.json", len(pending)
        write_jobs(cells, pending)
        typer.echo(runners.array_script(cells, count, at_a_time or count, grid.slurm), nl=False)
        return True
    if runner == "ray":
        run: runners.Runner = partial(runners.run_on_ray, options=grid.ray)
    elif runner == "slurm":
        run = partial(runners.run_on_slurm, executor=runners.slurm_executor(own, at_a_time, grid.slurm))
    else:
        run = partial(runners.run_locally, at_a_time=at_a_time or max(1, len(runners.gpus_here())))
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: with the processes it started
    try:
        with progress(f"grid {path.stem}", "evaluations") as report:
            outcomes = run_jobs(jobs, run, retries=retries, report=report)
    finally:
        signal.signal(signal.SIGTERM, before)
    rows = write_models(out, outcomes)
    if json:
        print_json([_as_dict(outcome, rows[outcome.job.result]) for outcome in outcomes])
    else:
        header = ("model", "dataset", "short side", "scales", "classes", "mIoU", "state")
        print_table(header, [line for outcome in outcomes for line in _lines(outcome, rows[outcome.job.result])])
    return all(outcome.error is None for outcome in outcomes)


def run_jobs(jobs: Sequence[EvalJob], runner: runners.Runner, *, retries: int, report: Advance) -> list[JobOutcome]:
    """Bring every job that is not finished to an end; failed ones again, `retries` times, after all others.

    Returns:
        An outcome for each job, in their order.
    """
    outcomes = {job.result: JobOutcome(job=job, tries=0) for job in jobs if job.finished()}
    pending = [job for job in jobs if job.result not in outcomes]
    for job in pending:
        if changed := job.changed():
            note(f"{job.name}: was evaluated with another {' and '.join(changed)}; again")
    report(len(outcomes), len(jobs))
    for attempt in range(1, retries + 2):
        for outcome in runner(pending) if pending else ():
            final = outcome.error is None or outcome.hopeless or attempt > retries
            if outcome.error is not None:
                note(f"{outcome.job.name}: failed ({outcome.error}){'' if final else '; will be tried again'}")
            if final:
                outcomes[outcome.job.result] = replace(outcome, tries=attempt)
                report(sum(o.error is None for o in outcomes.values()), len(jobs))
        pending = [job for job in pending if job.result not in outcomes]
    return [outcomes[job.result] for job in jobs]


def write_models(out: Path, outcomes: Sequence[JobOutcome]) -> dict[Path, list[dict[str, Any]]]:
    """`out/MODEL.json` for `results` and `report`: what all evaluations of a model that have a result say.

    Of results that differ in the shorter side alone, the best is marked `max`.

    Returns:
        Result file -> what stands in it; [] where the evaluation failed.

    Raises:
        DataError: a file cannot be written.
    """
    found: dict[Path, list[dict[str, Any]]] = {o.job.result: [] for o in outcomes}
    found |= {o.job.result: jsonlib.loads(o.job.result.read_text("utf-8")) for o in outcomes if o.error is None}
    for model in dict.fromkeys(outcome.job.model for outcome in outcomes):
        rows = [row for outcome in outcomes if outcome.job.model == model for row in found[outcome.job.result]]
        alike: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            row["max"] = False
            key = jsonlib.dumps([row.get(name) for name in ("url", "taxonomy", "relabeled", "scales")])
            alike.setdefault(key, []).append(row)
        for group in alike.values():
            max(group, key=lambda row: row["miou"])["max"] = True  # of equal ones the first
        write_text(out / f"{model}.json", jsonlib.dumps(rows, indent=2, allow_nan=False) + "\n")
    return found


def _option(key: str, value: Value) -> list[str]:
    name = key.replace("_", "-")
    return [f"--{name}" if value else f"--no-{name}"] if isinstance(value, bool) else [f"--{name}", str(value)]


def _as_dict(outcome: JobOutcome, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """An element of `segstream eval --grid --json`."""
    what = {name: getattr(outcome.job, name) for name in ("model", "dataset", "short_side", "scales")}
    how = {name: getattr(outcome, name) for name in ("state", "tries", "seconds", "error")}
    return what | how | {"result": str(outcome.job.result), "miou": {row["taxonomy"]: row["miou"] for row in rows}}


def _lines(outcome: JobOutcome, rows: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    job = outcome.job
    names = (job.model, job.dataset, job.short_side or RECIPE, job.scales or RECIPE)
    state = outcome.state if outcome.tries < 2 else f"{outcome.state}, try {outcome.tries}"
    return [(*names, row["taxonomy"], percent(row["miou"]), state) for row in rows or [{"taxonomy": "-", "miou": None}]]
