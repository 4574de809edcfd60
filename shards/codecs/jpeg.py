"""JPEG decoded strictly: what libjpeg only warns of (data that ends early, that does not decode) is an error.

libjpeg goes on after damage and paints grey; simplejpeg hands its warnings on.
"""

import numpy as np
import numpy.typing as npt
import simplejpeg

from segstream.shards.errors import UnreadableError

SIGNATURE = b"\xff\xd8\xff"


def decode(data: bytes) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB as stored, EXIF orientation not applied; of grey or colour, not of CMYK.

    Raises:
        UnreadableError: it does not decode, or the decoder warns.
    """
    return _decoded(data, "RGB")


def check(data: bytes) -> None:
    """Read all of the data, but draw a picture of an eighth of the size, in half the time.

    Raises:
        UnreadableError: as `decode`.
    """
    try:
        _, _, colours, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError as error:
        raise UnreadableError(f"JPEG that does not decode ({error})") from error
    _decoded(data, "CMYK" if colours in ("CMYK", "YCCK") else "GRAY", min_height=1, min_width=1, min_factor=8)


def _decoded(data: bytes, colours: str, **options: int) -> npt.NDArray[np.uint8]:
    try:
        pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(data, colours, **options)
    except ValueError as error:
        raise UnreadableError(f"JPEG that does not decode ({error})") from error
    return pixels
