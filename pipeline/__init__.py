"""Shards become batches: sample order, augmentation, loading. Knows no network, and nothing of who trains on what.

`loader.Loader` is the way in, `loader.Batches` the same for torch's DataLoader; `order.Order` and `geometry.draw` are
the two pure functions behind them, of use on their own.
"""

from importlib import import_module
from typing import Any


def __getattr__(name: str) -> Any:
    """What programs written for former versions import from here, loaded when it is asked for."""
    if name in ("AugmentConfig", "Batch", "Batches", "DataConfig", "Loader", "LoaderConfig"):
        return getattr(import_module("segstream"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
