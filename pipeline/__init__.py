"""Shards become batches: sample order, augmentation, loading. Knows no network, and nothing of who trains on what.

`Loader` is the way in, `Batches` the same for torch's DataLoader; `Order` and `draw` are the two pure functions
behind them, of use on their own.
"""

from segstream.pipeline.config import AugmentConfig, DataConfig, LoaderConfig
from segstream.pipeline.geometry import Draw, draw
from segstream.pipeline.loader import Batch, Batches, Loader
from segstream.pipeline.order import Order, Pick

__all__ = ["AugmentConfig", "Batch", "Batches", "DataConfig", "Draw", "Loader", "LoaderConfig", "Order", "Pick", "draw"]
