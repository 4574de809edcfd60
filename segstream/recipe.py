"""A recipe: one YAML file plus KEY=VALUE overrides, turned once into frozen dataclasses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from segstream.model.config import LENGTHS, InferConfig, ModelConfig, TrainConfig, at_least_1
from segstream.pipeline.config import AugmentConfig, DataConfig, LoaderConfig, shares
from segstream.shards.errors import DataError, UsageError, did_you_mean
from segstream.shards.schema import parse, parse_yaml, read_yaml

RECIPES = Path(__file__).resolve().parent / "recipes"
# Replaced, not merged: a base's datasets are not also yours.
WHOLE = {"data.mix", "data.class_uniform", "model.options", "train.epochs"}
SCORES = ("miou", "macc", "acc")
SIDES = ("short_side", "long_side")
INSTEAD: dict[str, tuple[str, ...]] = {f"train.{name}": LENGTHS for name in LENGTHS}
INSTEAD |= {f"{section}.{name}": SIDES for section in ("augment", "eval", "validate") for name in SIDES}
"""Who gives the one does not mean a base's other, nor a default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidateConfig:
    """What to look at while a run trains, every `train.validate_every` steps and after the last; changes no weight."""

    data: tuple[str, ...] = ()
    """Shard sets with labels (URLs as of `eval`), scored by mIoU; none: no scores."""
    limit: int | None = None
    """Images of each set, evenly spread over it; None: all."""
    short_side: int | None = None
    """Resize images to this side first; None: by `long_side`, or as `eval` says."""
    long_side: int | None = None
    """Longer side instead."""
    pictures: int = 4
    """Training crops drawn with label and prediction; 0: none."""
    best: str | None = None
    """Keep the weights of the step that scores highest, in `best.pt`: by `miou`, `macc` or `acc`, the mean over all
    sets, or of one of them: `camvid-11/miou`."""

    def __post_init__(self) -> None:
        at_least_1(self, "limit", "short_side", "long_side")
        if not 0 <= self.pictures <= 64:
            raise DataError(f"pictures: {self.pictures}; must be from 0 to 64")
        if self.best is not None and self.best.rpartition("/")[2] not in SCORES:
            raise DataError(f"best: {self.best}; write {', '.join(SCORES)}, or DATASET/miou for one set")
        if len(set(self.data)) < len(self.data):
            raise DataError(f"data: {list(self.data)}; a set is named twice")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that defines a training run, and how its model is evaluated."""

    name: str
    seed: int = 0
    data: DataConfig
    augment: AugmentConfig
    loader: LoaderConfig
    model: ModelConfig
    train: TrainConfig
    """Its length in steps, or in epochs as long as nobody has looked at the data; see `resolve`."""
    eval: InferConfig
    validate: ValidateConfig = field(default_factory=ValidateConfig)

    def __post_init__(self) -> None:
        if self.validate.best and not (self.validate.data and self.train.validate_every):
            raise DataError(
                f"validate.best: {self.validate.best}: it is never computed; set validate.data and train.validate_every"
            )
        for name in self.train.epochs if isinstance(self.train.epochs, dict) else ():
            if name not in self.data.mix:
                raise DataError(f"train.epochs: {name!r} is not in data.mix; {did_you_mean(name, self.data.mix)}")

    @property
    def steps(self) -> int:
        """Optimiser updates of the whole run.

        Raises:
            DataError: the length is in epochs, and nobody has looked at the data.
        """
        if self.train.steps is None:
            raise DataError(f"{self.name}: train.epochs: how many steps they are is known with the data; see `resolve`")
        return self.train.steps

    @property
    def crops_per_dataset(self) -> int:
        """Crops that a dataset of the mix gives to the run, on average over the mix, rounded down."""
        return self.steps * self.loader.batch // len(self.data.mix)


def load_recipe(name_or_path: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe by name (`union-universal`) or path, with `extends` resolved and overrides applied.

    Args:
        overrides: `KEY=VALUE` with a dotted key, e.g. `train.lr=0.05`; values are read as YAML.

    Raises:
        UsageError: no such recipe, an override that is not `KEY=VALUE`, or one that a sound file cannot take.
        DataError: the file has unknown or missing keys, or values of the wrong type.
    """
    return resolve(read_recipe(name_or_path, overrides))


def read_recipe(name_or_path: str, overrides: Sequence[str] = ()) -> Recipe:
    """`load_recipe` with the length as it was given, in steps, crops or epochs."""
    path = find_recipe(name_or_path)
    try:
        return _parse(path, overrides)
    except DataError as error:
        if isinstance(error, UsageError) or not overrides:
            raise
        _parse(path)  # raises if it is the file that has to be mended
        raise UsageError(str(error).removeprefix(str(path)).lstrip(".: ")) from error


