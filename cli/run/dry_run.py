"""What a recipe will do, before it does it: `segstream train RECIPE --dry-run`."""

import os
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from segstream.cli.console import note, print_json, print_table, say
from segstream.cli.run.recipe_table import released
from segstream.model.distributed import pick_device, pick_precision
from segstream.model.training import trainer
from segstream.model.training.memory import StepMemory, estimate_step, needed
from segstream.model.types import LogRow
from segstream.pipeline.class_uniform import class_slots
from segstream.pipeline.config import shares
from segstream.pipeline.loader import Loader
from segstream.pipeline.samples import label_views, open_split
from segstream.recipe import Recipe, resolve
from segstream.shards.checks.stats import label_warnings
from segstream.shards.datasets.registry import registry
from segstream.shards.errors import DataError
from segstream.shards.format.manifest import Manifest, joined
from segstream.shards.taxonomy import Taxonomy, load_taxonomy
from segstream.training import open_network

GIB = 2**30


def dry_run(recipe: Recipe, *, json: bool) -> None:
    """Print the plan of a run, then make one real step of it if data and memory allow.

    Raises:
        DataError: shards are missing or unusable, after the plan was printed; or what building the network or the step
            itself refuses.
    """
    plan = make_plan(recipe)
    if not json:
        _print(plan)
    for line in plan["warnings"]:
        note(f"warning: {line}")
    row = None if plan["missing"] or not plan["fits"] else one_step(recipe)
    memory_mib = None if row is None or row.memory_mib != row.memory_mib else row.memory_mib
    if json:
        step = row and {"loss": row.loss, "crops_per_s": row.crops_per_s, "memory_mib": memory_mib}
        print_json(plan | {"step": step})
    elif row is not None:
        taken = "memory unknown" if memory_mib is None else f"{memory_mib / 1024:.2f} GiB"
        say(f"one step    loss {row.loss:.3f} in {recipe.loader.batch / row.crops_per_s:.2f} s, {taken}")
    if not plan["fits"]:
        note(f"{recipe.name}: no step is made: {_too_large(plan)}")
    for line in plan["missing"]:
        note(line)
    if plan["missing"]:
        count = f"{len(plan['missing'])} of {len(plan['mix'])}"
        raise DataError(f"{recipe.name}: {count} shard sets are missing, see above")


