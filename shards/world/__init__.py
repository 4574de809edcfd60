"""The embedded world: procedural scenes written as seven real datasets would have released them."""

from shards.world.coding import DATASETS
from shards.world.draw import draw

__all__ = ["DATASETS", "draw"]
