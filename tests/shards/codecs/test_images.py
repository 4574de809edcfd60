import io
import os
import struct

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from segstream.shards.codecs import images, jpeg
from tests.shards.trees import picture, png_file

RGB = picture(np.random.default_rng(0), (40, 60))


def encoded(image, format="JPEG", **options):
    file = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(file, format, **options)
    return file.getvalue()


def turned(orientation, format="JPEG"):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(RGB, format, exif=exif)


PIL = Image.fromarray(RGB)
PLAIN = {
    "jpeg": (encoded(RGB), "jpg"),
    "progressive": (encoded(RGB, progressive=True), "jpg"),
    "png": (encoded(RGB, "PNG"), "png"),
    "upright": (turned(1), "jpg"),
    "turned": (turned(6), None),
    "turned-png": (turned(3, "PNG"), None),
    "grey": (encoded(RGB[..., 0]), None),
    "cmyk": (encoded(PIL.convert("CMYK")), None),
    "palette": (encoded(PIL.convert("P"), "PNG"), None),
    "alpha": (encoded(PIL.convert("RGBA"), "PNG"), None),
    "transparent": (encoded(PIL, "PNG", transparency=(1, 2, 3)), None),
    "bmp": (encoded(RGB, "BMP"), None),
    "16-bit": (cv2.imencode(".png", RGB.astype(np.uint16) * 257)[1].tobytes(), None),
}


@pytest.mark.parametrize(("data", "as_is"), PLAIN.values(), ids=PLAIN.keys())
def test_only_plain_rgb_files_pass_as_they_are(data, as_is):
    found = images.decode_picture(data)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    assert found.as_is == as_is
    assert found.pixels.dtype == np.uint8
    assert np.array_equal(found.pixels, expected)
    assert found.pixels.shape == ((60, 40, 3) if data == turned(6) else (40, 60, 3))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.9, 0.97])
def test_truncated_jpegs_are_refused(options, share):
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encoded(noise, **options)
    with pytest.raises(images.UnreadableError, match=r"empty|not an image|truncated"):
        images.decode_picture(data[: int(share * len(data))])


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palette_labels_give_indices(bits):
    ids = (np.arange(24 * 32).reshape(24, 32) % 2**bits).astype(np.uint8)
    label = Image.fromarray(ids).convert("P")
    label.putpalette([255 - i for i in range(2**bits) for _ in range(3)])
    assert np.array_equal(images.decode_ids(encoded(label, "PNG", bits=bits)), ids)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_grey_labels_give_the_stored_values_at_any_depth(bits):
    width = 16
    ids = np.arange(8 * width).reshape(8, width) % 2**bits
    packed = np.unpackbits(ids.astype(">u2").view(np.uint8).reshape(8, width, 2), axis=2)[..., 16 - bits :]
    lines = b"".join(b"\0" + np.packbits(row.ravel()).tobytes() for row in packed)

    data = png_file(lines, (width, 8, bits, 0, 0, 0, 0))
    assert np.array_equal(images.decode_ids(data), ids)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (encoded(RGB, "PNG"), "mode RGB"),
        (encoded(RGB[..., 0]), "JPEG"),
        (b"", "empty"),
        (b"not an image at all", "not an image"),
        (encoded(RGB[..., 0], "PNG")[:-20], "truncated"),
    ],
)
def test_labels_that_cannot_be_used(data, why):
    with pytest.raises(images.UnreadableError, match=why):
        images.decode_ids(data)


