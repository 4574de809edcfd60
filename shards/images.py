"""Source pictures and label files in, members out: strict decoding, EXIF orientation, the shorter-side limit."""

from __future__ import annotations

import io
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from shards import png

Rgb = npt.NDArray[np.uint8]
"""(H, W, 3) uint8, RGB."""

_COLOUR_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "La", "RGBa"}
_ID_MODES = {"1", "L", "P", "I", "I;16", "I;16B"}
_ORIENTATION = 0x0112  # EXIF tag


class UnreadableError(Exception):
    """A file cannot be decoded as what it should be; the message says why."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded source image."""

    pixels: Rgb
    as_is: str | None
    """`jpg` or `png` where the file's own bytes already are this RGB picture, the right way up; else None."""


def decode_picture(data: bytes) -> Picture:
    """Decode an image file completely, EXIF orientation applied.

    Raises:
        UnreadableError: truncated, damaged, of an unknown format, or of more than 8 bits a channel.
    """
    with _opened(data) as image:
        if image.mode not in _COLOUR_MODES:
            raise UnreadableError(f"image of mode {image.mode}, not 8-bit RGB or grey")
        suffix = {"JPEG": "jpg", "PNG": "png"}.get(image.format or "")
        plain = image.mode == "RGB" and "transparency" not in image.info and _eight_bits(data)
        upright = image.getexif().get(_ORIENTATION, 1) == 1
        turned = image if upright else ImageOps.exif_transpose(image)
        pixels = np.asarray(turned.convert("RGB"))
    return Picture(pixels=pixels, as_is=suffix if plain and upright else None)


def decode_ids(data: bytes) -> npt.NDArray[np.integer]:
    """Decode a one-channel label file; of a palette image the indices, not the colours.

    Returns:
        (H, W) uint8 or wider.

    Raises:
        UnreadableError: truncated, damaged, or with colour channels.
    """
    with _opened(data) as image:
        if image.format == "JPEG":
            raise UnreadableError("label is a JPEG, whose values are not exact")
        if image.mode not in _ID_MODES:
            raise UnreadableError(f"label of mode {image.mode}, expected one channel of class ids")
        ids = np.asarray(image)
        grey = image.format == "PNG" and image.mode == "L"
    if ids.dtype == np.bool_:
        return ids.astype(np.uint8)
    depth = data[24] if grey else 8
    return ids // (255 // (2**depth - 1)) if depth < 8 else ids  # pillow spreads 2 and 4 bits of grey over 0..255


def decode_rgb(data: bytes) -> Rgb:
    """Decode a label file whose colours are codes, (H, W, 3) uint8; no conversion of any kind.

    Raises:
        UnreadableError: truncated, damaged, or not three channels of 8 bits.
    """
    with _opened(data) as image:
        if image.mode == "P":  # the same colours, stored with a palette
            return np.asarray(image.convert("RGB"))
        if image.mode != "RGB":
            raise UnreadableError(f"label of mode {image.mode}, expected RGB colour codes")
        return np.asarray(image)


def fit(size_hw: tuple[int, int], short_side: int | None) -> tuple[int, int]:
    """Size after limiting the shorter side; never larger than it was."""
    short = min(size_hw)
    if short_side is None or short <= short_side:
        return size_hw
    return tuple(short_side if side == short else round(side * short_side / short) for side in size_hw)  # type: ignore[return-value]


def resize_picture(pixels: Rgb, size_hw: tuple[int, int]) -> Rgb:
    """Shrink by averaging the pixels that each new one covers."""
    return cv2.resize(pixels, size_hw[::-1], interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def resize_label(label: npt.NDArray[np.uint8], size_hw: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Shrink by taking the id at each new pixel's centre (OpenCV's plain nearest is off by half a pixel)."""
    return cv2.resize(label, size_hw[::-1], interpolation=cv2.INTER_NEAREST_EXACT)  # type: ignore[return-value]


def encode_jpeg(pixels: Rgb, quality: int) -> bytes:
    """JPEG of an RGB picture."""
    return _encode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])


def encode_png(pixels: Rgb) -> bytes:
    """Lossless PNG of an RGB picture."""
    return _encode(".png", pixels, [])


def _encode(suffix: str, pixels: Rgb, options: list[int]) -> bytes:
    done, data = cv2.imencode(suffix, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise RuntimeError(f"OpenCV cannot encode {pixels.shape} as {suffix}")
    return data.tobytes()


def _eight_bits(data: bytes) -> bool:
    return not data.startswith(png.SIGNATURE) or data[24] == 8


def _opened(data: bytes) -> Image.Image:
    """Open and decode in full: pillow is the decoder that refuses what is cut short."""
    try:
        if data.startswith(png.SIGNATURE):
            png.check(data)
        image = Image.open(io.BytesIO(data))
        image.load()
    except png.BrokenPngError as error:
        raise UnreadableError(str(error)) from error
    except UnidentifiedImageError as error:
        raise UnreadableError("empty file" if not data else "not an image file that can be read") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UnreadableError(f"damaged or truncated ({error})") from error
    return image
