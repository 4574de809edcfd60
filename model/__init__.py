"""Batches become a checkpoint, a checkpoint becomes scores. Knows neither files of data nor datasets by name."""
