"""What the tests of single sources share: run a source as conversion does, and write files in native formats."""

import importlib

import numpy as np
from PIL import Image

from segstream.shards.datasets.release import Raw
from segstream.shards.taxonomy import remap_label

VOID = 255


def source(name):
    return importlib.import_module(f"segstream.shards.datasets.{name.replace('-', '_')}").source()


def found(name, raw, split):
    return source(name).find(Raw(raw), split)


def natives(name, raw, split):
    """Key -> native label."""
    ours, files = source(name), Raw(raw)
    return {
        pair.key: remap_label(ours.read_label(files.read(pair.label), pair), ours.release, where=pair.label)
        for pair in ours.find(files, split).pairs
    }


def write(path, array, palette=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(array, np.uint8))
    if palette is not None:
        image = image.convert("P")
        image.putpalette(palette)
    image.save(path, **options)
    return path


def noise(size_hw, seed=0):
    """(H, W, 3) uint8."""
    return np.random.default_rng(seed).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
