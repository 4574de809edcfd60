"""A grid file: models x datasets x shorter sides x scales, and the evaluations that it stands for."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from segstream.cli.jobs.eval_job import Cell
from segstream.shards.errors import DataError
from segstream.shards.format.reader import open_shards
from segstream.shards.schema import parse

RECIPE = "recipe"  # in paths and tables: what the checkpoint's recipe says
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_OURS = frozenset({"data", "short-side", "scales", "out", "json", "grid", "metrics", "pictures", "confusion"})

Value = bool | int | float | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A grid file. The cells are all combinations of the first four."""

    models: dict[str, Path]
    """Checkpoints, by the names that results will carry."""
    data: tuple[str, ...]
    """URLs of shard sets."""
    short_sides: tuple[int | str, ...] = ()
    """Each as `eval --short-side` takes it; none: the recipe's."""
    scales: tuple[str | tuple[float, ...], ...] = ()
    """Each as `eval --scales` takes it; none: the recipe's."""
    options: dict[str, Value] = field(default_factory=dict)
    """Further options of `eval` for every cell: `crop: 473`, `flip: false`."""
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
                raise DataError(f"options.{key}: set by the grid for each cell; leave it out")


def read_grid(path: Path) -> Grid:
    """Read a grid file.

    Raises:
        DataError: the file is missing, no YAML, or has an unknown key or a value of the wrong kind.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); check the path") from error
    except yaml.YAMLError as error:
        raise DataError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from error
    return parse(Grid, values, at=str(path))


def plan(grid: Grid, out: Path) -> list[Cell]:
    """The cells of a grid; results go to `out/MODEL/DATASET-SPLIT/SHORT_SIDE/SCALES.json`.

    Every checkpoint and manifest is read, so that what is missing shows before work begins.

    Raises:
        DataError: a checkpoint or shard set is missing, or two sets are of one dataset and split.
    """
    digests = {name: _sha256(path) for name, path in grid.models.items()}
    sets = {url: _set(url) for url in grid.data}
    twice = [name for name, count in Counter(name for name, _ in sets.values()).items() if count > 1]
    if twice or len(sets) < len(grid.data):
        raise DataError(f"data: {twice or 'a URL'} is there twice; judge each version in a grid of its own")
    more = [word for key, value in grid.options.items() for word in _option(key, value)]
    cells = []
    for model, url, side, scales in product(grid.models, grid.data, grid.short_sides or ("",), grid.scales or ("",)):
        dataset, manifest = sets[url]
        side, scales = str(side), scales if isinstance(scales, str) else ",".join(map(str, scales))
        how = [*(("--short-side", side) if side else ()), *(("--scales", scales) if scales else ()), *more]
        identity = {"segstream": version("segstream"), "checkpoint": digests[model], "manifest": manifest, "how": how}
        folder = out.resolve() / model / dataset / (side or RECIPE)
        cells.append(
            Cell(
                model=model,
                dataset=dataset,
                short_side=side,
                scales=scales,
                args=("eval", str(grid.models[model].resolve()), "--data", _anywhere(url), *how),
                identity=identity,
                result=folder / f"{(scales or RECIPE).replace(',', '-')}.json",
            )
        )
    return cells


def _option(key: str, value: Value) -> list[str]:
    name = key.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    return [f"--{name}", str(value)]


def _set(url: str) -> tuple[str, str]:
    with open_shards(url) as shards:
        return f"{shards.manifest.dataset}-{shards.manifest.split}", shards.manifest.digest


def _anywhere(url: str) -> str:
    """A path as processes with another working folder need it; other URLs as they are."""
    return url if "://" in url else str(Path(url).resolve())


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the checkpoint's path") from error
