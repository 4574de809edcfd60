"""A checkpoint of any kind, ready to segment: its network, the classes to answer in, and how to look at images."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from segstream.model.config import InferConfig, used
from segstream.model.distributed import pick_device
from segstream.model.inference.infer import Image, Projection, id_type, logits, predict, segment
from segstream.model.networks.hmsa import HMSA
from segstream.model.networks.weights import file_sha256, load_any
from segstream.shards.errors import DataError, UsageError
from segstream.shards.schema import parse
from segstream.shards.taxonomy import Taxonomy, native_taxonomy, projection, server_ids

REFERENCE_CROP = 713  # windows of MSeg's evaluation, whatever a model was trained at
ONE_SCALE = (1.0,)
NATIVE = "native"  # as a shorter side: the image's own


class Predictor:
    """Images to ids of a taxonomy.

        predictor = Predictor("runs/union-universal/final.pt", short_side=480)
        label = predictor(image)
        label, probabilities = predictor(image, probabilities=True)

    Attributes:
        net: in eval mode, on its device.
        meta: what the checkpoint says of the network; see `model.networks.weights.load_any`.
        taxonomy: the classes of the answers.
        projection: (classes, K) from the network's classes to these; None where they are the same.
        config: how images are segmented.
        sha256: of the checkpoint.
    """

    def __init__(
        self,
        checkpoint: str | Path,
        *,
        arch: str | None = None,
        num_classes: int | None = None,
        taxonomy: str | None = None,
        ids: str | None = None,
        on_device: bool = True,
        **infer: Any,
    ) -> None:
        """Read a checkpoint and move its network to its device.

        Args:
            checkpoint: a file of a run, such as `final.pt`, or another file of a network's weights.
            arch: architecture of a file that is not recognised.
            num_classes: how many classes the file must have.
            taxonomy: answer in the classes of this dataset, or `universal`; None: the model's own.
            ids: of a model of Cityscapes' 19 classes: answer in those of this taxonomy that have their names.
            on_device: move the network to its device, in the memory layout that is fastest there; otherwise it stays
                as it was read, on the CPU.
            infer: fields of `InferConfig`; what is left out or None is as the checkpoint's recipe says. A `short_side`
                of "native" keeps the images' own size.

        Raises:
            UsageError: there is no such taxonomy or architecture, or the file has no head.
            DataError: the checkpoint cannot be used, or not with these options.
        """
        self.net, self.meta = load_any(checkpoint, arch, num_classes)
        self.config = infer_config(checkpoint, self.net, self.meta, **infer)
        self.taxonomy, self.projection = _classes(checkpoint, self.meta, taxonomy)
        if ids is not None:
            target = native_taxonomy(ids)
            known = server_ids(ids, (self.taxonomy.name, self.taxonomy.digest))
            matrix = np.eye(target.num_classes, dtype=np.float32)[:, known]
            self.taxonomy, self.projection = target, matrix if self.projection is None else matrix @ self.projection
        device = pick_device(self.config.device)
        if on_device:
            self.net = self.net.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.sha256 = file_sha256(checkpoint)

    def __call__(self, images: Image | Sequence[Image], *, probabilities: bool = False) -> Any:
        """Segment one image, or several of one size together.

        Args:
            images: (H, W, 3) uint8 RGB.
            probabilities: also give (classes, H, W) float32 probabilities.

        Returns:
            (H, W) ids, uint8 or, above 255 classes, uint16; with `probabilities` (ids, probabilities); of several
            images a list of that.

        Raises:
            DataError: `n_scales` do not fit the network, or a GPU's memory is too small.
        """
        if isinstance(images, np.ndarray):
            return self([images], probabilities=probabilities)[0]
        with _enough_memory(images):
            if not probabilities:
                return [ids for (ids,) in segment(self.net, images, [self.projection], self.config)]
            scores = [p.cpu().numpy() for (p,) in predict(self.net, images, [self.projection], self.config)]
            return [(p.argmax(axis=0).astype(id_type(len(p))), p) for p in scores]

    def logits(self, images: Sequence[Image]) -> list[npt.NDArray[np.float32]]:
        """(classes, H, W) scores before softmax, see `infer.logits`."""
        with _enough_memory(images):
            return [scores.cpu().numpy() for scores in logits(self.net, images, self.projection, self.config)]

    @property
    def identity(self) -> dict[str, Any]:
        """JSON-able: what decides the result for an image."""
        inference = {name: value for name, value in used(self.config).items() if name not in ("batch", "device")}
        named = {"name": self.taxonomy.name, "digest": self.taxonomy.digest}
        return {"checkpoint": self.sha256, "taxonomy": named, "inference": inference}


@contextmanager
def _enough_memory(images: Sequence[Image]) -> Iterator[None]:
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        height, width = images[0].shape[:2]
        raise DataError(
            f"{len(images)} images of {width} x {height} do not fit into the GPU's memory; use a smaller --batch, "
            f"--crop, --short-side or --long-side"
        ) from error


def infer_config(checkpoint: str | Path, net: nn.Module, meta: Mapping[str, Any], **asked: Any) -> InferConfig:
    """How a checkpoint segments: as asked for, else as its recipe says, else as its authors do.

    Asking for windows (`scales`, `crop`) leaves HMSA's own scales, see `with_own_scales`.

    Args:
        asked: fields of `InferConfig`; None is not asked for, a `short_side` of "native" the images' own size. One of
            the two sides takes the place of the recipe's other.

    Raises:
        DataError: a value is out of range, or `scales` and `n_scales` are asked for together.
        UsageError: both sides are asked for.
    """
    recipe = meta.get("recipe", {}).get("eval")
    values = {"crop": REFERENCE_CROP} if recipe is None else recipe
    stored = parse(InferConfig, values, at=f"{checkpoint}: recipe.eval")
    given = {name: None if value == NATIVE else value for name, value in asked.items() if value is not None}
    if sides := given.keys() & {"short_side", "long_side"}:
        if len(sides) > 1:
            raise UsageError("short_side and long_side: one gives the other; ask for one of the two")
        given = {"short_side": None, "long_side": None} | given
    if "n_scales" in given:
        given = {"scales": ONE_SCALE} | given
    elif given.keys() & {"scales", "crop"}:
        given["n_scales"] = None
    else:
        stored = with_own_scales(stored, net)
    return dataclasses.replace(stored, **given)


def with_own_scales(config: InferConfig, net: nn.Module) -> InferConfig:
    """What a recipe says, and what it leaves to the network: HMSA's combine scales of their own on whole images."""
    if isinstance(net, HMSA) and config.n_scales is None and config.scales == ONE_SCALE:
        return dataclasses.replace(config, n_scales=net.n_scales)
    return config


def _classes(checkpoint: str | Path, meta: Mapping[str, Any], name: str | None) -> tuple[Taxonomy, Projection]:
    """The taxonomy to answer in, and the way there from the network's classes."""
    count, own = meta["num_classes"], None
    if "taxonomy" in meta:
        own = parse(Taxonomy, meta["taxonomy"], at=f"{checkpoint}: taxonomy")
        if own.num_classes != count:
            raise DataError(
                f"{checkpoint}: the network has {count} classes, its taxonomy {own.name!r} has {own.num_classes}; "
                f"train again, or restore the file"
            )
    if name is None or (own is not None and name == own.name):
        return own or Taxonomy(name="unnamed", kind="own", classes=tuple(f"class {i}" for i in range(count))), None
    target = native_taxonomy(name)
    if own is None:  # the user says what they are
        if target.num_classes != count:
            raise DataError(f"{checkpoint}: {count} classes, {name} has {target.num_classes}; name another --taxonomy")
        return target, None
    return target, None if own.digest == target.digest else projection(own, target)
