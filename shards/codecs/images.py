"""Source pictures and label files in, members out: strict decoding, EXIF orientation, the shorter-side limit."""

import contextlib
import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from segstream.shards.codecs import jpeg, png
from segstream.shards.codecs.formats import pillow_formats
from segstream.shards.errors import UnreadableError as UnreadableError

Rgb = npt.NDArray[np.uint8]
"""(H, W, 3) uint8, RGB."""

_COLOUR_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "La", "RGBa"}
_ID_MODES = {"1", "L", "P", "I", "I;16", "I;16B"}
_INEXACT = ("JPEG", "MPO", "JPEG2000", "AVIF", "HEIF")
_MCU_PX = 16  # side of a minimum coded unit at 4:2:0
_TILE_MCUS = range(12, 3, -1)  # widths of a tile, best first: markers grow the file by about 4 bytes a tile
_ORIENTATION = 0x0112  # EXIF tag


@dataclass(frozen=True, slots=True)
class Picture:
    """A source image that is whole."""

    size_hw: tuple[int, int]
    content: Rgb | bytes
    """The picture; or the file that holds it just so, decoded only when asked for."""
    as_is: str | None
    """`jpg` or `png` where the file's own bytes already are this RGB picture, the right way up; else None."""

    @property
    def pixels(self) -> Rgb:
        """(H, W, 3) uint8.

        Raises:
            UnreadableError: damage of a kind that shows in decoding only.
        """
        if not isinstance(self.content, bytes):
            return self.content
        if self.content.startswith(jpeg.SIGNATURE):
            return jpeg.decode(self.content)
        with _opened(self.content) as image:
            return _rgb(image)


def decode_picture(data: bytes) -> Picture:
    """Read an image file completely, EXIF orientation applied.

    Raises:
        UnreadableError: truncated, damaged, of an unknown format, or of more than 8 bits a channel.
    """
    with _opened(data) as image:
        if image.mode not in _COLOUR_MODES:
            raise UnreadableError(f"image of mode {image.mode}, not 8-bit RGB or grey")
        suffix = {"JPEG": "jpg", "PNG": "png"}.get(image.format or "")
        eight_bits = not data.startswith(png.SIGNATURE) or data[24] == 8
        plain = image.mode == "RGB" and "transparency" not in image.info and eight_bits
        upright = _orientation(image) == 1
        as_is = suffix if plain and upright else None
        if is_jpeg := data.startswith(jpeg.SIGNATURE):
            jpeg.check(data)
        if as_is or (is_jpeg and upright and image.mode == "L"):
            return Picture((image.height, image.width), data, as_is)
        pixels = _rgb(image, upright=upright)
    return Picture(pixels.shape[:2], pixels, None)


def decode_ids(data: bytes) -> npt.NDArray[np.integer]:
    """Decode a one-channel label file; of a palette image the indices, not the colours.

    Returns:
        (H, W) uint8 or wider.

    Raises:
        UnreadableError: truncated, damaged, or with colour channels.
    """
    with _opened(data, lossless=True) as image:
        if image.mode not in _ID_MODES:
            raise UnreadableError(f"label of mode {image.mode}, expected one channel of class ids")
        ids = np.asarray(_loaded(image))
        colours = len(image.getpalette() or ()) // 3
        if image.mode == "P" and ids.max() >= colours:
            raise UnreadableError(f"label with index {ids.max()} and a palette of {colours} colours")
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
    with _opened(data, lossless=True) as image:
        if image.mode not in ("P", "RGB"):  # the former: the same colours, stored with a palette
            raise UnreadableError(f"label of mode {image.mode}, expected RGB colour codes")
        return _rgb(image)


def decode_palette(data: bytes) -> tuple[npt.NDArray[np.uint8], Rgb]:
    """Decode a label file with a palette.

    Returns:
        (H, W) uint8 indices, and the palette's colours as (entries, 3) uint8.

    Raises:
        UnreadableError: truncated, damaged, or without a palette.
    """
    with _opened(data) as image:
        if image.mode != "P":
            raise UnreadableError(f"label of mode {image.mode}, expected a palette")
        return np.asarray(_loaded(image)), np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)


