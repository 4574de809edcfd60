"""Cityscapes, fine annotations, all 34 label ids as classes; MSeg carries this branch, no released model uses it."""

from __future__ import annotations

import functools

from shards.sources.cityscapes_19 import SEGMENTS, find
from shards.sources.common import Source, plain_source


def source() -> Source:
    """RAW holds `leftImg8bit` and `gtFine`."""
    return plain_source("cityscapes-34", functools.partial(find, dataset="cityscapes-34"), segments=SEGMENTS)
