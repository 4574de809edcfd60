"""Files whose rows can be had in blocks: where the blocks lie, and a few of them made a whole again.

A baseline JPEG with a restart marker after every row of its MCUs decodes from any of them. A label PNG as
`shards.png.encode_label` writes it holds 64 rows in each IDAT chunk, which unpack on their own.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shards.png import LABEL_ROWS, SIGNATURE

_MARKER = re.compile(rb"\xff[\x01-\xfe]")  # FF 00 is a data byte of 255
_RESTARTS, _EOI = tuple(bytes((0xFF, 0xD0 + i)) for i in range(8)), b"\xff\xd9"
_SAMPLING = {(1, 1), (2, 1), (1, 2), (2, 2)}  # luma blocks per chroma block, (horizontal, vertical)
CHROMA_ROWS = 1
"""A row of pixels takes colour from one more row of chroma above or below it at most, which at these samplings is
never further away than the next row of pixels: at a cut, that one row alone differs from the whole picture's."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """The blocks of a member; they follow one another, and the head precedes them."""

    rows: int
    """Rows of pixels in each block but the last."""
    sizes: tuple[int, ...]
    """Bytes: first of the head, then of every block."""
    crc32s: tuple[int, ...]
    """Of the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """Some neighbouring rows of a member, still encoded."""

    top: int
    bottom: int
    """First row, and the one after the last."""
    head: bytes
    blocks: tuple[bytes, ...]


def jpeg_blocks(data: bytes) -> Blocks | None:
    """Where the rows of MCUs lie; None for a JPEG that cannot be taken apart (progressive, grey, no such markers)."""
    segments = dict(_segments(data))
    if not segments.keys() >= {0xC0, 0xDD, 0xDA}:
        return None
    depth, height, width, components = struct.unpack_from(">BHHB", data, segments[0xC0] + 4)
    if (depth, components, data[segments[0xDA] + 4]) != (8, 3, 3):
        return None
    luma, *chroma = (data[segments[0xC0] + 11 + 3 * i] for i in range(3))
    across, down = luma >> 4, luma & 15
    if (across, down) not in _SAMPLING or chroma != [0x11, 0x11]:
        return None
    interval = struct.unpack_from(">H", data, segments[0xDD] + 4)[0]
    start = segments[0xDA] + 2 + struct.unpack_from(">H", data, segments[0xDA] + 2)[0]
    markers = [(found[0], found.end()) for found in _MARKER.finditer(data, start)]
    number = -(-height // (8 * down))
    expected = [*(_RESTARTS[i % 8] for i in range(number - 1)), _EOI]
    if interval != -(-width // (8 * across)) or [marker for marker, _ in markers] != expected:
        return None
    return _blocks(data, 8 * down, [start, *(end for _, end in markers)])


def label_blocks(data: bytes) -> Blocks:
    """Where the strips of a label lie that `encode_label` wrote."""
    ends: list[int] = []
    at = len(SIGNATURE)
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"IDAT":
            ends += [at] if not ends else []
            ends.append(at + 12 + length)
        at += 12 + length
    return _blocks(data, LABEL_ROWS, ends)


def slice_jpeg(part: Slice) -> bytes:
    """A JPEG of just these rows."""
    head = bytearray(part.head)
    frame = dict(_segments(part.head))[0xC0]
    struct.pack_into(">H", head, frame + 5, part.bottom - part.top)
    pieces = [bytes(head)]
    for i, block in enumerate(part.blocks):
        pieces += [block[:-2], _RESTARTS[i % 8]]  # every block ends with a marker
    return b"".join([*pieces[:-1], _EOI])


def unpack_label(part: Slice, width: int) -> npt.NDArray[np.uint8] | None:
    """(rows, width) ids; None if they are not as many as they should be."""
    packed = [block[8:-4] for block in part.blocks]
    if part.top == 0:
        packed[0] = packed[0][2:]  # zlib's own header
    rows = b"".join(zlib.decompressobj(-zlib.MAX_WBITS).decompress(strip) for strip in packed)
    if len(rows) != (part.bottom - part.top) * (width + 1):
        return None
    return np.frombuffer(rows, np.uint8).reshape(-1, width + 1)[:, 1:]


def _segments(data: bytes) -> Iterator[tuple[int, int]]:
    """(kind, place) of a JPEG's marker segments, to the first scan."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        yield data[at + 1], at
        if data[at + 1] == 0xDA:
            return
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]


def _blocks(data: bytes, rows: int, ends: Sequence[int]) -> Blocks:
    starts = (0, *ends[:-1])
    return Blocks(
        rows,
        tuple(end - start for start, end in zip(starts, ends, strict=True)),
        tuple(zlib.crc32(data[start:end]) for start, end in zip(starts, ends, strict=True)),
    )
