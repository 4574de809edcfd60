"""The recipes as a table: `segstream train --list`, and the page docs/recipes.md."""

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

INTRO = Path(__file__).with_name("recipes.md").read_text(encoding="utf-8")
SECTIONS = {
    "Published models": 'With the published networks, sizes and lengths (Lambert et al., "MSeg", CVPR 2020).',
    "The same with other networks": "Sizes and lengths as above; no results were published.",
    "Demo and examples": "Small networks for one or two processor cores; see [performance.md](performance.md).",
}


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
        left_out = ("crops_total", "epochs")
        cells = [["-" if row[key] is None else row[key] for key in row if key not in left_out] for row in rows]
        print_table(header, cells)


def page(recipes: list[Recipe]) -> str:
    """docs/recipes.md."""
    parts = [INTRO]
    for title, about in SECTIONS.items():
        chosen = [recipe for recipe in recipes if _section(recipe) == title]
        parts += [f"\n## {title}\n\n{about}\n", *_table(chosen, published())]
    return "\n".join(parts) + "\n"


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
        "crop": recipe.augment.crop,
    }


def _section(recipe: Recipe) -> str:
    own, others, small = SECTIONS
    if recipe.augment.crop_hw < (473, 473):
        return small
    return own if recipe.model.arch == "hrnet-w48" else others


def _table(recipes: list[Recipe], figures: Published) -> list[str]:
    """Lines of a section; figures are the zero-shot mean, that over the training datasets, and mIoU in the own one."""
    header = ["recipe", "network", "labels", "data", "short side, crop", "crops", "batch", "steps"]
    header += ["zero-shot", "training", "oracle"]
    lines = [f"| {' | '.join(header)} |", "|" + "---|" * 4 + "---:|" * 7]
    for recipe in recipes:
        mix, row = list(recipe.data.mix), _row(recipe)
        cells = [f"[{recipe.name}](../recipes/{recipe.name}.yaml)", recipe.model.arch, recipe.data.taxonomy]
        cells += [mix[0] if len(mix) == 1 else f"{len(mix)} datasets"]
        cells += [f"{recipe.augment.short_side}, {recipe.augment.crop_hw[0]}"]
        cells += ["-" if row[key] is None else f"{row[key]:,}" for key in ("crops", "batch", "steps")]
        held_out, training = figures.zero_shot.figures(recipe.name), figures.training.figures(recipe.name)
        found = (held_out.get(HMEAN), training.get(HMEAN), held_out.get(mix[0]))
        cells += ["-" if value is None else f"{value:.1f}" for value in found]
        lines.append(f"| {' | '.join(cells)} |")
    return lines
