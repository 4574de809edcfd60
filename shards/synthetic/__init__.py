"""The embedded world: procedural scenes written as real datasets would have released them."""

from segstream.shards.synthetic.draw import draw
from segstream.shards.synthetic.layouts import DATASETS, DEMO

__all__ = ["DATASETS", "DEMO", "draw"]
