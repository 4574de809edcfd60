"""The sample of any (step, slot): order, reading, decoding and augmentation put together, without state."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.augment_opencv import augment, rows_touched
from pipeline.config import AugmentConfig, DataConfig, shares
from pipeline.decode import read_image, read_label
from pipeline.geometry import Draw, draw
from pipeline.labels import class_shares, label_views
from pipeline.order import Order, Pick
from shards.errors import DataError
from shards.reader import ShardSet, open_shards
from shards.taxonomy import Taxonomy

FINGERPRINT_VERSION = 1  # raise it when the same configuration comes to mean other samples


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One crop, and everything that led to it."""

    image: npt.NDArray[np.uint8]
    """(h, w, 3) RGB."""
    label: npt.NDArray[Any]
    """(h, w) ids of the mix's taxonomy, 255 ignored; uint8 or int16."""
    key: str
    pick: Pick
    draw: Draw


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """Which sample comes, and what will be done to it, before any of its pixels is read."""

    key: str
    pick: Pick
    draw: Draw
    shard: str
    """File name of its shard."""
    position: int
    """Its place in the shard, from 0."""


class Samples:
    """The mix as one function of step and slot. Safe to use from several threads."""

    def __init__(self, data: DataConfig, augment: AugmentConfig, *, seed: int, batch: int) -> None:
        """Open every shard set of the mix; no sample is read yet.

        Args:
            seed: of the run, 0 to 2**64 - 1.
            batch: samples of a step, all ranks together.

        Raises:
            DataError: a shard set that is missing or incomplete, labels that do not fit together, or an order that
                cannot be laid out.
        """
        self._data, self._augment, self._seed = data, augment, seed
        self._weights = shares(data.mix)
        self._sets: dict[str, ShardSet] = {}
        try:
            for name in data.mix:
                self._sets[name] = _open(data, name)
            manifests = {name: shard_set.manifest for name, shard_set in self._sets.items()}
            self._views = label_views(data.taxonomy, manifests)
            sizes = {name: shard_set.shard_sizes for name, shard_set in self._sets.items()}
            self.order = Order(sizes, self._weights, seed=seed, batch=batch, window=data.window)
        except BaseException:
            self.close()
            raise
        self.datasets = tuple(data.mix)
        self.weights = tuple(float(w) for w in self._weights.values())
        self.class_shares = class_shares(self._views, manifests, self._weights)
        view = self._views[self.datasets[0]]
        self.taxonomy: Taxonomy = view.taxonomy
        self.label_dtype = view.dtype

    @property
    def fingerprint(self) -> dict[str, Any]:
        """All that decides which sample comes when and how it looks, JSON-able; equal means equal batches."""
        mix = [
            {"dataset": name, "weight": str(weight), "manifest": self._sets[name].manifest.digest}
            for name, weight in self._weights.items()
        ]
        augmentation = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self._augment).items()}
        return {
            "version": FINGERPRINT_VERSION,
            "mix": mix,
            "split": self._data.split,
            "taxonomy": self.taxonomy.digest,
            "labels": self._views[self.datasets[0]].member,
            "window": self._data.window,
            "seed": self._seed,
            "batch": self.order.batch,
            "augment": augmentation | {"crop": list(self._augment.crop_hw)},
        }

    def find(self, step: int, slot: int) -> Found:
        """What `at` would make its sample of; reads the index of a shard at most.

        Raises:
            DataError: an index that is missing or damaged.
        """
        pick = self.order.at(step, slot)
        shard_set = self._sets[pick.dataset]
        entry = shard_set.entry(pick.index)
        return Found(
            key=entry.key,
            pick=pick,
            draw=draw(self._augment, seed=self._seed, step=step, slot=slot, size_hw=entry.size_hw),
            shard=shard_set.manifest.shards[pick.shard].name,
            position=pick.index - sum(shard_set.shard_sizes[: pick.shard]),
        )

    def at(self, step: int, slot: int) -> Sample:
        """The sample in place `slot` of global step `step`.

        Raises:
            DataError: it cannot be read; names dataset, shard and key.
        """
        pick = self.order.at(step, slot)
        shard_set = self._sets[pick.dataset]
        where = f"{shard_set.url}: shard {pick.shard}, sample {pick.index} (step {step}, slot {slot})"
        try:
            entry = shard_set.entry(pick.index)
            where = f"{shard_set.url}: shard {pick.shard}, sample {entry.key} (step {step}, slot {slot})"
            view = self._views[pick.dataset]
            size_hw = entry.size_hw
            drawn = draw(self._augment, seed=self._seed, step=step, slot=slot, size_hw=size_hw)
            rows = rows_touched(drawn)
            image, first_row = read_image(shard_set, pick.index, rows, size_hw, where=where)
            label = read_label(shard_set, pick.index, view.member, rows, size_hw, where=where)
            image_crop, label_crop = augment(image, label, drawn, first_row=first_row)
            label_crop = view.of(label_crop, where=where)
        except OSError as error:
            raise DataError(f"{where}: cannot be read ({error}); check that the store can be reached") from error
        except Exception as error:
            error.add_note(f"while loading {where}")
            raise
        return Sample(image=image_crop, label=label_crop, key=entry.key, pick=pick, draw=drawn)

    def close(self) -> None:
        """Let go of the shard sets."""
        for shard_set in self._sets.values():
            shard_set.close()


def _open(data: DataConfig, name: str) -> ShardSet:
    url = data.url(name)
    if "://" not in url and not Path(url).is_dir():
        raise DataError(
            f"data.mix.{name}: no shards at {url}; make them with "
            f"`segstream shard {name} --raw RAW --split {data.split} --out {data.shards}`, or correct data.shards"
        )
    return open_shards(url)
