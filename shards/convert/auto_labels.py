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

import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from segstream.shards.codecs.labels import decode_ids
from segstream.shards.datasets.sources import Dataset, Ids, Pair
from segstream.shards.errors import DataError, UnreadableError, UsageError, did_you_mean
from segstream.shards.format.keys import unescape
from segstream.shards.format.left_out import BadFileError
from segstream.shards.schema import parse, parse_json, read_yaml, shown
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
        if not 0 <= top < bottom or not 0 <= left < right:
            raise DataError(f"region: {self.region}; give top, left, bottom and right of at least one pixel")
        if not 0 <= self.threshold <= 1:
            raise DataError(f"threshold: {self.threshold}; confidences are 0 to 1")
        if wrong := [form for form in (self.ids, self.confidences) if "{key}" not in form and "{name}" not in form]:
            raise DataError(f"{wrong[0]!r} is one file for all images; use {{key}} or {{name}} in it")

    @property
    def params(self) -> dict[str, Any]:
        """What of it shapes the labels, as JSON gives it back."""
        stated: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return {name: value for name, value in stated.items() if name != "folder"}

    def paths(self, pair: Pair) -> tuple[str, str]:
        """An image's ids and confidences, below the folder."""
        key = unescape(pair.key)
        name = key.rpartition("/")[2]
        ids, confidences = (f.replace("{key}", key).replace("{name}", name) for f in (self.ids, self.confidences))
        return ids, confidences

    def label(self, pair: Pair, files: Mapping[str, bytes], data: Dataset, size_hw: tuple[int, int]) -> Ids:
        """An image's label, (H, W) uint8 native ids.

        Args:
            files: bytes by path, with `PREFIX` for those of the folder; with `or_coarse` also the release's label.

        Raises:
            BadFileError: a file cannot be used, or is not of the image's size.
        """

        def read(path: str, decode: Callable[[bytes], npt.NDArray[Any]], remap: Remap | None) -> npt.NDArray[Any]:
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
        label = read(ids, released, data.remap) if self.coding == "release" else read(ids, decode_ids, own)
        if self.or_coarse:
            coarse = read(pair.label or "", released, data.remap)
            for i in map(data.taxonomy.classes.index, self.or_coarse):
                label[coarse == i] = i
        unsure = read(confidences, _shares, None) < self.threshold
        top, left, bottom, right = self.region or (0, 0, *size_hw)
        ignored = np.ones(size_hw, np.bool_)
        ignored[top:bottom, left:right] = unsure[top:bottom, left:right]
        label[ignored] = IGNORE_INDEX
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
    spec = AutoLabels() if path.is_dir() else parse(AutoLabels, read_yaml(path), at=str(path))
    folder = (path if path.is_dir() else path.parent) / spec.folder
    if not folder.is_dir():
        raise DataError(f"{path}: folder: {folder} is no folder; it should hold {spec.ids} and {spec.confidences}")
    for name in spec.or_coarse:
        if name not in data.taxonomy.classes:
            raise DataError(f"{path}: or_coarse: no class {name!r}; {did_you_mean(name, data.taxonomy.classes)}")
    told = None
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        told = parse_json((folder / "classes.json").read_bytes())["classes"]  # of `predict`
    if spec.coding == "native" and told not in (None, list(data.taxonomy.classes)):
        what = f"the ids are of {shown(told)}, not of the classes of {data.taxonomy.name}"
        raise DataError(f"{folder}/classes.json: {what}; predict with --taxonomy {data.taxonomy.name}")
    return replace(spec, folder=str(folder))


def _shares(data: bytes) -> npt.NDArray[np.float64]:
    """(H, W) confidences, 0 to 1."""
    values = decode_ids(data)
    if values.dtype not in (np.uint8, np.uint16):
        raise UnreadableError(f"confidences of {values.dtype}, expected 8 or 16 bits")
    return values / np.iinfo(values.dtype).max
