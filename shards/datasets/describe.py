"""Datasets by name: to convert, and to describe. What is known of them is data, in `registry.yaml`.

Converters live in `sources/` and are loaded on demand.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from segstream.shards.datasets import own_data as folder
from segstream.shards.datasets.registry import Role, registry
from segstream.shards.datasets.sources import Source
from segstream.shards.errors import UsageError, did_you_mean
from segstream.shards.taxonomy import TRAINING_TAXONOMIES, Taxonomy, load_taxonomy, naive_remap, taxonomy_names

_RELABELED = "-relabeled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A dataset that can be converted: released, or your own by a YAML."""

    name: str
    role: Role
    taxonomy: Taxonomy
    splits: Mapping[str, int | None]
    """Images per split, where known beforehand."""
    licence: str
    root: Path | None
    """Raw root that the dataset itself states (own data only)."""
    source: Source


def dataset_names() -> tuple[str, ...]:
    """Every released dataset and every taxonomy variant of one, as `describe` takes them."""
    variants = {name for name in taxonomy_names() if name.removesuffix(_RELABELED) in registry()}
    return tuple(sorted(variants | registry().keys()))


def dataset(name: str) -> Dataset:
    """A dataset to convert, by its name or the path of an own-data YAML.

    Raises:
        UsageError: an unknown name, or that of a taxonomy variant.
        DataError: a YAML with an error in it.
    """
    if is_own(name):
        return _own(Path(name))
    if name.endswith(_RELABELED) and name in dataset_names():
        plain = name.removesuffix(_RELABELED)
        raise UsageError(
            f"{name!r} is a taxonomy of {plain}, not a dataset; take {plain!r}, and for relabelled labels --relabel"
        )
    facts = registry().get(name)
    if facts is None:
        raise UsageError(f"dataset {name!r} is unknown; {did_you_mean(name, registry())} (or give a YAML of your own)")
    module = f"segstream.shards.datasets.{name.replace('-', '_')}.source"
    return Dataset(
        name=name,
        role=facts.role,
        taxonomy=load_taxonomy(facts.taxonomy or name),
        splits=facts.splits,
        licence=facts.licence,
        root=None,
        source=importlib.import_module(module).source(),
    )


def is_own(name: str) -> bool:
    """The name is the path of an own-data YAML."""
    return name.endswith((".yaml", ".yml"))


def describe(name: str) -> dict[str, Any]:
    """What `segstream datasets NAME --json` prints, for a dataset, a taxonomy variant or an own-data YAML.

    Raises:
        UsageError: an unknown name.
    """
    if is_own(name):
        own = dataset(name)
        return _described(own.name, own.taxonomy, own.role, own.splits) | {"licence": own.licence}
    if name not in dataset_names():
        raise UsageError(f"dataset {name!r} is unknown; {did_you_mean(name, dataset_names())}")
    facts = registry()[name.removesuffix(_RELABELED)]
    taxonomy = load_taxonomy(name if name.endswith(_RELABELED) else facts.taxonomy or name)
    return _described(name, taxonomy, facts.role, facts.splits) | {
        "title": facts.title,
        "labels": facts.labels,
        "total": facts.total,
        "licence": facts.licence,
        "home": facts.home,
        "layout": dict(facts.layout),
        "archives": [asdict(archive) for archive in facts.archives],
        "download": facts.downloads,
    }


def _own(path: Path) -> Dataset:
    own = folder.load(path)
    return Dataset(
        name=own.name,
        role="extra",
        taxonomy=folder.taxonomy(own, at=str(path)),
        splits=dict.fromkeys(own.splits),
        licence=own.licence,
        root=path.parent / own.root if own.root else None,
        source=folder.source(own, at=str(path)),
    )


def _described(name: str, taxonomy: Taxonomy, role: Role, splits: Mapping[str, int | None]) -> dict[str, Any]:
    to_universal = taxonomy.to_universal
    to_naive = naive_remap(taxonomy).table if taxonomy.name in TRAINING_TAXONOMIES else None
    return {
        "name": name,
        "role": role,
        "taxonomy": taxonomy.name,
        "classes": list(taxonomy.classes),
        "splits": dict(splits),
        "to_universal": None if to_universal is None else {str(i): u for i, u in enumerate(to_universal)},
        "from_universal": None if taxonomy.from_universal is None else [list(p) for p in taxonomy.from_universal],
        "to_naive": None if to_naive is None else {str(i): int(to_naive[i]) for i in range(taxonomy.num_classes)},
    }