def make_plan(recipe: Recipe) -> dict[str, Any]:
    """What `--json` prints but for the step: a run as it will be on this machine. Nothing is allocated.

    `images` are those in a set's shards, or of the complete release where there are none. `memory_needed` are bytes
    that should be free for a step in one process; `memory_free` is None where the system does not say, then it `fits`.

    Raises:
        DataError, UsageError: what the network refuses; labels of the mix that do not fit together.
    """
    manifests, missing, warnings = _manifests(recipe)
    counts = released(recipe.data) | {name: manifest.samples for name, manifest in manifests.items()}
    recipe = resolve(recipe, counts)
    model, data, train, batch = recipe.model, recipe.data, recipe.train, recipe.loader.batch
    classes = _taxonomy(recipe, manifests, missing).num_classes
    device = pick_device(train.device)
    precision = pick_precision(train.precision, device)
    at_once = -(-batch // train.accumulate)  # in a single process
    crop_hw = recipe.augment.crop_hw
    memory = estimate_step(
        model, classes, train, images=at_once, crop_hw=crop_hw, precision=precision, datasets=len(data.mix)
    )
    mix = []
    for name, share in shares(data.mix).items():
        slots, images = float(share * batch), counts.get(name)
        epochs = train.steps * slots / images if images and train.steps else None
        row = {"dataset": name, "share": str(share), "slots_per_step": slots, "images": images, "epochs": epochs}
        mix.append(row | {"missing": missing.get(name)})
    free, wanted = _free(device), needed(memory, device.type)
    return {
        "recipe": recipe.name,
        "arch": model.arch,
        "taxonomy": data.taxonomy,
        "classes": classes,
        "mix": mix,
        "batch": batch,
        "images_at_once": at_once,
        "steps": train.steps,
        "crops_total": train.steps and train.steps * batch,
        "crops_per_dataset": train.steps and recipe.crops_per_dataset,
        "lr_start": trainer.learning_rate(0, train),
        "lr_end": train.steps and trainer.learning_rate(train.steps - 1, train),
        "weights": model.weights,
        "device": device.type,
        "precision": precision,
        "memory": asdict(memory),
        "memory_needed": wanted,
        "memory_free": free,
        # A checkpoint or best.pt is written before the former one goes.
        "disk": (train.keep + 1) * memory.checkpoint + memory.weights * (3 if recipe.validate.best else 1),
        "memory_total": memory.total,
        "fits": free is None or wanted <= free,
        "warnings": [line for m in manifests.values() for line in label_warnings(m, data.taxonomy)] + warnings,
        "missing": [row["missing"] for row in mix if row["missing"] is not None],
    }


def one_step(recipe: Recipe) -> LogRow:
    """Train one step of the run with its own data, network, first weights and loss, and keep nothing of it."""
    rows: list[LogRow] = []
    config = replace(recipe.train, steps=1, epochs=None, epoch_steps=1.0, validate_every=None)
    with (
        tempfile.TemporaryDirectory(prefix="segstream-") as folder,
        Loader(recipe.data, recipe.augment, recipe.loader, seed=recipe.seed, rank=0, world_size=1) as loader,
    ):
        num_classes = loader.taxonomy.num_classes
        net, _ = open_network(recipe, num_classes)
        trainer.train(
            net, loader, config, folder, meta={"num_classes": num_classes}, seed=recipe.seed, on_log=rows.append
        )
    return rows[-1]


def _manifests(recipe: Recipe) -> tuple[dict[str, Manifest], dict[str, str], list[str]]:
    """By dataset, the manifest of its shards, or why they cannot be used and what to do; what sampling warns of."""
    data, found, missing, warnings = recipe.data, {}, {}, list[str]()
    for name in data.mix:
        try:
            with ExitStack() as opened:
                sets = {
                    split: opened.enter_context(open_split(data, recipe.augment, name, split))
                    for split in data.urls(name)
                }
                manifest = joined({split: s.manifest for split, s in sets.items()}, data.plain_splits(name))
                view = label_views(data.taxonomy, {name: manifest})[name]
                found[name] = manifest
                if config := data.sampling.get(name):
                    warnings += class_slots(config, sets, view)[1]
        except DataError as error:
            missing[name] = str(error)
    return found, missing, warnings


def _taxonomy(recipe: Recipe, manifests: Mapping[str, Manifest], missing: Mapping[str, str]) -> Taxonomy:
    """Of the labels: what the shards say, or what the recipe means where there are none."""
    view = recipe.data.taxonomy
    if manifests:
        return next(iter(label_views(view, manifests).values())).taxonomy
    if view in ("naive", "universal", "universal-relabeled"):
        return load_taxonomy(view.removesuffix("-relabeled"))
    name = next(iter(recipe.data.mix))
    known = registry().get(name)
    if known is None:  # own data, whose classes only its shards know
        raise DataError(missing[name])
    return load_taxonomy(known.taxonomy or name)


def _free(device: torch.device) -> int | None:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    info = Path("/proc/meminfo")
    if info.exists():
        return int(info.read_text(encoding="ascii").split("MemAvailable:")[1].split()[0]) * 1024
    names = {"SC_AVPHYS_PAGES", "SC_PAGE_SIZE"}
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if names <= os.sysconf_names.keys() else None


def _print(plan: Mapping[str, Any]) -> None:
    memory = plan["memory"]
    say("{recipe}: {arch}, {classes} classes ({taxonomy}), {memory[parameters]:,} parameters".format_map(plan))
    rows = [
        (
            row["dataset"],
            row["share"],
            f"{row['slots_per_step']:g}",
            "?" if row["images"] is None else f"{row['images']:,}{' expected' if row['missing'] else ''}",
            "?" if row["epochs"] is None else f"{row['epochs']:,.1f}",
        )
        for row in plan["mix"]
    ]
    print_table(("dataset", "share", "crops a step", "images", "epochs"), rows)
    parts = ", ".join(f"{name} {_gib(size)}" for name, size in memory.items() if name != "parameters")
    free = "unknown" if plan["memory_free"] is None else _gib(plan["memory_free"])
    weights = plan["weights"] or "freshly drawn (published models start from ImageNet: model.weights=FILE)"
    if plan["steps"]:
        crops = f"{plan['crops_total']:,}, {plan['crops_per_dataset']:,} a dataset"
        say(f"length      {plan['steps']:,} steps of {plan['batch']} crops: {crops}")
        say(f"lr          {plan['lr_start']:g} to {plan['lr_end']:.2g}")
    else:
        say("length      steps are known once the sets are there that train.epochs counts")
    say(f"weights     {weights}")
    say(f"memory      {parts} ({plan['images_at_once']} crops at once, {plan['precision']})")
    say(f"            one process on this {plan['device']} needs about {_gib(plan['memory_needed'])}; free: {free}")
    say(f"disk        {_gib(plan['disk'])} for checkpoints and the result")


def _too_large(plan: Mapping[str, Any]) -> str:
    need = f"it needs about {_gib(plan['memory_needed'])} and {_gib(plan['memory_free'])} are free"
    memory, at_once = StepMemory(**plan["memory"]), plan["images_at_once"]
    for crops in range(at_once - 1, 0, -1):  # activations grow with the crops at once, nothing else does
        fewer = replace(memory, activations=memory.activations * crops // at_once)
        if needed(fewer, plan["device"]) <= plan["memory_free"]:
            parts = -(-plan["batch"] // crops)
            return f"{need}; train.accumulate={parts} would fit, or {parts} processes with a device each"
    return f"{need}, too little for a single crop; try model.options.checkpointing=true or another machine"


def _gib(size: int) -> str:
    return f"{size / GIB:.2f} GiB" if size < 10 * GIB else f"{size / GIB:.1f} GiB"
