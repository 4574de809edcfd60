"""What the tests of single sources share: run a source as conversion does, and write files in native formats."""

import numpy as np
from PIL import Image

from segstream.shards.datasets.registry import dataset
from segstream.shards.datasets.release import Release
from segstream.shards.taxonomy import remap_label

VOID = 255


def found(name, raw, split):
    return dataset(name).find(Release(raw), split)


def natives(name, raw, split):
    """Key -> native label."""
    ours, files = dataset(name), Release(raw)
    return {
        pair.key: remap_label(ours.read_label(files.read(pair.label), pair), ours.remap, where=pair.label)
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
