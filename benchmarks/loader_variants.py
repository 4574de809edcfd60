"""The loader with options that cost time, beside the plain one of the same shard set."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from fractions import Fraction
from typing import Any

from segstream.pipeline.config import AugmentConfig, DataConfig, LoaderConfig
from segstream.pipeline.loader import Loader
from segstream.pipeline.order import ClassSlots, Order

VARIANTS = {"by_class": "half by class", "by_class_color": "and colour"}


@contextmanager
def variants(data: DataConfig, rule: AugmentConfig, config: LoaderConfig) -> Iterator[dict[str, Loader]]:
    """Loaders by name of VARIANTS; the set's centroids are there."""
    color = replace(rule, color_jitter=0.25)
    with ExitStack() as opened:
        made = {
            name: opened.enter_context(Loader(data, augment, config, seed=0))
            for name, augment in zip(VARIANTS, (rule, color), strict=True)
        }
        for loader in made.values():
            _half_by_class(loader, config.batch)
        yield made


def told(row: Mapping[str, Any]) -> Iterator[str]:
    """What a setting's row says of them, for people."""
    for name, about in VARIANTS.items():
        yield f"{about} {row[name]:.1f} crops/s (ours / it {row[f'ratio_{name}']:.2f}x)"


def _half_by_class(loader: Loader, batch: int) -> None:
    """By the first classes alone, two pictures for each: an epoch of few pictures has no place for every class."""
    samples = loader._samples
    ((name, sets),) = samples._sets.items()
    (shards,) = sets.values()
    counts = shards.centroid_counts("native")[:, : len(shards) // 2]
    by_class = {name: ClassSlots(share=Fraction(1, 2), counts=counts)}
    samples.order = Order({name: shards.shard_sizes}, {name: Fraction(1)}, seed=0, batch=batch, class_uniform=by_class)
