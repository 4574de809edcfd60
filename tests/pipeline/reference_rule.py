"""The augmentation rule done the slow way, step by step in floating point, on parameters that were drawn elsewhere."""

from __future__ import annotations

import cv2
import numpy as np

from segstream.pipeline.geometry import Draw

MEAN = (123.675, 116.28, 103.53)


def resize_nearest(
    label: np.ndarray, size_hw: tuple[int, int], factors_hw: tuple[float, float], centre: float = 0.5
) -> np.ndarray:
    """Nearest by pixel centres; with `centre` 0, OpenCV's INTER_NEAREST, which takes each pixel's upper left corner."""
    rows, columns = (
        np.minimum(np.floor((np.arange(size) + centre) / factor).astype(int), side - 1)
        for size, factor, side in zip(size_hw, factors_hw, label.shape, strict=True)
    )
    return label[rows][:, columns]


def step_by_step(
    image: np.ndarray, label: np.ndarray, draw: Draw, short_side: int | None, *, centre: float = 0.5
) -> tuple[np.ndarray, np.ndarray]:
    """Image as float32, label as it came. `centre`: see `resize_nearest`."""
    image = image.astype(np.float32)
    if short_side is not None:
        height, width = label.shape
        factor = short_side / min(height, width)
        size_wh = (short_side, int(height * factor)) if width <= height else (int(width * factor), short_side)
        image = cv2.resize(image, size_wh, interpolation=cv2.INTER_LINEAR)
        label = resize_nearest(label, (size_wh[1], size_wh[0]), (size_wh[1] / height, size_wh[0] / width), centre)
    image = cv2.resize(image, None, fx=draw.scale, fy=draw.scale, interpolation=cv2.INTER_LINEAR)
    label = resize_nearest(label, image.shape[:2], (draw.scale, draw.scale), centre)
    height, width = label.shape
    if draw.angle_deg:
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), draw.angle_deg, 1)
        constant, size_wh = cv2.BORDER_CONSTANT, (width, height)
        image = cv2.warpAffine(image, matrix, size_wh, flags=cv2.INTER_LINEAR, borderMode=constant, borderValue=MEAN)
        label = cv2.warpAffine(label, matrix, size_wh, flags=cv2.INTER_NEAREST, borderMode=constant, borderValue=255)
    if draw.blur:
        image = cv2.GaussianBlur(image, (5, 5), 0)
    if draw.flip:
        image, label = image[:, ::-1], label[:, ::-1]
    crop_h, crop_w = draw.crop_hw
    pad_h, pad_w = max(crop_h - height, 0), max(crop_w - width, 0)
    pads = ((pad_h // 2, pad_h - pad_h // 2), (pad_w // 2, pad_w - pad_w // 2))
    image = np.stack([np.pad(image[..., c], pads, constant_values=MEAN[c]) for c in range(3)], -1)
    label = np.pad(label, pads, constant_values=255)
    top, left = draw.corner_px[0] + pads[0][0], draw.corner_px[1] + pads[1][0]
    return image[top : top + crop_h, left : left + crop_w], label[top : top + crop_h, left : left + crop_w]
