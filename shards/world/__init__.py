"""The embedded world: procedural scenes written as real datasets would have released them."""

from shards.world.draw import draw
from shards.world.layouts import DATASETS, DEMO

__all__ = ["DATASETS", "DEMO", "draw"]
