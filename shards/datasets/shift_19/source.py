"""SHIFT, front camera: RGB or RGBA PNGs with CARLA's class ids in the red channel, in the 19 Cityscapes classes."""

from __future__ import annotations

from segstream.shards.codecs import png
from segstream.shards.codecs.images import UnreadableError, decode_picture
from segstream.shards.datasets.release import Raw
from segstream.shards.datasets.sources import Found, Ids, Pair, Source, choose, pair_folders
from segstream.shards.taxonomy import native_taxonomy, release_remap

_COLOUR_TYPES = (2, 6)  # of PNG: RGB, RGBA


def source() -> Source:
    """RAW holds `discrete/{images,labels}/{train,val}/front`; of the frame rates, `images` is the one that is read."""
    return Source(
        native=native_taxonomy("shift-19"), release=release_remap("shift-19"), find=_find, read_label=_read_label
    )


def _find(raw: Raw, split: str) -> Found:
    part = choose({"train": "train", "val": "val"}, split, dataset="shift-19")
    return pair_folders(
        raw,
        f"discrete/images/{part}/front",
        f"discrete/labels/{part}/front",
        image_end="_img_front.jpg",
        label_end="_semseg_front.png",
        label_stem=str,
    )


def _read_label(data: bytes, pair: Pair) -> Ids:
    try:
        header = png.check(data)
        png.check_rows(data, header)
    except png.BrokenPngError as error:
        raise UnreadableError(str(error)) from error
    if header.depth != 8 or header.colour_type not in _COLOUR_TYPES:
        raise UnreadableError(
            f"PNG of colour type {header.colour_type} and {header.depth} bits, expected 8-bit RGB or RGBA"
        )
    red: Ids = decode_picture(data).pixels[..., 0]
    return red
