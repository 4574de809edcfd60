"""Labels give the stored values whatever the file's form, or are refused by the form's name."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from segstream.shards.codecs import labels
from segstream.shards.codecs.labels import decode_ids
from segstream.shards.errors import UnreadableError
from tests.shards.trees import picture, png_file

RGB = picture(np.random.default_rng(0), (40, 60))
IDS = (np.arange(24 * 32) % 4).astype(np.uint8).reshape(24, 32)


def encoded(image, format="PNG", **options):
    file = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(file, format, **options)
    return file.getvalue()


def channels(mode, *alpha):
    bands = [Image.fromarray(IDS)] * (len(mode) - len(alpha))
    return Image.merge(mode, [*bands, *(Image.fromarray(a) for a in alpha)])


def packed(ids, bits, align=1):
    """Rows of so many bits a pixel, the first one in the highest bits."""
    rows = np.packbits(np.unpackbits(ids[..., None], axis=2)[..., 8 - bits :].reshape(len(ids), -1), axis=1)
    return np.pad(rows, ((0, 0), (0, -rows.shape[1] % align)))


def tiff(ids, bits, white_is_zero=False, sample_format=1, order="<", **more):
    """An uncompressed TIFF of one channel, by the specification (TIFF 6.0)."""
    body = packed(ids, bits).tobytes() if bits < 8 else ids.astype(ids.dtype.newbyteorder(order)).tobytes()
    tags = {256: ids.shape[1], 257: len(ids), 258: bits, 259: 1, 262: 1 - white_is_zero, 273: 0, 277: 1, 278: len(ids)}
    tags |= {279: len(body), 339: sample_format} | {int(tag[1:]): value for tag, value in more.items()}
    tags[273] = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    start = {"<": b"II*\0", ">": b"MM\0*"}[order]
    return start + struct.pack(f"{order}IH", 8, len(tags)) + entries + bytes(4) + body


def bmp(ids, bits, colours):
    """A BMP with a palette, bottom row first."""
    rows = packed(ids, bits, align=4)[::-1]
    palette = b"".join(bytes((grey, grey, grey, 0)) for grey in colours)
    sizes = (40, ids.shape[1], len(ids), 1, bits, 0, rows.size, 0, 0, len(colours), 0)
    start = 54 + len(palette)
    return (
        struct.pack("<2sIHHI", b"BM", start + rows.size, 0, 0, start)
        + struct.pack("<IiiHHIIiiII", *sizes)
        + palette
        + rows.tobytes()
    )


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("white_is_zero", [False, True])
@pytest.mark.parametrize("order", "<>")
def test_tiffs_of_few_bits_or_of_inverted_grey_give_what_is_stored(bits, white_is_zero, order):
    ids = (np.arange(24 * 32) % 2**bits).astype(np.uint8).reshape(24, 32)
    assert np.array_equal(decode_ids(tiff(ids, bits, white_is_zero, order=order)), ids)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", ["i1", "u2", "i2", "i4", "f4"])
def test_wide_and_signed_rasters_keep_their_values(kind, order):
    ids = IDS.astype(kind) * (1 if kind == "i1" else 90) - (kind != "u2")
    sample_format = {"u": 1, "i": 2, "f": 3}[kind[0]]
    found = decode_ids(tiff(ids, 8 * ids.itemsize, sample_format=sample_format, order=order))
    assert np.array_equal(found, ids)
    assert found.dtype.kind == ("u" if kind == "u2" else "i")


def test_rasters_of_four_bytes_without_a_sign():
    ids = IDS.astype(np.uint32) + 2**31
    assert np.array_equal(decode_ids(tiff(ids, 32)), ids)


@pytest.mark.parametrize(("bits", "colours"), [(1, 2), (4, 2), (4, 16), (8, 2), (8, 4), (8, 256)])
@pytest.mark.parametrize("ramp", [range(256), [0, 255, *range(2, 256)], [255, 0, *range(2, 256)]])
def test_bmps_give_indices_whatever_their_palette(bits, colours, ramp):
    ids = (np.arange(24 * 32) % colours).astype(np.uint8).reshape(24, 32)
    assert np.array_equal(decode_ids(bmp(ids, bits, list(ramp)[:colours])), ids)
    with pytest.raises(UnreadableError, match="label with index 1 and a palette of 1 colours"):
        decode_ids(bmp(IDS % 2, bits, [7]))


def pgm(largest):
    kind = ">u2" if largest > 255 else np.uint8
    return b"P5\n# ids\n32 24 %d\n" % largest + IDS.astype(kind).tobytes()


UNAMBIGUOUS = {
    "pgm of 3": pgm(3),
    "pgm of 300": pgm(300),
    "pgm of 65535": pgm(65535),
    "three equal channels": encoded(channels("RGB")),
    "three equal channels, bmp": encoded(channels("RGB"), "BMP"),
    "with alpha": encoded(channels("RGBA", np.full_like(IDS, 255)), "TIFF"),
    "grey with alpha": encoded(channels("LA", np.full_like(IDS, 7))),
    "floats": encoded(IDS.astype(np.float32), "TIFF"),
    "lzw": encoded(IDS, "TIFF", compression="tiff_lzw"),
    "gif": encoded(IDS, "GIF"),
    "interlaced": png_file(
        b"".join(
            bytes([0, *row])
            for y, x, dy, dx in (
                (0, 0, 8, 8),
                (0, 4, 8, 8),
                (4, 0, 8, 4),
                (0, 2, 4, 4),
                (2, 0, 4, 2),
                (0, 1, 2, 2),
                (1, 0, 2, 1),
            )
            for row in IDS[y::dy, x::dx]
        ),
        (32, 24, 8, 0, 0, 0, 1),
    ),
    "gamma and transparency": png_file(
        b"".join(bytes([0, *row]) for row in IDS),
        (32, 24, 8, 0, 0, 0, 0),
        (b"gAMA", struct.pack(">I", 10000)),
        (b"tRNS", b"\0\2"),
    ),
}


@pytest.mark.parametrize("data", UNAMBIGUOUS.values(), ids=UNAMBIGUOUS.keys())
def test_other_forms_whose_ids_are_certain_are_read(data):
    assert np.array_equal(decode_ids(data), IDS)


def test_bitmaps_store_one_for_black():
    assert np.array_equal(decode_ids(b"P4 32 24\n" + np.packbits(IDS > 1, axis=1).tobytes()), IDS > 1)


def turned():
    exif = Image.Exif()
    exif[0x0112] = 3
    return exif


REFUSED = {
    "jpeg": (encoded(IDS, "JPEG"), "format JPEG, whose values need not be"),
    "webp": (encoded(channels("RGB"), "WEBP"), "format WEBP, whose values need not be"),
    "jpeg in tiff": (encoded(IDS, "TIFF", compression="jpeg"), "TIFF of jpeg compression"),
    "reversed packbits": (tiff(IDS, 8, t259=32773, t266=2), "TIFF of packbits compression and bit order 2"),
    "pages": (encoded(IDS, "TIFF", save_all=True, append_images=[Image.fromarray(IDS)]), "TIFF of several pages"),
    "frames": (encoded(IDS, "GIF", save_all=True, append_images=[Image.fromarray(3 - IDS)]), "GIF of several pages"),
    "animated": (encoded(IDS, save_all=True, append_images=[Image.fromarray(3 - IDS)]), "PNG of several pages"),
    "two pgms": (pgm(3) * 2, "PNM with 785 bytes after its first picture"),
    "turned png": (encoded(IDS, exif=turned()), "stored turned or mirrored"),
    "turned tiff": (tiff(IDS, 8, t274=3), "stored turned or mirrored"),
    "colours": (encoded(RGB), "PNG of mode RGB: colours, not one value a pixel; map colours to ids"),
    "alpha": (encoded(channels("LA", IDS)), "mode LA whose transparency differs"),
    "16 bits a channel": (png_file(bytes(7) * 3, (1, 3, 16, 2, 0, 0, 0)), r"PNG of mode RGB \(RGB;16B\)"),
    "fractions": (encoded(IDS + np.float32(0.5), "TIFF"), "floats that are not whole numbers, the first 0.5"),
    "nan": (encoded(np.full((4, 4), np.nan, np.float32), "TIFF"), "not whole numbers, the first nan"),
    "plain text": (b"P2 2 1 3\n0 1\n", "plain-text PNM"),
    "ppm of 3": (b"P6 1 1 3\n\0\0\0", "PPM not of 0..255"),
}


@pytest.mark.parametrize(("data", "why"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_not_certain_is_refused_by_the_name_of_its_form(data, why):
    with pytest.raises(UnreadableError, match=f"label is .*{why}.*PNGs of one channel"):
        decode_ids(data)


def test_smaller_versions_in_a_tiff_are_no_pages():
    first = bytearray(tiff(IDS, 8))
    end = 8 + 2 + 12 * struct.unpack_from("<H", first, 8)[0]
    struct.pack_into("<I", first, end, len(first))
    second = tiff(IDS[::2, ::2], 8, t254=1)[
        8:
    ]  # its directory and, at an offset of the first's, pixels that nobody reads
    assert np.array_equal(decode_ids(bytes(first) + second), IDS)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palette_labels_give_indices(bits):
    ids = (np.arange(24 * 32).reshape(24, 32) % 2**bits).astype(np.uint8)
    label = Image.fromarray(ids).convert("P")
    label.putpalette([255 - i for i in range(2**bits) for _ in range(3)])
    assert np.array_equal(labels.decode_ids(encoded(label, "PNG", bits=bits)), ids)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_grey_labels_give_the_stored_values_at_any_depth(bits):
    width = 16
    ids = np.arange(8 * width).reshape(8, width) % 2**bits
    packed = np.unpackbits(ids.astype(">u2").view(np.uint8).reshape(8, width, 2), axis=2)[..., 16 - bits :]
    lines = b"".join(b"\0" + np.packbits(row.ravel()).tobytes() for row in packed)

    data = png_file(lines, (width, 8, bits, 0, 0, 0, 0))
    assert np.array_equal(labels.decode_ids(data), ids)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "empty"),
        (b"not an image at all", "begins with b'not an i', as no format that is read"),
        (encoded(RGB[..., 0], "PNG")[:-20], "truncated"),
    ],
)
def test_labels_that_cannot_be_used(data, why):
    with pytest.raises(UnreadableError, match=why):
        labels.decode_ids(data)


def test_colour_coded_labels_may_be_stored_with_a_palette():
    few = (RGB // 128) * 100
    palette = Image.fromarray(few).quantize(8)
    colours = np.asarray(palette.convert("RGB"))
    assert np.array_equal(labels.decode_rgb(encoded(palette, "PNG")), colours)
    assert np.array_equal(labels.decode_rgb(encoded(few, "PNG")), few)
    with pytest.raises(UnreadableError, match="mode L"):
        labels.decode_rgb(encoded(RGB[..., 0], "PNG"))


def test_indices_beyond_the_palette_are_not_ids():
    def with_palette(colours):  # written here: some versions of Pillow fill palettes up
        return png_file((b"\0" + b"\x09" * 8) * 8, (8, 8, 8, 3, 0, 0, 0), (b"PLTE", bytes(3 * colours)))

    assert (labels.decode_ids(with_palette(10)) == 9).all()
    with pytest.raises(UnreadableError, match="label with index 9 and a palette of 9 colours"):
        labels.decode_ids(with_palette(9))
