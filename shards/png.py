"""PNG as label maps need it: every checksum tested on the way in, rows unfiltered on the way out.

Decoders stop at the last row they can draw and so pass over damage; a label map must not be half one. Unfiltered
rows (filter type 0) of large flat regions compress better than filtered ones and decode twice as fast.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY = 0  # PNG colour type


class BrokenPngError(Exception):
    """The bytes are not one whole PNG file; the message says why."""


def check(data: bytes) -> tuple[int, int]:
    """Test the structure and the CRC of every chunk.

    Returns:
        (bit depth, PNG colour type) as the header states them.

    Raises:
        BrokenPngError: cut short, a failed checksum, or not a PNG at all.
    """
    if not data.startswith(SIGNATURE):
        raise BrokenPngError("not a PNG file")
    header = b""
    for kind, body in _chunks(data):
        header = header or body
        if kind == b"IEND":
            return header[8], header[9]
    raise BrokenPngError("truncated PNG (no end marker)")


def encode_label(label: npt.NDArray[np.uint8]) -> bytes:
    """An 8-bit one-channel PNG of a (H, W) uint8 array; the same array gives the same bytes."""
    height, width = label.shape
    rows = np.zeros((height, width + 1), np.uint8)  # column 0: filter type "none"
    rows[:, 1:] = label
    header = struct.pack(">IIBBBBB", width, height, 8, _GREY, 0, 0, 0)
    return SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(rows.data, 6)) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _chunks(data: bytes) -> Iterator[tuple[bytes, Any]]:
    view, at = memoryview(data), len(SIGNATURE)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            break
        if zlib.crc32(view[at + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            raise BrokenPngError(f"damaged PNG (checksum of chunk {kind.decode('latin-1')!r} at byte {at} fails)")
        yield kind, view[at + 8 : end - 4]
        at = end
    raise BrokenPngError(f"truncated PNG ({len(data)} bytes)")
