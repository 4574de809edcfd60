"""Shards become batches: sample order, augmentation, loading. Knows no network, and nothing of who trains on what.

`loader.Loader` is the way in, `loader.Batches` the same for torch's DataLoader; `order.Order` and `geometry.draw` are
the two pure functions behind them, of use on their own.
"""

from importlib import import_module
from typing import Any

_NAMES = {"config": ("AugmentConfig", "DataConfig", "LoaderConfig"), "loader": ("Batch", "Batches", "Loader")}


def __getattr__(name: str) -> Any:
    """What programs written for former versions import from here, loaded when it is asked for."""
    for module, names in _NAMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
