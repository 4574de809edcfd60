"""The recipes as a table: `segstream train --list`, and the page docs/recipes.md."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import typer

from segstream.cli.console import print_json, print_table
from segstream.cli.report.published import Published, published
from segstream.cli.report.text_table import HMEAN
from segstream.pipeline.config import DataConfig
from segstream.recipe import Recipe, read_recipe, recipe_names, resolve
from segstream.shards.datasets.registry import registry

Form = Literal["text", "json", "markdown"]

TEXT = Path(__file__).with_name("recipes.md").read_text(encoding="utf-8")


def show(form: Form) -> None:
    """Print all recipes."""
    recipes = [read_recipe(name) for name in recipe_names()]
    if form == "json":
        print_json([_row(recipe) for recipe in recipes])
    elif form == "markdown":
        typer.echo(page(recipes), nl=False)
    else:
        header = ("recipe", "network", "taxonomy", "datasets", "crops", "batch", "steps", "short side", "crop")
        rows = [_row(recipe) | {"datasets": len(recipe.data.mix)} for recipe in recipes]
        keys = ("recipe", "arch", "taxonomy", "datasets", "crops", "batch", "steps", "short_side", "crop")
        print_table(header, [_words(row, keys) for row in rows])


def page(recipes: list[Recipe]) -> str:
    """docs/recipes.md: in place of every line `{{PATTERN}}` of the text a row for each recipe with such a name."""
    rows = {recipe.name: _line(recipe, published()) for recipe in recipes}

    def matching(pattern: re.Match[str]) -> str:
        return "\n".join(row for name, row in rows.items() if re.fullmatch(pattern[1], name))

    return re.sub(r"^\{\{(.+)\}\}$", matching, TEXT, flags=re.MULTILINE)


def released(data: DataConfig) -> dict[str, int]:
    """By dataset of the mix, the images of its splits in the complete release, where that is known."""
    known = {name: facts.splits for name in data.mix if (facts := registry().get(name)) is not None}
    images = {name: [found.get(split) or 0 for split in data.plain_splits(name)] for name, found in known.items()}
    return {name: sum(found) for name, found in images.items() if all(found)}


def _row(given: Recipe) -> dict[str, Any]:
    """What `--list --json` says of a recipe; `crops` are those of each dataset, as the recipe asks for them.

    A length in epochs is that of the released sets; of other data it is None in steps and crops.
    """
    recipe = resolve(given, released(given.data))
    steps = recipe.train.steps
    return {
        "recipe": recipe.name,
        "arch": recipe.model.arch,
        "taxonomy": recipe.data.taxonomy,
        "datasets": list(recipe.data.mix),
        "crops": given.train.crops or (steps and recipe.crops_per_dataset),
        "crops_total": steps and steps * recipe.loader.batch,
        "batch": recipe.loader.batch,
        "steps": steps,
        "epochs": given.train.epochs,
        "short_side": recipe.augment.short_side,
        "long_side": recipe.augment.long_side,
        "crop": recipe.augment.crop,
    }


def _words(row: Mapping[str, Any], keys: Sequence[str]) -> list[str]:
    """Values for people, a length in epochs in place of crops, a longer side in place of a shorter one."""
    epochs, side, crop = row["epochs"], row["long_side"], row["crop"]
    times = max(epochs.values()) if isinstance(epochs, dict) else epochs
    said = {**row, "crop": str(crop) if isinstance(crop, int) else "{} x {}".format(*crop)}
    said |= {"crops": f"{times:g} epochs"} if times else {}
    said["short_side"] = f"{side} long" if side else row["short_side"] and str(row["short_side"])
    return [f"{said[key]:,}" if isinstance(said[key], int) else said[key] or "-" for key in keys]


def _line(recipe: Recipe, figures: Published) -> str:
    """A row; figures are the zero-shot mean, that over the training datasets, and mIoU in the own one."""
    mix, row = list(recipe.data.mix), _row(recipe)
    side, crop, *length = _words(row, ("short_side", "crop", "crops", "batch", "steps"))
    held_out, training = figures.zero_shot.figures(recipe.name), figures.training.figures(recipe.name)
    found = (held_out.get(HMEAN), training.get(HMEAN), held_out.get(mix[0]))
    cells = [f"[{recipe.name}](../recipes/{recipe.name}.yaml)", recipe.model.arch, recipe.data.taxonomy]
    cells += [mix[0] if len(mix) == 1 else f"{len(mix)} datasets", f"{side}, {crop}", *length]
    return f"| {' | '.join([*cells, *('-' if value is None else f'{value:.1f}' for value in found)])} |"
