"""Pictures and labels of a shard set: whole, or no more of them than is asked for; and their bytes as arrays."""

import math
import struct
import threading
import weakref
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg

from segstream.pipeline.geometry import Box
from segstream.shards.codecs.images import check_size
from segstream.shards.codecs.jpeg import SIGNATURE as JPEG
from segstream.shards.codecs.png import SIGNATURE as PNG
from segstream.shards.codecs.row_blocks import CHROMA_PX, cut_jpeg, unpack_label
from segstream.shards.errors import DataError, UnreadableError
from segstream.shards.format.reader import ShardSet
from segstream.shards.taxonomy import IGNORE_INDEX, Remap, Taxonomy, remap_label

_PNG_SIZE = slice(16, 24)  # of a file: width and height


class Arrays:
    """Arrays of one shape and type. Safe to use from several threads."""

    def __init__(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
        self._shape, self._dtype = shape, dtype
        self._memory: list[npt.NDArray[Any]] = []
        self._lent: list[weakref.ref[npt.NDArray[Any]]] = []
        """Of each memory, the array that was made of it last."""
        self._lock = threading.Lock()

    def take(self) -> npt.NDArray[Any]:
        """One with anything in it, the caller's own; its memory comes back when nothing holds any part of it any more.

        Views, tensors and whatever is made of them hold it.
        """
        with self._lock:
            # Looked for, not told by a callback: Ctrl-C would be lost in one, as any exception is.
            place = next((i for i, lent in enumerate(self._lent) if lent() is None), len(self._lent))
            if place == len(self._memory):
                self._memory.append(np.empty(self._shape, self._dtype))
            # Views of an array hold the array that owns the memory, past those between; but not past a memoryview.
            array = np.frombuffer(self._memory[place].data.cast("B"), self._dtype)
            self._lent[place : place + 1] = [weakref.ref(array)]
        return array.reshape(self._shape)


class Scratch(threading.local):
    """Arrays for what is made on the way, kept by each thread that uses it."""

    def __init__(self) -> None:
        self._memory: dict[str, npt.NDArray[np.uint8]] = {}

    def take(self, name: str, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
        """A uint8 array with anything in it, valid until this thread takes that name again."""
        size = math.prod(shape)
        memory = self._memory.get(name)
        if memory is None or memory.size < size:
            memory = self._memory[name] = np.empty(size, np.uint8)
        return memory[:size].reshape(shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedRegion:
    """A rectangle of a stored image, or all of it, still encoded."""

    data: bytes
    """A JPEG or PNG file of just this."""
    box: Box
    """Where it lies in the whole."""

    @property
    def size_hw(self) -> tuple[int, int]:
        """Pixels."""
        top, left, bottom, right = self.box
        return bottom - top, right - left


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelView:
    """How the labels of one dataset are read."""

    member: str
    """The stored label it starts from."""
    taxonomy: Taxonomy
    """Of the labels that come out."""
    remap: Remap | None = None
    """From the member's ids to the taxonomy's; None where they are the same."""

    @property
    def ids(self) -> npt.NDArray[Any]:
        """(stored ids,): what comes out of each; 255 or -1 where that is no class."""
        return np.arange(self.taxonomy.num_classes) if self.remap is None else self.remap.table

    @property
    def dtype(self) -> type[np.uint8 | np.int16]:
        """Of the labels that come out: int16 where an id does not fit a byte."""
        return np.uint8 if self.taxonomy.num_classes <= IGNORE_INDEX else np.int16

    def of(self, label_HW: npt.NDArray[np.uint8], *, where: str) -> npt.NDArray[Any]:
        """The label in `taxonomy`; `where` names the sample in errors.

        A look-up commutes with nearest-neighbour sampling, so engines crop first and have less to look up.

        Raises:
            DataError: an id that the dataset's taxonomy does not have.
        """
        return label_HW if self.remap is None else remap_label(label_HW, self.remap, where=where)


def read_image(shards: ShardSet, i: int, box: Box, size_hw: tuple[int, int]) -> EncodedRegion:
    """A part of sample `i`'s image in which the pixels of `box` are exactly those of the whole.

    Args:
        size_hw: what the index says of the whole.

    Raises:
        DataError: it cannot be read.
    """
    height, width = size_hw
    top, bottom = max(box[0] - CHROMA_PX, 0), min(box[2] + CHROMA_PX, height)
    rows = shards.read_rows(i, "image", top, bottom)
    if rows is None:
        return EncodedRegion(data=shards.read(i, "image"), box=(0, 0, height, width))
    data, (left, right) = cut_jpeg(rows, max(box[1] - CHROMA_PX, 0), min(box[3] + CHROMA_PX, width))
    return EncodedRegion(data=data, box=(rows.top, left, rows.bottom, right))


def decode_region(part: EncodedRegion, scratch: Scratch, *, where: str) -> npt.NDArray[np.uint8]:
    """(h, w, 3) or (h, w, 4) uint8, RGB first: whichever its decoder makes at no cost; perhaps in `scratch`.

    Raises:
        DataError: it cannot be decoded, or has another size than the index says; `where` names it.
    """
    image = decode_image(part.data, where=where, scratch=scratch)
    _check_size("image", image.shape[:2], part.size_hw, where)
    return image


def read_label(
    shards: ShardSet, i: int, member: str, rows: tuple[int, int], size_hw: tuple[int, int], *, where: str
) -> tuple[npt.NDArray[np.uint8], int]:
    """Rows [first, last) of sample `i`'s label, perhaps with some before and after them.

    Returns:
        (rows, W) uint8 ids, and the number of the first row.

    Raises:
        DataError: it cannot be read or decoded, or has another size; `where` names it.
    """
    part = shards.read_rows(i, member, *rows)
    if part is None:
        label = decode_label(shards.read(i, member), where=where)
        _check_size("label", label.shape, size_hw, where)
        return label, 0
    strips = unpack_label(part, size_hw[1])
    if strips is None:
        raise DataError(f"{where}: the label is not of the size that the index says; run `segstream verify` on the set")
    return strips, part.top


def decode_image(data: bytes, *, where: str, scratch: Scratch | None = None) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of a JPEG or PNG; orientation tags are not looked at, shards hold none.

    Args:
        where: names it in errors.
        scratch: where it may lie; then that of a JPEG is (H, W, 4), with anything fourth.

    Raises:
        DataError: it is no image.
    """
    jpeg = data.startswith(JPEG)
    image = _decode_jpeg(data, scratch, where) if jpeg else _decode(data, cv2.IMREAD_COLOR_RGB, where)
    if image is None:
        raise DataError(f"{where}: the image cannot be decoded; convert the dataset again")
    return image


def decode_label(data: bytes, *, where: str) -> npt.NDArray[np.uint8]:
    """(H, W) uint8 ids of an 8-bit, one-channel PNG.

    Raises:
        DataError: it is something else; `where` names it.
    """
    label = _decode(data, cv2.IMREAD_UNCHANGED, where)
    if label is None or label.ndim != 2 or label.dtype != np.uint8:
        found = "nothing readable" if label is None else f"{label.dtype} of shape {label.shape}"
        raise DataError(f"{where}: the label holds {found}, not one byte a pixel; convert the dataset again")
    return label


def _decode(data: bytes, flags: int, where: str) -> npt.NDArray[Any] | None:
    if not data.startswith(PNG) or len(data) < _PNG_SIZE.stop:
        return None
    _check_pixels(struct.unpack(">II", data[_PNG_SIZE])[::-1], where)
    flags |= cv2.IMREAD_IGNORE_ORIENTATION if flags != cv2.IMREAD_UNCHANGED else 0
    return cv2.imdecode(np.frombuffer(data, np.uint8), flags)


def _check_pixels(size_hw: tuple[int, ...], where: str) -> None:
    try:
        check_size((size_hw[0], size_hw[1]))
    except UnreadableError as error:
        raise DataError(f"{where}: {error}") from error


def _decode_jpeg(data: bytes, scratch: Scratch | None, where: str) -> npt.NDArray[np.uint8] | None:
    # The same decoder as OpenCV's, bit for bit. OpenCV copies what it made, into memory new each time: twice as slow.
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(data)
        _check_pixels((height, width), where)
        buffer = None if scratch is None else scratch.take("image", (height, width, 4))
        colours = "RGB" if scratch is None else "RGBA"
        pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(data, colours, buffer=buffer)
    except ValueError:  # also of damage that the decoder could draw over
        return None
    return pixels


def _check_size(what: str, found: tuple[int, ...], expected: tuple[int, int], where: str) -> None:
    if found != tuple(expected):
        raise DataError(
            f"{where}: {what} {found} and index {tuple(expected)} differ in size; run `segstream verify` on the set"
        )
