"""A checkpoint of any kind, ready to segment: its network, the classes to answer in, and how to look at images."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from segstream.colors import Rgb
from segstream.model.config import MULTI_SCALE, Device, InferConfig
from segstream.model.device import pick_device
from segstream.model.inference.infer import images_at_once, logits, segment
from segstream.model.networks.hmsa import HMSA
from segstream.model.networks.weights import file_sha256, load_any
from segstream.shards.errors import DataError, UsageError
from segstream.shards.schema import parse
from segstream.shards.taxonomy import Taxonomy, native_taxonomy, projection

REFERENCE_CROP = 713  # windows of MSeg's evaluation, whatever a model was trained at
ONE_SCALE = (1.0,)
NATIVE, MULTI = "native", "multi"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a user asks for; None leaves what the checkpoint's recipe says."""

    arch: str | None = None
    classes: int | None = None
    taxonomy: str | None = None
    short_side: str | None = None
    """A number, or `native`."""
    crop: int | None = None
    scales: str | None = None
    """Numbers with commas between, or `multi`."""
    n_scales: str | None = None
    flip: bool | None = None
    batch: int | None = None
    device: Device = "auto"

    def inference(self) -> dict[str, Any]:
        """Fields of `InferConfig`; None where nothing is asked for.

        Raises:
            UsageError: an option cannot be read.
        """
        return {
            "crop": self.crop,
            "scales": None if self.scales is None else scales_of(self.scales),
            "n_scales": None if self.n_scales is None else numbers("--n-scales", self.n_scales),
            "flip": self.flip,
            "batch": self.batch,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Segmenter:
    """Images to ids of `taxonomy`."""

    net: nn.Module
    taxonomy: Taxonomy
    matrix: npt.NDArray[np.float32] | None
    """(classes, K) from the network's classes; None where they are the same."""
    config: InferConfig
    sha256: str
    """Of the checkpoint."""

    @classmethod
    def load(cls, checkpoint: Path, settings: Settings) -> Segmenter:
        """Read a checkpoint, move it to its device.

        Raises:
            UsageError: an option cannot be read, or there is no such taxonomy.
            DataError: the checkpoint cannot be used, or not with these options.
        """
        net, meta = load_any(checkpoint, settings.arch, settings.classes)
        config = configured(checkpoint, net, meta, device=settings.device, **settings.inference())
        if settings.short_side is not None:
            config = dataclasses.replace(config, short_side=short_side(settings.short_side))
        taxonomy, matrix = _classes(checkpoint, meta, settings.taxonomy)
        device = pick_device(config.device)
        net = net.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return cls(net=net, taxonomy=taxonomy, matrix=matrix, config=config, sha256=file_sha256(checkpoint))

    @property
    def identity(self) -> dict[str, Any]:
        """JSON-able: what decides the result for an image."""
        inference = dataclasses.asdict(self.config)
        for name in ("batch", "device"):
            del inference[name]
        named = {"name": self.taxonomy.name, "digest": self.taxonomy.digest}
        return {"checkpoint": self.sha256, "taxonomy": named, "inference": inference}

    def at_once(self, size_hw: tuple[int, int]) -> int:
        """How many images of a size to segment together."""
        return images_at_once(size_hw, self.config)

    def labels(self, images: Sequence[Rgb]) -> list[npt.NDArray[np.integer]]:
        """(H, W, 3) images of one size to (H, W) ids, uint8 or, above 255 classes, uint16.

        Raises:
            DataError: `n_scales` do not fit the network, or a GPU's memory is too small.
        """
        with _memory(images):
            return [ids for (ids,) in segment(self.net, images, [self.matrix], self.config)]

    def logits(self, images: Sequence[Rgb]) -> list[npt.NDArray[np.float32]]:
        """(classes, H, W) scores before softmax, see `model.logits`."""
        with _memory(images):
            return [scores.cpu().numpy() for scores in logits(self.net, images, self.matrix, self.config)]


@contextmanager
def _memory(images: Sequence[Rgb]) -> Iterator[None]:
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        height, width = images[0].shape[:2]
        raise DataError(
            f"{len(images)} images of {width} x {height} do not fit into the GPU's memory; use a smaller --batch, "
            f"--crop or --short-side"
        ) from error


def configured(checkpoint: Path, net: nn.Module, meta: Mapping[str, Any], **asked: Any) -> InferConfig:
    """How a checkpoint segments: as asked for, else as its recipe says, else as its authors do.

    Asking for windows (`scales`, `crop`) leaves HMSA's own scales, see `by_default`.

    Args:
        asked: fields of `InferConfig`; None is not asked for.

    Raises:
        DataError: a value is out of range, or `scales` and `n_scales` are asked for together.
    """
    recipe = meta.get("recipe", {}).get("eval")
    stored = (
        InferConfig(crop=REFERENCE_CROP)
        if recipe is None
        else parse(InferConfig, recipe, at=f"{checkpoint}: recipe.eval")
    )
    given = {name: value for name, value in asked.items() if value is not None}
    if "n_scales" in given:
        return dataclasses.replace(stored, **({"scales": ONE_SCALE} | given))
    if given.keys() & {"scales", "crop"}:
        return dataclasses.replace(stored, n_scales=None, **given)
    return dataclasses.replace(by_default(stored, net), **given)


def by_default(stored: InferConfig, net: nn.Module) -> InferConfig:
    """What a recipe says, and what it leaves to the network: HMSA's combine scales of their own on whole images."""
    if isinstance(net, HMSA) and stored.n_scales is None and stored.scales == ONE_SCALE:
        return dataclasses.replace(stored, n_scales=net.n_scales)
    return stored


def own_classes(checkpoint: Path, meta: Mapping[str, Any]) -> Taxonomy | None:
    """The classes of a network; None if nothing says what they are.

    Raises:
        DataError: their number is not that of the network's.
    """
    if "taxonomy" not in meta:
        return None
    taxonomy, count = parse(Taxonomy, meta["taxonomy"], at=f"{checkpoint}: taxonomy"), meta["num_classes"]
    if taxonomy.num_classes != count:
        raise DataError(
            f"{checkpoint}: the network has {count} classes, its taxonomy {taxonomy.name!r} has "
            f"{taxonomy.num_classes}; train again, or restore the file"
        )
    return taxonomy


def _classes(
    checkpoint: Path, meta: dict[str, Any], name: str | None
) -> tuple[Taxonomy, npt.NDArray[np.float32] | None]:
    """The taxonomy to answer in, and the way there."""
    count = meta["num_classes"]
    own = own_classes(checkpoint, meta)
    if name is None or (own is not None and name == own.name):
        return own or Taxonomy(name="unnamed", kind="own", classes=tuple(f"class {i}" for i in range(count))), None
    target = native_taxonomy(name)
    if own is None:  # the user says what they are
        if target.num_classes != count:
            raise DataError(f"{checkpoint}: {count} classes, {name} has {target.num_classes}; name another --taxonomy")
        return target, None
    return target, None if own.digest == target.digest else projection(own, target)


def short_side(text: str) -> int | None:
    """Pixels, as an option gives them; None for an image's own size.

    Raises:
        UsageError: neither `native` nor a whole number above 0.
    """
    if text == NATIVE:
        return None
    if not text.isdecimal() or int(text) == 0:
        raise UsageError(f"--short-side {text!r}: give a number of pixels (360, 480, 720, 1080) or {NATIVE}")
    return int(text)


def scales_of(text: str) -> tuple[float, ...]:
    """Scales to average over, as an option gives them: numbers, or `multi`.

    Raises:
        UsageError: something else.
    """
    return MULTI_SCALE if text == MULTI else numbers("--scales", text)


def numbers(option: str, text: str) -> tuple[float, ...]:
    """Numbers with commas between, as an option gives them.

    Raises:
        UsageError: something else.
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{option} {text!r}: give numbers with commas between, e.g. 0.5,1.0") from None
