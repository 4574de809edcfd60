"""What a recipe will do, before it does it: `segstream train RECIPE --dry-run`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from segstream.cli.console import note, print_json, print_table
from segstream.model.config import Precision
from segstream.model.device import pick_device, pick_precision
from segstream.model.training.memory import StepMemory, estimate_step, needed
from segstream.model.training.trainer import poly_lr
from segstream.pipeline.config import shares
from segstream.pipeline.labels import label_views
from segstream.shards.datasets.registry import registry
from segstream.shards.errors import DataError
from segstream.shards.format.manifest import Manifest
from segstream.shards.format.reader import open_shards
from segstream.shards.taxonomy import Taxonomy, load_taxonomy

if TYPE_CHECKING:
    from segstream.model.training.metrics_log import LogRow
    from segstream.recipe import Recipe

GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One dataset of the mix."""

    dataset: str
    share: str
    """Of the slots and of the loss; a fraction."""
    slots_per_step: float
    images: int | None
    """In its shards; of the complete release where there are none; None if neither is known."""
    epochs: float | None
    """How often the run sees each of them."""
    missing: str | None
    """Why its shards cannot be used, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A run as it will be on this machine."""

    recipe: str
    arch: str
    taxonomy: str
    classes: int
    mix: tuple[Part, ...]
    batch: int
    images_at_once: int
    """Of a batch, in a single process, in one of `accumulate` parts."""
    steps: int
    crops_total: int
    crops_per_dataset: int
    lr_start: float
    lr_end: float
    """Of the last step."""
    weights: str | None
    """The file that training starts from."""
    device: str
    precision: Precision
    memory: StepMemory
    memory_needed: int
    """Bytes that should be free for a step in one process."""
    memory_free: int | None
    """Bytes; None where the system does not say."""
    disk: int
    """Bytes that checkpoints and the result take at most."""

    @property
    def missing(self) -> list[str]:
        """What is wrong with the data; empty: nothing."""
        return [part.missing for part in self.mix if part.missing is not None]

    @property
    def fits(self) -> bool:
        """A step in one process fits the free memory, as far as is known."""
        return self.memory_free is None or self.memory_needed <= self.memory_free


def dry_run(recipe: Recipe, *, json: bool) -> None:
    """Print the plan of a run, then make one real step of it if data and memory allow.

    Raises:
        DataError: shards are missing or unusable, after the plan was printed; or what building the network or the step
            itself refuses.
    """
    plan = make_plan(recipe)
    if not json:
        _print(plan)
    row = None if plan.missing or not plan.fits else one_step(recipe)
    if json:
        print_json(_as_json(plan, row))
    elif row is not None:
        print(f"one step    loss {row.loss:.3f} in {recipe.loader.batch / row.crops_per_s:.2f} s, {_taken(row)}")
    if not plan.fits:
        note(f"{recipe.name}: no step is made: {_too_large(plan)}")
    for line in plan.missing:
        note(line)
    if plan.missing:
        raise DataError(f"{recipe.name}: {len(plan.missing)} of {len(plan.mix)} shard sets are missing, see above")


