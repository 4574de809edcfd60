"""Shards become batches: sample order, augmentation, loading. Knows no network."""
