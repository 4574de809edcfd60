"""Automatic labels in the place of a release's own: a network's ids, of which those count that it was sure of.

    folder: refinement/train_extra            # relative to this file
    ids: "{key}.png"                          # by default, as the next, where `predict --confidence` puts them
    confidences: "{key}_prob.png"
    coding: release                           # ids of the release's label files; native (default): of the classes
    threshold: 0.5                            # (default) pixels of a lower confidence are ignored
    region: [15, 14, 840, 2030]               # top, left, bottom, right: pixels outside of it are ignored
    or_coarse: [truck, bus, train]            # also where the release's own label says so

Source: the coarse images of hierarchical multi-scale attention's best Cityscapes model, whose settings these are. There
a class of `or_coarse` was added only to images in which the network had found it, and also outside of the region.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from segstream.shards.codecs.labels import decode_ids
from segstream.shards.datasets.sources import Dataset, Ids, Pair
from segstream.shards.errors import DataError, UnreadableError, UsageError
from segstream.shards.format.keys import unescape
from segstream.shards.format.left_out import BadFileError
from segstream.shards.schema import parse, read_yaml
from segstream.shards.taxonomy import IGNORE_INDEX, Remap, build_remap, remap_label

PREFIX = "--auto-labels/"  # of the files' names among those of the release


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoLabels:
    """The YAML."""

    folder: str = ""
    ids: str = "labels/{key}.png"
    """A label file below `folder`: `{key}` stands for the image's path below its split's root, without suffix, `{name}`
    for the last part of that."""
    confidences: str = "confidences/{key}.png"
    """One channel of 8 or 16 bits; the highest value is a confidence of 1."""
    coding: Literal["native", "release"] = "native"
    threshold: float = 0.5
    region: tuple[int, int, int, int] | None = None
    """Top, left, bottom, right; the last two are the first row and column that do not belong to it."""
    or_coarse: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        top, left, bottom, right = self.region or (0, 0, 1, 1)
        if not (0 <= top < bottom and 0 <= left < right and 0 <= self.threshold <= 1):
            raise DataError(f"region {self.region}, threshold {self.threshold}: give top, left, bottom, right; 0 to 1")

    def paths(self, pair: Pair) -> list[str]:
        """An image's ids and confidences, below the folder."""
        key = unescape(pair.key)
        name = key.rpartition("/")[2]
        return [form.replace("{key}", key).replace("{name}", name) for form in (self.ids, self.confidences)]

    def label(self, pair: Pair, files: Mapping[str, bytes], data: Dataset, size_hw: tuple[int, int]) -> Ids:
        """An image's label, (H, W) uint8 native ids.

        Args:
            files: bytes by path, with `PREFIX` for those of the folder; with `or_coarse` also the release's label.

        Raises:
            BadFileError: a file cannot be used, or is not of the image's size.
        """

        def read(path: str, remap: Remap | None, decode: Callable[[bytes], Ids] = decode_ids) -> Ids:
            try:
                found = decode(files[path])
                found = found if remap is None else remap_label(found, remap, where=path)
            except (UnreadableError, DataError) as error:
                raise BadFileError(path, str(error).removeprefix(f"{path}: ")) from error
            if found.shape != size_hw:
                raise BadFileError(path, f"is of {found.shape}, {pair.image} of {size_hw} (height, width)")
            return found

        def released(raw: bytes) -> Ids:
            return data.read_label(raw, pair)

        ids, confidences = (PREFIX + path for path in self.paths(pair))
        own = build_remap(data.taxonomy.name, data.name, {i: i for i in range(data.taxonomy.num_classes)})
        label = read(ids, data.remap, released) if self.coding == "release" else read(ids, own)
        coarse = read(pair.label or "", data.remap, released) if self.or_coarse else label
        for i in map(data.taxonomy.classes.index, self.or_coarse):
            label[coarse == i] = i
        values = read(confidences, None)
        top, left, bottom, right = self.region or (0, 0, *size_hw)
        counts = np.zeros(size_hw, np.bool_)
        counts[top:bottom, left:right] = True
        label[~counts | (values / (255 if values.dtype == np.uint8 else 65535) < self.threshold)] = IGNORE_INDEX
        return label


def load_auto_labels(path: Path, data: Dataset) -> AutoLabels:
    """Read the YAML, or take a folder that `segstream predict --confidence` has filled.

    Returns:
        With `folder` as it lies from here.

    Raises:
        DataError: what is wrong with it, with the field's name; or the ids of `predict` are of other classes.
        UsageError: the dataset has no labels.
    """
    if data.remap is None:
        raise UsageError(f"{data.name}: has no labels that others could replace; leave out --auto-labels")
    spec = parse(AutoLabels, {} if path.is_dir() else read_yaml(path), at=str(path))
    folder = (path if path.is_dir() else path.parent) / spec.folder
    taxonomy, told = data.taxonomy, folder / "predict.json"
    if unknown := [name for name in spec.or_coarse if name not in taxonomy.classes]:
        raise DataError(f"{path}: or_coarse: {taxonomy.name} has no class {unknown[0]!r}; it has {taxonomy.classes}")
    of = {"name": taxonomy.name, "digest": taxonomy.digest}
    if told.is_file() and (read_yaml(told).get("taxonomy") == of) != (spec.coding == "native"):
        raise DataError(
            f"{told}: no ids of coding {spec.coding}; predict --taxonomy {taxonomy.name}, and take coding native"
        )
    return replace(spec, folder=str(folder))