def make_plan(recipe: Recipe) -> Plan:
    """Look at the data and at the machine; nothing is allocated.

    Raises:
        DataError, UsageError: what the network refuses; labels of the mix that do not fit together.
    """
    manifests, missing = _manifests(recipe)
    taxonomy = _taxonomy(recipe, manifests)
    train, batch = recipe.train, recipe.loader.batch
    device = pick_device(train.device)
    precision = pick_precision(train.precision, device)
    at_once = -(-batch // train.accumulate)
    memory = estimate_step(
        recipe.model,
        taxonomy.num_classes,
        train,
        images=at_once,
        crop_hw=recipe.augment.crop_hw,
        precision=precision,
        datasets=len(recipe.data.mix),
    )
    return Plan(
        recipe=recipe.name,
        arch=recipe.model.arch,
        taxonomy=recipe.data.taxonomy,
        classes=taxonomy.num_classes,
        mix=_parts(recipe, manifests, missing),
        batch=batch,
        images_at_once=at_once,
        steps=recipe.steps,
        crops_total=recipe.steps * batch,
        crops_per_dataset=recipe.crops_per_dataset,
        lr_start=train.lr,
        lr_end=poly_lr(recipe.steps - 1, base=train.lr, steps=recipe.steps, power=train.power),
        weights=recipe.model.weights,
        device=device.type,
        precision=precision,
        memory=memory,
        memory_needed=needed(memory, device.type),
        memory_free=_free(device),
        disk=(train.keep + 1) * memory.checkpoint + memory.weights,  # the newest is written before the oldest goes
    )


def one_step(recipe: Recipe) -> LogRow:
    """Train one step of the run with its own data, network, first weights and loss, and keep nothing of it."""
    from segstream.model.training.trainer import train
    from segstream.pipeline.loader import Loader
    from segstream.training import open_network

    rows: list[LogRow] = []
    config = replace(recipe.train, steps=1, validate_every=None)
    with (
        tempfile.TemporaryDirectory(prefix="segstream-") as folder,
        Loader(recipe.data, recipe.augment, recipe.loader, seed=recipe.seed) as loader,
    ):
        num_classes = loader.taxonomy.num_classes
        net, _ = open_network(recipe, num_classes)
        train(net, loader, config, folder, meta={"num_classes": num_classes}, seed=recipe.seed, on_log=rows.append)
    return rows[-1]


def _manifests(recipe: Recipe) -> tuple[dict[str, Manifest], dict[str, str]]:
    """By dataset, the manifest of its shards, or why they cannot be used."""
    data, found, missing = recipe.data, {}, {}
    for name in data.mix:
        url = data.url(name)
        try:
            if "://" not in url and not Path(url).is_dir():
                raise DataError(f"{name}: no shards at {url}; {_how(recipe, name)}")
            with open_shards(url) as shards:
                label_views(data.taxonomy, {name: shards.manifest})
                found[name] = shards.manifest
        except DataError as error:
            missing[name] = str(error)
    return found, missing


def _how(recipe: Recipe, name: str) -> str:
    side = f" --short-side {recipe.augment.short_side}" if recipe.augment.short_side else ""
    relabel = " --relabel RECORDS" if recipe.data.taxonomy == "universal-relabeled" else ""
    split, out = recipe.data.split, recipe.data.shards
    return f"segstream shard {name} --raw RAW --split {split}{side}{relabel} --out {out}"


def _taxonomy(recipe: Recipe, manifests: Mapping[str, Manifest]) -> Taxonomy:
    """Of the labels: what the shards say, or what the recipe means where there are none."""
    view = recipe.data.taxonomy
    if manifests:
        return next(iter(label_views(view, manifests).values())).taxonomy
    if view in ("naive", "universal"):
        return load_taxonomy(view)
    if view == "universal-relabeled":
        return load_taxonomy("universal")
    name = next(iter(recipe.data.mix))
    known = registry().get(name)
    return load_taxonomy((known.taxonomy if known else None) or name)


def _parts(recipe: Recipe, manifests: Mapping[str, Manifest], missing: Mapping[str, str]) -> tuple[Part, ...]:
    parts = []
    for name, share in shares(recipe.data.mix).items():
        images = manifests[name].samples if name in manifests else _expected(name, recipe.data.split)
        slots = float(share * recipe.loader.batch)
        parts.append(
            Part(
                dataset=name,
                share=str(share),
                slots_per_step=slots,
                images=images,
                epochs=recipe.steps * slots / images if images else None,
                missing=missing.get(name),
            )
        )
    return tuple(parts)


def _expected(dataset: str, split: str) -> int | None:
    known = registry().get(dataset)
    return None if known is None else known.splits.get(split)


def _free(device: torch.device) -> int | None:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    info = Path("/proc/meminfo")
    if info.exists():
        return int(info.read_text(encoding="ascii").split("MemAvailable:")[1].split()[0]) * 1024
    names = {"SC_AVPHYS_PAGES", "SC_PAGE_SIZE"}
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if names <= os.sysconf_names.keys() else None


def _print(plan: Plan) -> None:
    memory = plan.memory
    print(f"{plan.recipe}: {plan.arch}, {plan.classes} classes ({plan.taxonomy}), {memory.parameters:,} parameters")
    rows = [
        (
            part.dataset,
            part.share,
            f"{part.slots_per_step:g}",
            "?" if part.images is None else f"{part.images:,}{' expected' if part.missing else ''}",
            "?" if part.epochs is None else f"{part.epochs:,.1f}",
        )
        for part in plan.mix
    ]
    print_table(("dataset", "share", "crops a step", "images", "epochs"), rows)
    crops = f"{plan.crops_total:,}, {plan.crops_per_dataset:,} a dataset"
    print(f"length      {plan.steps:,} steps of {plan.batch} crops: {crops}")
    print(f"lr          {plan.lr_start:g} to {plan.lr_end:.2g}")
    print(f"weights     {plan.weights or 'freshly drawn (published models start from ImageNet: model.weights=FILE)'}")
    parts = ", ".join(
        f"{name} {_gib(getattr(memory, name))}" for name in ("weights", "gradients", "optimizer", "activations")
    )
    print(f"memory      {parts} ({plan.images_at_once} crops at once, {plan.precision})")
    free = "unknown" if plan.memory_free is None else _gib(plan.memory_free)
    print(f"            one process on this {plan.device} needs about {_gib(plan.memory_needed)}; free: {free}")
    print(f"disk        {_gib(plan.disk)} for checkpoints and the result")


def _too_large(plan: Plan) -> str:
    assert plan.memory_free is not None
    need = f"it needs about {_gib(plan.memory_needed)} and {_gib(plan.memory_free)} are free"
    room = _room(plan, plan.memory_free)
    if room == 0:
        return f"{need}, too little for a single crop; try model.options.checkpointing=true or another machine"
    parts = -(-plan.batch // room)
    return f"{need}; train.accumulate={parts} would fit, or {parts} processes with a device each"


def _room(plan: Plan, free: int) -> int:
    """How many crops at once would fit: activations grow with them, nothing else does."""
    for crops in range(plan.images_at_once - 1, 0, -1):
        fewer = replace(plan.memory, activations=plan.memory.activations * crops // plan.images_at_once)
        if needed(fewer, plan.device) <= free:
            return crops
    return 0


def _taken(row: LogRow) -> str:
    return f"{row.memory_mib / 1024:.2f} GiB" if row.memory_mib == row.memory_mib else "memory unknown"


def _gib(size: int) -> str:
    return f"{size / GIB:.2f} GiB" if size < 10 * GIB else f"{size / GIB:.1f} GiB"


def _as_json(plan: Plan, row: LogRow | None) -> dict[str, Any]:
    step = None
    if row is not None:
        known = row.memory_mib == row.memory_mib
        memory_mib = row.memory_mib if known else None
        step = {"loss": row.loss, "crops_per_s": row.crops_per_s, "memory_mib": memory_mib}
    sums = {"memory_total": plan.memory.total, "fits": plan.fits, "missing": plan.missing}
    return asdict(plan) | sums | {"step": step}
