"""Label files in, stored values out: a form is read only where it is known how Pillow shows what is stored."""

import re
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
from PIL import ImageFile

from segstream.shards.codecs.images import Rgb, decoding, loaded, opened, orientation, pages, raw_mode, rgb
from segstream.shards.errors import UnreadableError

Ids = npt.NDArray[np.integer[Any]]
"""(H, W)."""

_ADVICE = "save labels as PNGs of one channel, 8 or 16 bits, whose values are ids"
_FORMATS = ("PNG", "TIFF", "BMP", "GIF", "PPM")
_EXACT = ("raw", "group3", "group4", "tiff_ccitt")  # TIFF compression, in either order of bits
_BYTEWISE = ("packbits", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "lzma", "zstd")  # exact in the usual one
_FILL_ORDER, _ORIENTATION, _SAMPLE_FORMAT = 266, 274, 339  # tags of TIFF
_SIGNED = 2  # sample format
# Names that Pillow has for what is stored: grey of some bits, perhaps inverted, which it spreads over 0..255; then what
# it leaves alone.
_GREY = re.compile(r"([1L])(?:;([24]?)(I?)R?)?")
_ALONE = re.compile(r"P(?:;[124]?R?)?|I;(?:12|16[BNR]?|16B?S|32N|32B?S)|F;32B?F")
_CHANNELS = ("RGB", "RGBA", "LA", "BGR", "BGRX", "BGRA")  # of 8 bits
_DECODERS = {"ppm": "a PPM not of 0..255", "ppm_plain": "a plain-text PNM", "bmp_rle": "a run-length encoded BMP"}
_PNM_ROW = {"1": 1 / 8, "L": 1, "I": 2, "RGB": 3, "F": 4}  # bytes a pixel, rows rounded up


def decode_ids(data: bytes) -> Ids:
    """Decode a label file to the values that it stores; of a palette image the indices, not the colours.

    Besides one channel of integers, signed too, are read: whole numbers stored as floats; ids in equal channels, with
    an alpha that is the same everywhere.

    Returns:
        (H, W) of uint8, or of the type that holds what the file may.

    Raises:
        UnreadableError: it does not decode, or is of a form whose values are not ids for certain; the message names it.
    """
    with _opened(data) as image, decoding(image.format or ""):
        ids = _stored(image, data)
        if image.mode == "P":
            _check_indices(ids, len(image.getpalette() or ()) // 3)
    return ids


def decode_rgb(data: bytes) -> Rgb:
    """Decode a label file whose colours are codes, (H, W, 3) uint8; no conversion of any kind.

    Raises:
        UnreadableError: it does not decode, or has not three channels of 8 bits.
    """
    with _opened(data) as image:  # with a palette: the same colours, stored otherwise
        if image.mode != "P" and (image.mode, raw_mode(image)) != ("RGB", "RGB"):
            _refuse(f"{_form(image)}, expected RGB colour codes of 8 bits", "save it as an 8-bit RGB PNG")
        return rgb(image)


def decode_palette(data: bytes) -> tuple[npt.NDArray[np.uint8], Rgb]:
    """Decode a label file with a palette.

    Returns:
        (H, W) uint8 indices, and the palette's colours as (entries, 3) uint8.

    Raises:
        UnreadableError: it does not decode, or is without a palette.
    """
    with _opened(data) as image:
        if image.mode != "P":
            raise UnreadableError(f"label is {_form(image)}, expected a palette")
        return np.asarray(loaded(image)), np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)


def palette_of(data: bytes) -> bytes:
    """The RGB palette of a label file, of a PNG by its header alone; empty if it has none.

    Raises:
        UnreadableError: there is no such header.
    """
    with opened(data, rows=False) as image:
        if image.mode != "P" or image.palette is None:
            return b""
        with decoding(image.format or ""):
            return bytes(image.palette.palette if image.palette.rawmode == "RGB" else image.getpalette("RGB") or ())


def _opened(data: bytes) -> ImageFile.ImageFile:
    """One page, upright, of a format that keeps values."""
    image = opened(data)
    form = image.format
    if form not in _FORMATS:
        _refuse(f"of format {form}, whose values need not be those that were saved")
    tags = getattr(image, "tag_v2", {})
    compression, order = image.info.get("compression"), tags.get(_FILL_ORDER, 1)
    if form == "TIFF" and compression not in (_EXACT if order != 1 else _EXACT + _BYTEWISE):
        _refuse(f"a TIFF of {compression} compression and bit order {order}, which may change values")
    if max(orientation(image), tags.get(_ORIENTATION, 1)) > 1:
        _refuse("stored turned or mirrored (orientation tag), and it is not certain that its image is too")
    with decoding(form):
        if pages(image) > 1:
            _refuse(f"a {form} of several pages, of which one would be taken")
    if form == "GIF" and image.tile[0][1] != (0, 0, *image.size):
        _refuse("a GIF whose frame does not cover its canvas")
    return image


