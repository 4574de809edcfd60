"""SHIFT: RGB or RGBA PNGs with CARLA's class ids in the red channel, in the 19 Cityscapes classes."""

from segstream.shards.codecs import png
from segstream.shards.codecs.images import decode_picture
from segstream.shards.datasets.sources import Ids, Pair
from segstream.shards.errors import UnreadableError

_COLOUR_TYPES = (2, 6)  # of PNG: RGB, RGBA


def read_label(data: bytes, pair: Pair) -> Ids:
    """The red channel."""
    header = png.check(data)
    if header.depth != 8 or header.colour_type not in _COLOUR_TYPES:
        form = f"PNG of colour type {header.colour_type} and {header.depth} bits"
        raise UnreadableError(f"{form}, expected 8-bit RGB or RGBA")
    return decode_picture(data).pixels[..., 0]
