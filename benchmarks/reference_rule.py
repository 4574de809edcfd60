"""The augmentation rule as it is usually written, step by step on the whole canvas: to be compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from segstream.pipeline.config import AugmentConfig
from segstream.pipeline.geometry import Draw, draw
from segstream.shards.taxonomy import IGNORE_INDEX

MEAN_RGB, STD_RGB = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """The rule for files as they are stored, with the draws of a stream. It pickles."""

    augment: AugmentConfig
    seed: int
    batch: int

    def tensors(self, number: int, image: bytes, label: bytes) -> tuple[Tensor, Tensor]:
        """(3, h, w) float32 normalised and (h, w) int64: what slot `number` of the run makes of two files."""
        cv2.setNumThreads(1)  # each worker is a process of its own
        crop, ids = self.crop(number, image, label)
        pixels = torch.from_numpy(np.ascontiguousarray(crop.transpose(2, 0, 1)))
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN_RGB, STD_RGB))
        return pixels.sub_(mean).div_(std), torch.from_numpy(ids).long()

    def crop(self, number: int, image: bytes, label: bytes) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """(h, w, 3) float32 of 0..255 and (h, w) ids."""
        pixels = decode_picture(image)
        ids: Any = cv2.imdecode(np.frombuffer(label, np.uint8), cv2.IMREAD_UNCHANGED)
        step, slot = divmod(number, self.batch)
        size_hw = (ids.shape[0], ids.shape[1])
        drawn = draw(self.augment, seed=self.seed, step=step, slot=slot, size_hw=size_hw)
        return step_by_step(pixels, ids, drawn, self.augment.short_side)


def decode_picture(data: bytes) -> npt.NDArray[np.uint8]:
    """(H, W, 3) RGB of a whole picture, by OpenCV."""
    pixels: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    return pixels  # type: ignore[no-any-return]


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