def fit(size_hw: tuple[int, int], short_side: int | None) -> tuple[int, int]:
    """Size after limiting the shorter side (the longer one truncated, as the reference does); never enlarged."""
    short = min(size_hw)
    if short_side is None or short <= short_side:
        return size_hw
    return size_hw[0] * short_side // short, size_hw[1] * short_side // short


def resize_picture(pixels: Rgb, size_hw: tuple[int, int]) -> Rgb:
    """Shrink as the reference's training does (Lambert et al., CVPR 2020): bilinear between pixel centres."""
    return cv2.resize(pixels, size_hw[::-1], interpolation=cv2.INTER_LINEAR)  # type: ignore[return-value]


def resize_label(label: npt.NDArray[np.uint8], size_hw: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Shrink as the reference's training does: the id at floor(new index x scale), OpenCV's plain nearest."""
    return cv2.resize(label, size_hw[::-1], interpolation=cv2.INTER_NEAREST)  # type: ignore[return-value]


def encode_jpeg(pixels: Rgb, quality: int) -> bytes:
    """JPEG of an RGB picture, cut by restart markers into tiles an MCU high (see `row_blocks`).

    Tiles are equally wide, or as wide as the picture where its MCUs have no divisor that would do.
    """
    across = -(-pixels.shape[1] // _MCU_PX)
    interval = next((wide for wide in _TILE_MCUS if across % wide == 0), across)
    half_chroma = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420)
    restarts = (cv2.IMWRITE_JPEG_RST_INTERVAL, interval)
    return _encode(".jpg", pixels, cv2.IMWRITE_JPEG_QUALITY, quality, *half_chroma, *restarts)


def encode_png(pixels: Rgb) -> bytes:
    """Lossless PNG of an RGB picture."""
    return _encode(".png", pixels)


def _encode(suffix: str, pixels: Rgb, *options: int) -> bytes:
    done, data = cv2.imencode(suffix, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise RuntimeError(f"OpenCV cannot encode {pixels.shape} as {suffix}")
    return data.tobytes()


def _opened(data: bytes, *, lossless: bool = False) -> Image.Image:
    """Read the header; of a PNG, test all but how its rows are filtered."""
    with _damage("ignore"):  # the warnings are about EXIF, see `_orientation`
        if data.startswith(png.SIGNATURE):
            png.check_rows(data, png.check(data))
        try:
            image = Image.open(io.BytesIO(data), formats=pillow_formats(data))
        except UnidentifiedImageError as error:
            raise UnreadableError("not an image file that can be read" if data else "empty file") from error
    if lossless and image.format in _INEXACT:
        raise UnreadableError(f"label is a {image.format}, whose values are not exact")
    return image


def _rgb(image: Image.Image, *, upright: bool = True) -> Rgb:
    whole = _loaded(image)
    return np.asarray((whole if upright else ImageOps.exif_transpose(whole)).convert("RGB"))


def _loaded(image: Image.Image) -> Image.Image:
    """Decode in full: pillow is the decoder that refuses what is cut short."""
    with _damage("error"):
        image.load()
    return image


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 if the file has none; other tags may be damaged, this one may not."""
    try:
        with warnings.catch_warnings(record=True, action="always") as caught:
            exif = Image.Exif()  # not `image.getexif()`: what it warns of was said on opening
            exif.load(image.info.get("exif", b""))
            orientation = exif.get(_ORIENTATION)
        if orientation is None and caught:
            raise ValueError(caught[0].message)
    except Exception as error:
        raise UnreadableError(f"damaged EXIF, so that the picture's orientation is unknown ({error})") from error
    return orientation if isinstance(orientation, int) else 1


@contextlib.contextmanager
def _damage(action: Literal["error", "ignore"]) -> Iterator[None]:
    """What a decoder raises, nearly every kind of exception, is damage; what it warns of, too, but for a large picture.

    `action`: what becomes of warnings.
    """
    with warnings.catch_warnings(action=action):
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            yield
        except UnreadableError:
            raise
        except Exception as error:
            said = " ".join(str(error).split()) or type(error).__name__
            raise UnreadableError(f"damaged or truncated ({said})") from error