def _stored(image: ImageFile.ImageFile, data: bytes) -> Ids:
    decoder, _, offset, _ = image.tile[0]
    height, width = image.height, image.width
    raw = image.mode if image.format == "GIF" else raw_mode(image)
    sample_format = (*getattr(image, "tag_v2", {}).get(_SAMPLE_FORMAT, ()), 1)[0]
    if image.format == "BMP" and decoder == "raw" and raw[0] in "1LP":
        return _bmp_indices(image, data, offset)
    if image.format == "PPM" and decoder != "ppm_plain":
        end = offset + height * -int(-width * _PNM_ROW[image.mode] // 1)
        if data[end:].strip(b"\0 \t\r\n"):
            _refuse(f"a PNM with {len(data) - end} bytes after its first picture")
        if decoder == "ppm" and raw == "L":  # of another largest value, by which Pillow stretches
            values = np.frombuffer(data, ">u2" if image.mode == "I" else np.uint8, height * width, offset)
            return values.reshape(height, width).astype(np.uint16)
    if decoder in _DECODERS:
        _refuse(_DECODERS[decoder])
    shown: npt.NDArray[Any] = np.asarray(loaded(image))
    if grey := _GREY.fullmatch(raw):
        largest = 2 ** int(grey[2] or {"1": 1, "L": 8}[grey[1]]) - 1
        ids: Ids = shown.astype(np.uint8) if grey[1] == "1" else shown // (255 // largest) if largest < 255 else shown
        ids = largest - ids if grey[3] else ids
        return ids.view(np.int8) if sample_format == _SIGNED else ids
    if raw in _CHANNELS:
        return _of_equal_channels(shown, image)
    if not _ALONE.fullmatch(raw) or image.mode not in ("P", "I", "F", "I;16", "I;16B"):
        _refuse(_form(image, raw))
    if shown.dtype.kind == "f":
        return _whole_numbers(shown)
    native = shown.astype(shown.dtype.newbyteorder("="), copy=False)
    return native.view(np.uint32) if raw == "I;32N" and sample_format != _SIGNED else native


def _bmp_indices(image: ImageFile.ImageFile, data: bytes, offset: int) -> Ids:
    """Read here: where the palette is a ramp of grey, Pillow takes 4 and 8 bits a pixel for another number of bits."""
    long_header = data[14] >= 40
    bits = data[28 if long_header else 24]
    colours = (int.from_bytes(data[46:50], "little") if long_header else 0) or 1 << bits
    stride = (image.width * bits + 31) // 32 * 4
    packed: npt.NDArray[Any] = np.frombuffer(data, np.uint8, stride * image.height, offset).reshape(-1, stride)
    if bits < 8:
        packed = np.packbits(np.unpackbits(packed, axis=1).reshape(image.height, -1, bits), axis=2)[..., 0] >> 8 - bits
    top_first = long_header and data[25] >> 7  # a negative height
    ids: Ids = packed[:: 1 if top_first else -1, : image.width]
    _check_indices(ids, colours)
    return np.ascontiguousarray(ids)


def _check_indices(ids: Ids, colours: int) -> None:
    if ids.max() >= colours:
        raise UnreadableError(f"label with index {ids.max()} and a palette of {colours} colours")


def _of_equal_channels(shown: npt.NDArray[np.uint8], image: ImageFile.ImageFile) -> Ids:
    last = shown.shape[2] - image.mode.endswith("A")
    values, alpha = shown[..., 0], shown[..., last:]
    if (shown[..., 1:last] != values[..., None]).any():
        _refuse(f"{_form(image)}: colours, not one value a pixel", f"map colours to ids first, then {_ADVICE}")
    if alpha.size and alpha.min() != alpha.max():
        _refuse(f"{_form(image)} whose transparency differs from pixel to pixel")
    return np.ascontiguousarray(values)


def _whole_numbers(shown: npt.NDArray[np.floating]) -> Ids:
    whole = np.isfinite(shown) & (shown == np.rint(shown)) & (abs(shown) <= 1 << 24)  # float32 tells apart no more
    if not whole.all():
        _refuse(f"of floats that are not whole numbers, the first {shown[~whole][0]:g}")
    return shown.astype(np.int32)


def _form(image: ImageFile.ImageFile, raw: str = "") -> str:
    return f"a {image.format} of mode {image.mode}" + f" ({raw})" * bool(raw)


def _refuse(what: str, advice: str = _ADVICE) -> NoReturn:
    raise UnreadableError(f"label is {what}; {advice}")
