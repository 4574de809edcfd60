"""Source pictures in, members out: size by header, strict decoding, one rule for RGB, the shorter-side limit."""

import contextlib
import io
import os
import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, ImageOps

from segstream.shards.codecs import jpeg, png
from segstream.shards.codecs.formats import load_heif
from segstream.shards.errors import UnreadableError as UnreadableError
from segstream.shards.errors import UsageError

Rgb = npt.NDArray[np.uint8]
"""(H, W, 3) uint8, RGB."""

MAX_PIXELS = "SEGSTREAM_MAX_PIXELS"  # environment variable
BYTES_PER_PIXEL = 4  # of a decoded picture in Pillow; also what a file may have for each pixel of the limit
_DEFAULT_PIXELS = 178_956_970  # Pillow's own limit against decompression bombs
_COLOUR_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"}
FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "PPM", "GIF", "JPEG2000", "AVIF", "HEIF")
_CHECKED = ("JPEG", "MPO", "PNG")  # here, whatever Pillow makes of them
_MCU_PX = 16  # side of a minimum coded unit at 4:2:0
_TILE_MCUS = range(12, 3, -1)  # widths of a tile, best first: markers grow the file by about 4 bytes a tile
_ORIENTATION = 0x0112  # tag of EXIF and TIFF
_SUBFILE, _NO_PAGE = 254, 1 | 4  # tag of TIFF: smaller versions and masks of another page
_INTEGERS = {1: "B", 3: "H", 4: "I"}  # EXIF's types, as `struct` has them
# What Pillow warns of is metadata, of no matter here. Once for all: to catch warnings changes them for all threads.
warnings.filterwarnings("ignore", module=r"PIL\.")


class TooLargeError(UnreadableError):
    """More pixels or bytes than are decoded; found before any is."""


def max_pixels() -> int:
    """How many pixels a picture may have: what SEGSTREAM_MAX_PIXELS says.

    Raises:
        UsageError: it is no number of pixels.
    """
    text = os.environ.get(MAX_PIXELS) or str(_DEFAULT_PIXELS)
    if not text.isdecimal() or not 1 <= len(text) <= 15 or int(text) == 0:
        raise UsageError(f"{MAX_PIXELS}={text}: not a number of pixels; write such as {2 * _DEFAULT_PIXELS}")
    if Image.MAX_IMAGE_PIXELS is not None and int(text) > 2 * Image.MAX_IMAGE_PIXELS:  # where its decoders give up
        Image.MAX_IMAGE_PIXELS = int(text)
    return int(text)


def check_size(size_hw: tuple[int, int], most: int | None = None) -> None:
    """Test what a header says of a picture's size.

    Raises:
        TooLargeError: it has more pixels than `most`, or than `max_pixels` says.
    """
    limit, pixels = most or max_pixels(), size_hw[0] * size_hw[1]
    if pixels > limit:
        what = f"too large: {size_hw[1]} x {size_hw[0]} pixels by its header, more than {limit:,}"
        raise TooLargeError(f"{what}; set {MAX_PIXELS}={pixels} to read it")


