"""The loader, decoding alone, and the augmentation rule done step by step: what `segstream bench loader` times.

All three get the same samples, and the first and last the same draws, from a shard set drawn for the purpose.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from pipeline.config import AugmentConfig, DataConfig, LoaderConfig
from pipeline.decode import decode_image, decode_label
from pipeline.geometry import Draw
from pipeline.loader import Loader
from pipeline.samples import Samples
from shards.convert import ConvertRequest, convert
from shards.reader import ShardSet, open_shards
from shards.taxonomy import IGNORE_INDEX

NAME = "drawn"
PICTURES = 8
CLASSES = 150
WORKERS = 2  # processes of the DataLoader, as the reference has for each GPU
MEAN_RGB, STD_RGB = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Stored images and the crops to make of them."""

    name: str
    source_hw: tuple[int, int]
    short_side: int
    crop: int


SETTINGS = (
    Setting(name="480-473", source_hw=(480, 640), short_side=480, crop=473),
    Setting(name="1080-713", source_hw=(1080, 1440), short_side=1080, crop=713),
    Setting(name="city-713", source_hw=(1024, 2048), short_side=1080, crop=713),
)


@dataclass(frozen=True, slots=True)
class Case:
    """One setting, ready to run. Every call of a run makes the next crops of the same stream."""

    runs: dict[str, Callable[[], None]]
    """ours, reference_rule, decode_only."""
    image_difference: float
    """Mean absolute difference of ours and the reference rule, of 255."""
    label_agreement: float
    """Share of label pixels that are equal."""


@contextmanager
def prepare(setting: Setting, folder: Path, *, crops: int, batch: int, threads: int) -> Iterator[Case]:
    """Draw pictures, convert them, and start everything.

    Args:
        folder: an empty one, for pictures and shards.
        crops: what one call of a run makes; a multiple of `batch`.
        threads: of the loader, and of decoding alone.
    """
    draw_pictures(folder / "raw", setting.source_hw)
    convert(ConvertRequest(dataset=str(folder / "raw" / "set.yaml"), split="train", out=str(folder / "shards")))
    data = DataConfig(shards=str(folder / "shards"), mix={NAME: 1}, taxonomy="native")
    rule = AugmentConfig(short_side=setting.short_side, crop=setting.crop)
    steps = StepByStep(data, rule, batch)
    turn = _Turn(crops)
    reference = DataLoader(
        steps,
        batch_size=batch,
        sampler=turn,
        num_workers=WORKERS,
        persistent_workers=True,
        multiprocessing_context="spawn",  # forking a process that has threads can hang
    )
    starts = itertools.count(0, crops // batch)
    decoded = itertools.count(0, crops)
    config = LoaderConfig(batch=batch, threads=threads)
    with Loader(data, rule, config, seed=0) as loader, ThreadPoolExecutor(threads) as pool:

        def ours() -> None:
            start = next(starts)
            for _ in loader.batches(start, start + crops // batch):
                pass

        def reference_rule() -> None:
            for _ in reference:
                pass
            turn.start += crops

        def decode_only() -> None:
            start = next(decoded)
            for _ in pool.map(steps.decode, range(start, start + crops)):
                pass

        runs = {"ours": ours, "reference_rule": reference_rule, "decode_only": decode_only}
        yield Case(runs, *_compare(steps, data, rule, batch))


class StepByStep(Dataset[tuple[Tensor, Tensor]]):
    """The stream's crops as they are usually made: one sample a call, every step on the whole canvas."""

    def __init__(self, data: DataConfig, rule: AugmentConfig, batch: int) -> None:
        self._data, self._rule, self._batch = data, rule, batch
        cv2.setNumThreads(1)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        """(3, h, w) float32 normalised and (h, w) int64 of slot `number` of the run."""
        cv2.setNumThreads(1)  # each worker is a process of its own
        image, label = self.crop(number)
        pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN_RGB, STD_RGB))
        return pixels.sub_(mean).div_(std), torch.from_numpy(label).long()

    def crop(self, number: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """(h, w, 3) float32 of 0..255 and (h, w) ids."""
        found = self._samples.find(*divmod(number, self._batch))
        label = decode_label(self._shards.read(found.pick.index, "native"), where=found.key)
        data = np.frombuffer(self._shards.read(found.pick.index, "image"), np.uint8)
        image = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)
        return step_by_step(image, label, found.draw, self._rule.short_side)

    def decode(self, number: int) -> npt.NDArray[np.uint8]:
        """The whole stored image, (H, W, 3), by the loader's decoder."""
        pick = self._samples.order.at(*divmod(number, self._batch))
        return decode_image(self._shards.read(pick.index, "image"), where=self._shards.url)

    # Opened where they are used: neither travels to another process.
    @functools.cached_property
    def _samples(self) -> Samples:
        return Samples(self._data, self._rule, seed=0, batch=self._batch)

    @functools.cached_property
    def _shards(self) -> ShardSet:
        return open_shards(self._data.url(NAME))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_samples", "_shards")}


