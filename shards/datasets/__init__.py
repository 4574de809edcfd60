"""One file per dataset: its folder layout, its split lists, the coding of its label files, and nothing else.

A source module has a function `source() -> Source`. Sources share `common.py` and never import one another, so that
a change to one of them concerns no other dataset.
"""
