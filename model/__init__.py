"""Batches become a checkpoint, a checkpoint becomes scores. Knows neither files of data nor datasets by name.

In order: `networks`, `losses`, `training`; `inference`, `evaluation`. What all of them build on lies here: `config`,
`types` (what crosses the door), `device`, `distributed`, `checkpoint`, `weights_file`.
"""
