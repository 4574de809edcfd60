"""Batches by way of DALI: which engine is taken and why, and samples whose image stays encoded for it."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import torch

from pipeline.augment_opencv import crop_label, rows_touched
from pipeline.config import EngineName
from pipeline.decode import read_label
from pipeline.geometry import Draw, draw
from pipeline.samples import Samples
from shards.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The engine of a loader."""

    dali: bool
    device_id: int | None
    """CUDA device of DALI; None for the host."""
    why: str
    """For the log: engine and reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """A sample whose image is still to be decoded and cropped."""

    image: bytes
    """A JPEG or PNG file."""
    label: npt.NDArray[Any]
    """(h, w), the crop."""
    key: str
    dataset: str
    draw: Draw


def choose(engine: EngineName) -> Choice:
    """What `loader.engine` means on this machine; `auto` takes DALI where there are a CUDA device and DALI."""
    cuda = torch.cuda.is_available()
    device_id = torch.cuda.current_device() if cuda else None
    if engine == "opencv":
        return Choice(dali=False, device_id=None, why="engine opencv, as the recipe says")
    if engine == "dali":
        on = f"on CUDA device {device_id}" if cuda else "on the processor, for want of a CUDA device: slow"
        return Choice(dali=True, device_id=device_id, why=f"engine dali, as the recipe says, {on}")
    if not cuda:
        return Choice(dali=False, device_id=None, why="engine opencv: no CUDA device")
    if importlib.util.find_spec("nvidia") is None or importlib.util.find_spec("nvidia.dali") is None:
        return Choice(
            dali=False, device_id=None, why='engine opencv: DALI is not installed (pip install "segstream[dali]")'
        )
    return Choice(dali=True, device_id=device_id, why=f"engine dali: CUDA device {device_id}, and DALI is installed")


class EncodedSamples(Samples):
    """The mix, with images as they are stored."""

    def encoded(self, step: int, slot: int) -> Encoded:
        """As `at`, but for the image; the label is cropped by OpenCV.

        Raises:
            DataError: it cannot be read; names dataset, shard and key.
        """
        pick = self.order.at(step, slot)
        shard_set, view = self._sets[pick.dataset], self._views[pick.dataset]
        where = f"{shard_set.url}: shard {pick.shard}, sample {pick.index} (step {step}, slot {slot})"
        try:
            entry = shard_set.entry(pick.index)
            where = f"{shard_set.url}: shard {pick.shard}, sample {entry.key} (step {step}, slot {slot})"
            drawn = draw(self._augment, seed=self._seed, step=step, slot=slot, size_hw=entry.size_hw)
            image = shard_set.read(pick.index, "image")
            label = read_label(shard_set, pick.index, view.member, rows_touched(drawn), entry.size_hw, where=where)
        except OSError as error:
            raise DataError(f"{where}: cannot be read ({error}); check that the store can be reached") from error
        return Encoded(
            image=image,
            label=view.of(crop_label(label, drawn), where=where),
            key=entry.key,
            dataset=pick.dataset,
            draw=drawn,
        )
