"""Released datasets become WebDataset shards with labels in known taxonomies. Knows no torch and no training.

Reading a shard set is `shards.format.reader`, converting one `shards.convert`, what is known of each dataset
`shards.datasets`, class lists and their arithmetic `shards.taxonomy`.
"""