def check_bytes(size: int) -> None:
    """Test a file's size, or what an archive says of a member's.

    Raises:
        TooLargeError: it is larger than any picture of `max_pixels`.
    """
    limit = BYTES_PER_PIXEL * max_pixels()
    if size > limit:
        pixels = -(-size // BYTES_PER_PIXEL)
        raise TooLargeError(f"too large: {size:,} bytes, more than {limit:,}; set {MAX_PIXELS}={pixels} to read it")


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
        with opened(self.content, most=self.size_hw[0] * self.size_hw[1]) as image:
            return rgb(image)


def decode_picture(data: bytes, *, most: int | None = None) -> Picture:
    """Read an image file completely: the one rule by which a picture becomes RGB.

    EXIF orientation is applied. Grey, palette and CMYK become RGB, without ICC profiles; of 16 bits a channel the upper
    8 are kept, and alpha is left out: the colours that are stored show, however transparent. Of what moves
    the first frame; a TIFF of several pages is refused, as they are pictures of their own.

    Args:
        most: pixels, if not as many as `max_pixels`.

    Raises:
        UnreadableError: of an unknown format, it does not decode, or it is of no mode that has one RGB picture.
        TooLargeError: its header says more pixels.
    """
    with opened(data, most=most) as image:
        with decoding(image.format or ""):
            if image.format == "TIFF" and (several := pages(image)) > 1:
                raise UnreadableError(f"TIFF of {several} pages, of which one would be taken; save each as a file")
        wide = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PPM", "PNG"))
        if image.mode not in _COLOUR_MODES and not wide:
            form = f"{image.format} of mode {image.mode}"
            raise UnreadableError(f"{form}, read as no RGB picture; convert it to 8-bit RGB")
        suffix = {"JPEG": "jpg", "PNG": "png"}.get(image.format or "")
        eight_bits = image.format != "PNG" or (data[24] == 8 and not getattr(image, "is_animated", False))
        plain = image.mode == "RGB" and "transparency" not in image.info and eight_bits
        turned = orientation(image)
        as_is = suffix if plain and turned == 1 else None
        if is_jpeg := data.startswith(jpeg.SIGNATURE):
            jpeg.check(data)
        if as_is or (is_jpeg and turned == 1 and image.mode == "L"):
            return Picture((image.height, image.width), data, as_is)
        pixels = rgb(image, turned)
    return Picture(pixels.shape[:2], pixels, None)


def opened(data: bytes, *, most: int | None = None, rows: bool = True) -> ImageFile.ImageFile:
    """Read the header; of a PNG, test all but how its rows are filtered (`rows`: that they are there, too).

    Raises:
        UnreadableError: of an unknown format, or the header is not one.
        TooLargeError: as `decode_picture`.
    """
    Image.init()
    load_heif(data)
    accepts = {form: Image.OPEN[form][1] for form in FORMATS if form in Image.OPEN}
    known = [form for form, accept in accepts.items() if accept is not None and accept(data[:16]) is True]
    if not known:
        what = f"begins with {data[:8]!r}, as no format that is read ({', '.join(FORMATS)})"
        raise UnreadableError(what if data else "empty file")
    header = None
    if known[0] == "PNG":
        header = png.check(data)
        check_size(header.size_hw, most)
        if rows:
            png.check_rows(data, header)
    with decoding(known[0]):  # not by `Image.open`, whose limit of pixels says no size
        image: ImageFile.ImageFile = Image.OPEN[known[0]][0](io.BytesIO(data), "")
    check_size((image.height, image.width), most)
    if header is not None and header.exif:  # Pillow finds it where it stands after the pixels only in decoding
        image.info["exif"] = header.exif
    return image


def pages(image: ImageFile.ImageFile) -> int:
    """1 or more; smaller versions of a TIFF's picture do not count."""
    count = frames = getattr(image, "n_frames", 1)
    for number in reversed(range(frames if image.format == "TIFF" else 0)):
        image.seek(number)
        count -= bool(getattr(image, "tag_v2", {}).get(_SUBFILE, 0) & _NO_PAGE)
    return count


def rgb(image: ImageFile.ImageFile, turned: int = 1) -> Rgb:
    """An opened picture as (H, W, 3) uint8; `turned` is its EXIF orientation."""
    tags, raw = getattr(image, "tag_v2", {}), raw_mode(image)
    whole = ImageOps.exif_transpose(loaded(image)) if turned != 1 else loaded(image)
    if not whole.mode.startswith("I"):
        return np.asarray(whole.convert("RGB"))
    upper = (np.asarray(whole).astype(np.uint16) >> (4 if raw == "I;12" else 8)).astype(np.uint8)
    return np.repeat((255 - upper if tags.get(262) == 0 else upper)[..., None], 3, axis=2)  # 262: 0 is white


def raw_mode(image: ImageFile.ImageFile) -> str:
    """How Pillow turns what an opened file stores into what it shows; empty where its decoder does not say."""
    args: object = image.tile[0][3] if image.tile else ""
    first = args[0] if isinstance(args, tuple | list) and args else args
    return first if isinstance(first, str) else ""


def loaded(image: ImageFile.ImageFile) -> ImageFile.ImageFile:
    """Decode in full: Pillow is the decoder that refuses what is cut short, unless the program forbids it.

    Raises:
        UnreadableError: it does not decode.
    """
    if ImageFile.LOAD_TRUNCATED_IMAGES and image.format not in _CHECKED:
        raise UnreadableError("PIL.ImageFile.LOAD_TRUNCATED_IMAGES is set, which hides what is cut short; unset it")
    with decoding(image.format or ""):
        image.load()
    return image


def orientation(image: Image.Image) -> int:
    """EXIF orientation of an opened file, 1 if it has none; a TIFF's own, which Pillow applies, is not looked at.

    Raises:
        UnreadableError: the block is cut short before the tag or its directory's end.
    """
    block = (image.info.get("exif") or b"").removeprefix(b"Exif\0\0")
    if not block:
        return 1
    try:
        order = {b"II*\0": "<", b"MM\0*": ">"}[block[:4]]
        at = struct.unpack_from(f"{order}I", block, 4)[0]
        for place in range(at + 2, at + 2 + 12 * struct.unpack_from(f"{order}H", block, at)[0], 12):
            tag, kind = struct.unpack_from(f"{order}HH", block, place)
            if tag == _ORIENTATION:
                return int(struct.unpack_from(order + _INTEGERS.get(kind, "H"), block, place + 8)[0])
    except (KeyError, struct.error) as error:
        raise UnreadableError("EXIF block cut short, so that the orientation is unknown; save without EXIF") from error
    return 1


@contextlib.contextmanager
def decoding(form: str) -> Iterator[None]:
    """Whatever a decoder raises, nearly every kind of exception, is an UnreadableError with its words."""
    try:
        yield
    except UnreadableError:
        raise
    except MemoryError as error:
        raise UnreadableError(f"{form} for which there is not enough memory") from error
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise UnreadableError(f"{form} that does not decode ({said})") from error


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
    return encode(".jpg", pixels, cv2.IMWRITE_JPEG_QUALITY, quality, *half_chroma, *restarts)


def encode(suffix: str, pixels: Rgb, *options: int) -> bytes:
    """A file of an RGB picture; `suffix` and `options` as `cv2.imencode` takes them."""
    done, data = cv2.imencode(suffix, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise RuntimeError(f"OpenCV cannot encode {pixels.shape} as {suffix}")
    return data.tobytes()
