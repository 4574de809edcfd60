"""Cityscapes, fine annotations, all 34 label ids as classes; MSeg carries this branch, no released model uses it."""

from __future__ import annotations

import functools

from segstream.shards.datasets.cityscapes_19.source import SEGMENTS, find
from segstream.shards.datasets.sources import Source, plain_source


def source() -> Source:
    """RAW holds `leftImg8bit` and `gtFine`."""
    return plain_source("cityscapes-34", functools.partial(find, dataset="cityscapes-34"), segments=SEGMENTS)