def step_by_step(
    image: npt.NDArray[Any], label: npt.NDArray[Any], draw: Draw, short_side: int | None
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """The rule as it is usually written: resize, scale, turn, blur, mirror, pad, crop; the image in float32.

    Source: MSeg (Lambert et al., CVPR 2020).
    """
    height, width = label.shape
    factor = (short_side or min(height, width)) / min(height, width)
    size_wh = (int(width * factor), int(height * factor))
    image = cv2.resize(image.astype(np.float32), size_wh, interpolation=cv2.INTER_LINEAR)
    label = cv2.resize(label, size_wh, interpolation=cv2.INTER_NEAREST)
    image = cv2.resize(image, None, fx=draw.scale, fy=draw.scale, interpolation=cv2.INTER_LINEAR)
    label = cv2.resize(label, None, fx=draw.scale, fy=draw.scale, interpolation=cv2.INTER_NEAREST)
    height, width = label.shape
    if draw.angle_deg:
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), draw.angle_deg, 1)
        image = cv2.warpAffine(image, turn, (width, height), flags=cv2.INTER_LINEAR, borderValue=MEAN_RGB)
        label = cv2.warpAffine(label, turn, (width, height), flags=cv2.INTER_NEAREST, borderValue=(IGNORE_INDEX,))
    if draw.blur:
        image = cv2.GaussianBlur(image, (5, 5), 0)
    if draw.flip:
        image, label = cv2.flip(image, 1), cv2.flip(label, 1)
    pad_h, pad_w = max(draw.crop_hw[0] - height, 0), max(draw.crop_hw[1] - width, 0)
    sides = (pad_h // 2, pad_h - pad_h // 2, pad_w // 2, pad_w - pad_w // 2)
    if any(sides):
        image = cv2.copyMakeBorder(image, *sides, cv2.BORDER_CONSTANT, value=MEAN_RGB)
        label = cv2.copyMakeBorder(label, *sides, cv2.BORDER_CONSTANT, value=(IGNORE_INDEX,))
    top, left = draw.corner_px[0] + sides[0], draw.corner_px[1] + sides[2]
    window = (slice(top, top + draw.crop_hw[0]), slice(left, left + draw.crop_hw[1]))
    return image[window], label[window]


def draw_pictures(folder: Path, size_hw: tuple[int, int]) -> None:
    """A dataset with detail at every size, as photographs have: 2.7 bits a pixel as JPEG; labels are patches.

    PNGs, so that conversion encodes them, as it does what is larger than `short_side` or no JPEG.
    """
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    names = "".join(f"  - {{name: c{i}}}\n" for i in range(CLASSES))
    splits = "splits: {train: {images: images/*.png, labels: labels/*.png}}\n"
    text = f"name: {NAME}\nlicence: none, drawn\nroot: {folder}\n{splits}classes:\n{names}"
    (folder / "set.yaml").write_text(text, encoding="utf-8")
    height, width = size_hw
    for number in range(PICTURES):
        rng = np.random.default_rng(number)
        image = np.full((height, width, 3), 128, np.float32)
        for octave in range(2, 8):  # pixels are not independent in a photograph
            coarse = rng.normal(0, 8 * 1.2**octave, (-(-height // 2**octave), -(-width // 2**octave), 3))
            image += cv2.resize(coarse.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
        patches = rng.integers(0, CLASSES, (-(-height // 40), -(-width // 40)), np.uint8)
        label = cv2.resize(patches, (width, height), interpolation=cv2.INTER_NEAREST)
        pixels = image.clip(0, 255).astype(np.uint8)
        for path, array in ((f"images/{number}.png", pixels), (f"labels/{number}.png", label)):
            cv2.imwrite(str(folder / path), array)


class _Turn(Sampler[int]):
    """Numbers of the crops that the next round makes."""

    def __init__(self, crops: int) -> None:
        self.start, self._crops = 0, crops

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.start, self.start + self._crops))

    def __len__(self) -> int:
        return self._crops


def _compare(steps: StepByStep, data: DataConfig, rule: AugmentConfig, batch: int) -> tuple[float, float]:
    """(mean absolute difference of images, share of equal labels) over the first crops."""
    samples = Samples(data, rule, seed=0, batch=batch)
    apart, equal = [], []
    for number in range(PICTURES):
        image, label = steps.crop(number)
        ours = samples.at(*divmod(number, batch))
        apart.append(np.abs(ours.image - image).mean())
        equal.append((ours.label == label).mean())
    samples.close()
    return float(np.mean(apart)), float(np.mean(equal))