def resolve(recipe: Recipe, counts: Mapping[str, int] | None = None) -> Recipe:
    """The same recipe with its length in steps.

    `train.crops` counts crops of each dataset, as MSeg does. A step holds batch / D of each of D datasets with equal
    shares, so a run has floor(crops x D / batch) steps. With other shares that many steps still make crops x D crops in
    all: each dataset gives `crops` on average, and shares move crops between datasets without changing the length.

    `train.epochs` counts samples: of n in the mix epochs x n crops are made in all, or, of one dataset with n samples,
    epochs x n of that dataset, which has `share` of all. So floor(epochs x n / share / batch) steps, share 1 for a mix.

    Args:
        counts: samples by dataset. Without those of the datasets that epochs count, a length in epochs stays as it is.

    Raises:
        DataError: the crops or epochs do not fill one batch.
    """
    train, mix, batch = recipe.train, recipe.data.mix, recipe.loader.batch
    epoch_steps = train.epoch_steps
    if train.crops is not None:
        steps, given = train.crops * len(mix) // batch, f"crops: {train.crops} of each of {len(mix)} datasets"
    elif train.epochs is not None:
        of = train.epochs if isinstance(train.epochs, dict) else dict.fromkeys(mix, train.epochs)
        if counts is None or not counts.keys() >= of.keys():
            return recipe
        samples, times = sum(counts[name] for name in of), next(iter(of.values()))
        epoch = samples / sum(shares(mix)[name] for name in of) / batch
        steps, given = int(Fraction(str(times)) * epoch), f"epochs: {times:g} of {samples} samples"
        epoch_steps = float(epoch) if train.schedule_per == "epoch" else None
    else:
        return recipe
    if steps < 1:
        raise DataError(
            f"{recipe.name}: train.{given} do not fill a batch of {batch}; ask for more, or a smaller loader.batch"
        )
    settled = replace(train, steps=steps, crops=None, epochs=None, epoch_steps=epoch_steps)
    return replace(recipe, train=settled)


def find_recipe(name_or_path: str) -> Path:
    """The file of a recipe given by path, or by its name in `recipes/`.

    Raises:
        UsageError: neither exists.
    """
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise UsageError(f"recipe {name_or_path}: no such file")
        return path
    for folder in (Path("recipes"), RECIPES):
        if (folder / f"{name_or_path}.yaml").is_file():
            return folder / f"{name_or_path}.yaml"
    raise UsageError(f"recipe {name_or_path!r} is unknown; {did_you_mean(name_or_path, recipe_names())}")


def recipe_names() -> list[str]:
    """Names of the recipes in `recipes/`; files that begin with `_` are bases, not recipes."""
    files = [*Path("recipes").glob("*.yaml"), *RECIPES.glob("*.yaml")]
    return sorted({f.stem for f in files if not f.name.startswith("_")})


def _parse(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    values = _with_base(path)
    for override in overrides:
        _apply(values, override)
    return parse(Recipe, {"name": path.stem, **values}, at=str(path))


def _with_base(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    if path.resolve() in seen:
        raise UsageError(f"{path}: extends itself; remove the circle of `extends`")
    values = read_yaml(path)
    base = values.pop("extends", None)
    if base is None:
        return _merge({}, values)
    base_path = path.parent / str(base)
    if not base_path.is_file():
        raise UsageError(f"{path}.extends: no file {base_path}; give a path relative to this recipe")
    merged = _with_base(base_path, (*seen, path.resolve()))
    merged.pop("name", None)
    return _merge(merged, values)


def _merge(base: Mapping[str, Any], top: Mapping[str, Any], at: str = "") -> dict[str, Any]:
    merged = dict(base)
    for key, value in top.items():
        here = f"{at}{key}"
        if value is not None:
            merged |= {other: None for other in INSTEAD.get(here, ()) if other not in top}
        if isinstance(value, Mapping) and here not in WHOLE:
            below = merged.get(key)
            merged[key] = _merge(below if isinstance(below, Mapping) else {}, value, at=f"{here}.")
        else:
            merged[key] = value
    return merged


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UsageError(f"{override!r}: overrides are KEY=VALUE, e.g. train.lr=0.05")
    *parents, leaf = key.split(".")
    at = values
    for parent in parents:
        at = at.setdefault(parent, {})
        if not isinstance(at, dict):
            raise UsageError(f"{override!r}: {parent!r} is a value, not a section")
    try:
        value = parse_yaml(text, at=key, comments=False)
    except DataError as error:
        raise UsageError(f"{override!r}: the value is not YAML; quote it") from error
    at |= dict.fromkeys(INSTEAD.get(key, ()) if value is not None else ()) | {leaf: value}
