"""PNG as label maps need it: every checksum tested on the way in, rows unfiltered on the way out.

Decoders stop at the last row they can draw and so pass over damage; a label map must not be half one. Unfiltered
rows (filter type 0) of large flat regions compress better than filtered ones and decode twice as fast.
"""

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from segstream.shards.errors import UnreadableError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY = 0  # PNG colour type
_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_LAST_FILTER = 4
LABEL_ROWS = 64
"""Of a label, in each IDAT chunk."""
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_PIECE = 1 << 16  # packed bytes unpacked at a time: at most 66 MB
_ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


class Header(NamedTuple):
    """What a PNG says of itself."""

    size_hw: tuple[int, int]
    depth: int
    """Bits per channel."""
    colour_type: int
    """As the format numbers them: 0 grey, 2 RGB, 3 palette, 4 grey with alpha, 6 RGBA."""
    interlaced: bool
    exif: bytes = b""


def check(data: bytes) -> Header:
    """Test the structure and the CRC of every chunk.

    Raises:
        UnreadableError: cut short, a failed checksum, chunks or a header that cannot be, or not a PNG at all.
    """
    if not data.startswith(SIGNATURE):
        raise UnreadableError("not a PNG file")
    head = exif = b""
    for kind, body in _chunks(data):
        if (kind == b"IHDR") == bool(head) or (kind == b"IHDR" and len(body) != 13):
            raise UnreadableError("PNG with not one header of 13 bytes, first of all")
        if kind[0] < ord("a") and kind not in _CRITICAL:
            raise UnreadableError(f"PNG with unknown chunk {kind.decode('latin-1')!r} that may not be passed over")
        head = head or bytes(body)
        exif = bytes(body) if kind == b"eXIf" else exif
        if kind == b"IEND":
            width, height, depth, colour_type, packed, filtered, interlaced = struct.unpack(">IIBBBBB", head)
            known = depth in _DEPTHS.get(colour_type, ()) and (packed, filtered, interlaced & ~1) == (0, 0, 0)
            if not (known and width and height):
                raise UnreadableError(f"PNG with a header that no PNG has (its 13 bytes are {head.hex()})")
            return Header((height, width), depth, colour_type, bool(interlaced), exif)
    raise UnreadableError("truncated PNG (no end marker)")


def check_rows(data: bytes, header: Header) -> None:
    """Test that a checked file's pixel data unpacks to just the rows that its header says, each validly filtered.

    Decoders leave rows black that the data does not reach.

    Raises:
        UnreadableError: it does not.
    """
    bits = header.depth * _CHANNELS[header.colour_type]
    passes = [(rows, 1 + -(-columns * bits // 8)) for rows, columns in _passes(header) if columns]
    expected = sum(rows * row for rows, row in passes)
    unpacker, done = zlib.decompressobj(), 0
    for body in (body for kind, body in _chunks(data, until=b"IEND") if kind == b"IDAT"):
        for place in range(0, len(body), _PIECE):
            try:
                found = unpacker.decompress(body[place : place + _PIECE])
            except zlib.error as error:
                raise UnreadableError(f"PNG whose pixel data does not unpack ({error})") from error
            if any(max(types, default=0) > _LAST_FILTER for types in _filter_types(found, done, passes)):
                raise UnreadableError("PNG with a row without a filter type")
            done += len(found)
            if done > expected:  # and nobody knows how much more
                raise UnreadableError(f"PNG with pixel data of over {expected} bytes, its header says {expected}")
    if done != expected or not unpacker.eof:
        raise UnreadableError(f"PNG with pixel data of {done} bytes, its header says {expected}")


def _filter_types(found: bytes, done: int, passes: Sequence[tuple[int, int]]) -> Iterator[bytes]:
    """First bytes of the rows that begin in `found`, which `done` bytes precede; by pass, (rows, bytes of each)."""
    top = 0
    for rows, row in passes:
        first = top + -(-max(done - top, 0) // row) * row
        top += rows * row
        yield found[first - done : max(top - done, 0) : row]


def _passes(header: Header) -> Iterator[tuple[int, int]]:
    """(rows, columns) of each pass; one without interlacing."""
    height, width = header.size_hw
    for top, left, down, right in _ADAM7 if header.interlaced else ((0, 0, 1, 1),):
        yield -(-max(height - top, 0) // down), -(-max(width - left, 0) // right)


def encode_label(label: npt.NDArray[np.uint8]) -> bytes:
    """An 8-bit one-channel PNG of a (H, W) uint8 array; the same array gives the same bytes.

    Every `LABEL_ROWS` rows are a chunk of their own, which unpacks without those before it.
    """
    height, width = label.shape
    rows = np.zeros((height, width + 1), np.uint8)  # column 0: filter type "none"
    rows[:, 1:] = label
    header = struct.pack(">IIBBBBB", width, height, 8, _GREY, 0, 0, 0)
    packer = zlib.compressobj(strategy=zlib.Z_RLE)  # rows are runs: a third of the time, for a few more bytes
    strips = []
    for top in range(0, height, LABEL_ROWS):
        strip = packer.compress(rows[top : top + LABEL_ROWS].data)
        last = top + LABEL_ROWS >= height
        strips.append(_chunk(b"IDAT", strip + packer.flush(zlib.Z_FINISH if last else zlib.Z_FULL_FLUSH)))
    return b"".join([SIGNATURE, _chunk(b"IHDR", header), *strips, _chunk(b"IEND", b"")])


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _chunks(data: bytes, until: bytes = b"") -> Iterator[tuple[bytes, Any]]:
    view, at = memoryview(data), len(SIGNATURE)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            break
        if zlib.crc32(view[at + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            raise UnreadableError(f"PNG with a chunk {kind.decode('latin-1')!r} at byte {at} that fails its checksum")
        if kind == until:
            return
        yield kind, view[at + 8 : end - 4]
        at = end
    raise UnreadableError(f"truncated PNG ({len(data)} bytes)")
