"""One folder a dataset, and beside them what they share.

`dataset.yaml` says what is known of the release and where its files lie (`registry.Facts`), `classes.yaml` its classes
and the ids of its label files (`shards/taxonomy.py`), `SPLIT.txt` which images a split has where the files do not tell
(`layout`). `source.py` stands only where there is more to say: what it has of `read_label`, `read_image` and
`segments` goes before the same of `sources.Dataset`, and so does `find(release, split, stated)`, where `stated` finds
what `dataset.yaml` says. A dataset that builds on another names it as its `base`, or its classes as its
`taxonomy`; no other dataset's folder is read.
"""
