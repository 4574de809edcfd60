"""Files whose rows can be had in blocks: where the blocks lie, and a few of them made a whole again.

A baseline JPEG decodes from any restart marker. With one at the end of every row of its MCUs, some of the rows make a
picture; with more of them, at equal steps, the picture is cut into tiles, and so do any neighbouring tiles. A label PNG
as `png.encode_label` writes it holds 64 rows in each IDAT chunk, which unpack on their own.
"""

import itertools
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from zlib_ng import zlib_ng

from segstream.shards.codecs.png import LABEL_ROWS, SIGNATURE

_MARKER = re.compile(rb"\xff[\x01-\xfe]")  # FF 00 is a data byte of 255
_RESTARTS, _EOI = tuple(bytes((0xFF, 0xD0 + i)) for i in range(8)), b"\xff\xd9"
_SAMPLING = {(1, 1), (2, 1), (1, 2), (2, 2)}  # luma blocks per chroma block, (horizontal, vertical)
_LAST = b"\x03\x00"  # an empty last block of deflate: strips but the last of a label do not end the stream
CHROMA_PX = 1
"""A pixel takes colour from one more chroma sample on each side at most, which at these samplings is never further away
than the next pixel: at a cut, that one row or column alone differs from the whole picture's."""


class Blocks(NamedTuple):
    """The blocks of a member; they follow one another, and the head precedes them."""

    rows: int
    """Rows of pixels in each block but the last."""
    sizes: tuple[int, ...]
    """Bytes: first of the head, then of every block."""
    crc32s: tuple[int, ...]
    """Of the same."""

    def fit(self, data: bytes, height: int) -> bool:
        """Whether they are what a member of so many rows of pixels is made of."""
        ends = list(itertools.accumulate(self.sizes))
        return len(ends) == 1 + -(-height // self.rows) and self == _blocks(data, self.rows, ends)


class EncodedRows(NamedTuple):
    """Some neighbouring rows of a member, still encoded."""

    top: int
    bottom: int
    """First row, and the one after the last."""
    head: bytes
    blocks: tuple[bytes, ...]


def jpeg_blocks(data: bytes) -> Blocks | None:
    """Where the rows of MCUs lie; None for a JPEG that cannot be taken apart (progressive, grey, no such markers)."""
    grid = _grid(data)
    if grid is None:
        return None
    start = grid.scan + 2 + struct.unpack_from(">H", data, grid.scan + 2)[0]
    markers = [(found[0], found.end()) for found in _MARKER.finditer(data, start)]
    number = grid.tiles * -(-grid.height // grid.tile_hw[0])
    if [marker for marker, _ in markers] != [*(_RESTARTS[i % 8] for i in range(number - 1)), _EOI]:
        return None
    return _blocks(data, grid.tile_hw[0], [start, *(end for _, end in markers[grid.tiles - 1 :: grid.tiles])])


def label_blocks(data: bytes) -> Blocks:
    """Where the strips of a label lie that `encode_label` wrote."""
    ends: list[int] = []
    at = len(SIGNATURE)
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"IDAT":
            ends += [at + 12 + length] if ends else [at, at + 12 + length]
        at += 12 + length
    return _blocks(data, LABEL_ROWS, ends)


def cut_jpeg(rows: EncodedRows, left: int, right: int) -> tuple[bytes, tuple[int, int]]:
    """A JPEG of just these rows, and of no more columns than are needed for those from `left` to `right` - 1.

    Returns:
        The file, and its first column and the one after the last.
    """
    grid = _grid(rows.head)
    assert grid is not None  # or the rows had no blocks
    wide, tiles = grid.tile_hw[1], grid.tiles
    first, last = left // wide, min(-(-right // wide), tiles)
    columns = first * wide, min(last * wide, grid.width)
    head = bytearray(rows.head)
    struct.pack_into(">HH", head, grid.frame + 5, rows.bottom - rows.top, columns[1] - columns[0])
    data = b"".join(rows.blocks)
    ends = _marker_places(data)
    starts = [0, *(end + 2 for end in ends)]
    chosen = (tile for row in range(0, len(ends), tiles) for tile in range(row + first, row + last))
    pieces = [bytes(head)]
    for number, tile in enumerate(chosen):
        pieces += [data[starts[tile] : ends[tile]], _RESTARTS[number % 8]]
    return b"".join([*pieces[:-1], _EOI]), columns


def unpack_label(rows: EncodedRows, width: int) -> npt.NDArray[np.uint8] | None:
    """(rows, width) ids; None if they are not as many as they should be."""
    packed = [block[8:-4] for block in rows.blocks]
    if rows.top == 0:
        packed[0] = packed[0][2:]  # zlib's own header
    size = (rows.bottom - rows.top) * (width + 1)
    unpacker = zlib_ng.decompressobj(-zlib.MAX_WBITS)  # in 0.4 of zlib's time
    pixels: bytes = unpacker.decompress(b"".join([*packed, _LAST]), size + 1)  # no more, whatever a block holds
    return np.frombuffer(pixels, np.uint8).reshape(-1, width + 1)[:, 1:] if len(pixels) == size else None


class _Grid(NamedTuple):
    """What a JPEG's head says of how it is cut."""

    height: int
    width: int
    tile_hw: tuple[int, int]
    """Pixels between restart markers."""
    tiles: int
    """In a row."""
    frame: int
    """Where the frame's segment begins."""
    scan: int


def _grid(data: bytes) -> _Grid | None:
    """None where no tiles begin with the rows, or colour would need more than CHROMA_PX."""
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
    units = -(-width // (8 * across))
    if not interval or units % interval:
        return None
    tile_hw = 8 * down, 8 * across * interval
    return _Grid(height, width, tile_hw, units // interval, frame=segments[0xC0], scan=segments[0xDA])


def _marker_places(data: bytes) -> list[int]:
    """Where the restart markers, and that of the file's end, lie in tiles: no data byte looks like one."""
    values = np.frombuffer(data, np.uint8)
    found = np.flatnonzero(values[:-1] == 0xFF)  # three quarters of the time of searching for one after another
    places: list[int] = found[values[found + 1] & 0xF0 == 0xD0].tolist()
    return places


def _segments(data: bytes) -> Iterator[tuple[int, int]]:
    """(kind, place) of a JPEG's marker segments, to the first scan."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        yield data[at + 1], at
        if data[at + 1] == 0xDA:
            return
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]


def _blocks(data: bytes, rows: int, ends: Sequence[int]) -> Blocks:
    pieces = [data[start:end] for start, end in itertools.pairwise((0, *ends))]
    return Blocks(rows, tuple(map(len, pieces)), tuple(map(zlib.crc32, pieces)))
