"""Pictures and labels of a shard set as arrays: whole, or of a picture no more rows than are asked for."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from shards.errors import DataError
from shards.reader import ShardSet
from shards.slices import CHROMA_ROWS, slice_jpeg, unpack_label


def read_image(
    shards: ShardSet, i: int, rows: tuple[int, int], size_hw: tuple[int, int], *, where: str
) -> tuple[npt.NDArray[np.uint8], int]:
    """Rows [first, last) of sample `i`'s image, exactly as in the whole; perhaps with some before and after them.

    Args:
        size_hw: what the index says of the whole.
        where: names the sample in errors.

    Returns:
        (rows, W, 3) uint8 RGB, and the number of its first row.

    Raises:
        DataError: it cannot be read or decoded, or has another size.
    """
    height, width = size_hw
    top, bottom = max(rows[0] - CHROMA_ROWS, 0), min(rows[1] + CHROMA_ROWS, height)
    part = shards.read_rows(i, "image", top, bottom)
    if part is None:
        image, first, expected = decode_image(shards.read(i, "image"), where=where), 0, size_hw
    else:
        image, first = decode_image(slice_jpeg(part), where=where), part.top
        expected = (part.bottom - part.top, width)
    _check_size("image", image.shape[:2], expected, shards, where)
    return image, first


def read_label(
    shards: ShardSet, i: int, member: str, rows: tuple[int, int], size_hw: tuple[int, int], *, where: str
) -> npt.NDArray[np.uint8]:
    """(H, W) uint8 ids of sample `i`; rows outside [first, last) may be 0 in place of what they are.

    Raises:
        DataError: as `read_image`.
    """
    part = shards.read_rows(i, member, *rows)
    if part is None:
        label = decode_label(shards.read(i, member), where=where)
        _check_size("label", label.shape, size_hw, shards, where)
        return label
    strips = unpack_label(part, size_hw[1])
    if strips is None:
        raise DataError(
            f"{where}: the label is not of the size that the index says; run `segstream verify {shards.url}`"
        )
    # As large as the whole, which costs nothing where it is not touched: OpenCV rounds by place.
    label = np.zeros(size_hw, np.uint8)
    label[part.top : part.bottom] = strips
    return label


def decode_image(data: bytes, *, where: str) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of a JPEG or PNG; orientation tags are not looked at, shards hold none.

    Raises:
        DataError: it is no image; `where` names it.
    """
    image = _decode(data, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise DataError(f"{where}: the image cannot be decoded; convert the dataset again")
    return image


def decode_label(data: bytes, *, where: str) -> npt.NDArray[np.uint8]:
    """(H, W) uint8 ids of an 8-bit, one-channel PNG.

    Raises:
        DataError: it is something else; `where` names it.
    """
    label = _decode(data, cv2.IMREAD_UNCHANGED)
    if label is None or label.ndim != 2 or label.dtype != np.uint8:
        found = "nothing readable" if label is None else f"{label.dtype} of shape {label.shape}"
        raise DataError(f"{where}: the label holds {found}, not one byte a pixel; convert the dataset again")
    return label


def _decode(data: bytes, flags: int) -> npt.NDArray[Any] | None:
    # OpenCV raises on an empty buffer and answers None to any other that it cannot read.
    return cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None


def _check_size(what: str, found: tuple[int, ...], expected: tuple[int, int], shards: ShardSet, where: str) -> None:
    if found != tuple(expected):
        raise DataError(
            f"{where}: {what} {found} and index {tuple(expected)} differ in size; run `segstream verify {shards.url}`"
        )