def test_colour_coded_labels_may_be_stored_with_a_palette():
    few = (RGB // 128) * 100
    palette = Image.fromarray(few).quantize(8)
    assert np.array_equal(images.decode_rgb(encoded(palette, "PNG")), np.asarray(palette.convert("RGB")))
    assert np.array_equal(images.decode_rgb(encoded(few, "PNG")), few)
    with pytest.raises(images.UnreadableError, match="mode L"):
        images.decode_rgb(encoded(RGB[..., 0], "PNG"))
    with pytest.raises(images.UnreadableError, match="16"):  # rather than clipped
        images.decode_picture(encoded(np.full((4, 4), 3000, np.uint16), "PNG"))


@pytest.mark.parametrize(
    ("size_hw", "short_side", "expected"),
    [
        ((100, 200), 50, (50, 100)),
        ((200, 100), 50, (100, 50)),
        ((100, 200), None, (100, 200)),
        ((100, 200), 100, (100, 200)),
        ((100, 200), 480, (100, 200)),
        ((1080, 1919), 1079, (1079, 1917)),
        ((3, 1000), 2, (2, 666)),  # truncated
        ((480, 853), 360, (360, 639)),
    ],
)
def test_sizes_shrink_and_never_grow(size_hw, short_side, expected):
    assert images.fit(size_hw, short_side) == expected


def test_what_a_jpeg_decoder_only_warns_of_is_damage(capfd):
    whole = encoded(np.asarray(Image.fromarray(RGB).resize((96, 96))))
    assert np.array_equal(jpeg.decode(whole), np.asarray(Image.open(io.BytesIO(whole)).convert("RGB")))
    for data in (whole[: len(whole) // 2] + b"\xff\xd9", whole[:-2] + bytes(9) + whole[-2:]):
        with pytest.raises(images.UnreadableError, match="damaged JPEG"):
            images.decode_picture(data)
    with pytest.raises(images.UnreadableError, match="damaged"):
        images.decode_picture(whole[: len(whole) // 2])
    assert capfd.readouterr().err == ""


def test_the_words_of_others_on_standard_error_pass(capfd, monkeypatch):
    decode = cv2.imdecode

    def chatting(*args):
        os.write(2, b"progress\n")
        return decode(*args)

    monkeypatch.setattr(cv2, "imdecode", chatting)
    jpeg.decode(encoded(RGB))
    assert capfd.readouterr().err == "progress\n"


@pytest.mark.parametrize("decode", [images.decode_ids, images.decode_picture])
def test_pngs_whose_data_ends_early_are_not_half_black(decode):
    with pytest.raises(images.UnreadableError, match="pixel data of 21 bytes, its header says 35"):
        decode(png_file(bytes([0, *[200] * 6]) * 3, (6, 5, 8, 0, 0, 0, 0)))


def test_indices_beyond_the_palette_are_not_ids():
    def with_palette(colours):  # written here: some versions of Pillow fill palettes up
        return png_file((b"\0" + b"\x09" * 8) * 8, (8, 8, 8, 3, 0, 0, 0), (b"PLTE", bytes(3 * colours)))

    assert (images.decode_ids(with_palette(10)) == 9).all()
    with pytest.raises(images.UnreadableError, match="label with index 9 and a palette of 9 colours"):
        images.decode_ids(with_palette(9))


def test_damaged_exif_is_told_only_if_it_hides_the_orientation():
    def with_exif(tags):
        block = b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + b"".join(tags)
        body = b"Exif\0\0" + block
        whole = encoded(RGB)
        return whole[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + whole[2:]

    beyond = struct.pack("<HHII", 0x010F, 2, 500, 9999)  # a text that lies outside the block
    upright = struct.pack("<HHIHH", 0x0112, 3, 1, 1, 0)
    assert images.decode_picture(with_exif([upright, beyond])).as_is == "jpg"
    with pytest.raises(images.UnreadableError, match="damaged EXIF, so that the picture's orientation is unknown"):
        images.decode_picture(with_exif([beyond]))


def test_the_resize_is_the_references():
    """Bilinear between half-pixel centres, ids by floor(index x scale): computed here without OpenCV."""
    rng = np.random.default_rng(0)
    picture, label = rng.integers(0, 256, (90, 70, 3), dtype=np.uint8), rng.integers(0, 20, (90, 70), dtype=np.uint8)
    size = (45 * 2 // 3, 70 // 3)
    rows, columns = (np.floor(np.arange(n) * (m / n)).astype(int) for n, m in zip(size, label.shape, strict=True))
    assert np.array_equal(images.resize_label(label, size), label[rows[:, None], columns])

    def lines(values, n):  # along axis 0
        at = np.clip((np.arange(n) + 0.5) * (len(values) / n) - 0.5, 0, len(values) - 1)
        low = np.floor(at).astype(int)
        part = (at - low)[:, None, None]
        return values[low] * (1 - part) + values[np.minimum(low + 1, len(values) - 1)] * part

    expected = lines(lines(picture.astype(float), size[0]).transpose(1, 0, 2), size[1]).transpose(1, 0, 2)
    assert np.abs(images.resize_picture(picture, size) - expected).max() <= 1


def test_encoders_take_rgb():
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 250
    for data in (images.encode_png(red), images.encode_jpeg(red, 95)):
        assert np.abs(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int) - red).max() < 6
