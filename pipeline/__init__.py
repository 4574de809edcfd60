"""Shards become batches: sample order, augmentation, loading. Knows no network, and nothing of who trains on what.

`loader.Loader` is the way in, `loader.Batches` the same for torch's DataLoader; `order.Order` and `geometry.draw` are
the two pure functions behind them, of use on their own.
"""
