"""Batches become a checkpoint, a checkpoint becomes scores. Knows neither files of data nor datasets by name.

In order: `networks`, `losses`, `training`; `inference`, `evaluation`. What all of them build on lies here: `config`,
`types` (what batches and networks look like), `device`, `distributed`, `checkpoint` (files that torch writes).
"""
