"""Released datasets become WebDataset shards with labels in known taxonomies. Knows no torch and no training."""
