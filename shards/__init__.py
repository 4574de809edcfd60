"""Released datasets become WebDataset shards with labels in known taxonomies. Knows no torch and no training.

Here: reading a shard set. Converting one is `shards.convert`, what is known of each dataset `shards.datasets`,
class lists and their arithmetic `shards.taxonomy`.
"""

from segstream.shards.errors import DataError, UsageError
from segstream.shards.format.index import Entry
from segstream.shards.format.reader import ShardSet, open_shards

__all__ = ["DataError", "Entry", "ShardSet", "UsageError", "open_shards"]
