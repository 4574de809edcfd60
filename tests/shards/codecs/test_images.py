import io
import struct
import sys
import warnings
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from segstream.shards.codecs import images, jpeg
from segstream.shards.codecs.labels import decode_ids
from segstream.shards.errors import UsageError
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


PLAIN = {
    "jpeg": (encoded(RGB), "jpg"),
    "progressive": (encoded(RGB, progressive=True), "jpg"),
    "png": (encoded(RGB, "PNG"), "png"),
    "upright": (turned(1), "jpg"),
    "turned": (turned(6), None),
    "turned-png": (turned(3, "PNG"), None),
    "grey": (encoded(RGB[..., 0]), None),
    "cmyk": (encoded(Image.fromarray(RGB).convert("CMYK")), None),
    "palette": (encoded(Image.fromarray(RGB).convert("P"), "PNG"), None),
    "alpha": (encoded(Image.fromarray(RGB).convert("RGBA"), "PNG"), None),
    "grey-alpha": (encoded(Image.fromarray(RGB).convert("LA"), "PNG"), None),
    "animated": (encoded(RGB, "PNG", save_all=True, append_images=[Image.fromarray(RGB[::-1])]), None),
    "transparent": (encoded(Image.fromarray(RGB), "PNG", transparency=(1, 2, 3)), None),
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


@pytest.mark.parametrize("format", ["JPEG2000", "AVIF", "HEIF", "GIF", "PPM"])
def test_other_formats_are_read_and_of_several_pictures_the_first(format):
    if format == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    pages = {"save_all": True, "append_images": [Image.fromarray(255 - RGB)]} if format in ("AVIF", "GIF") else {}
    found = images.decode_picture(encoded(RGB, format, **pages))
    assert found.as_is is None
    assert np.abs(found.pixels.astype(int) - RGB).mean() < 6  # GIF has few colours, others lose some


def test_tiffs_of_several_pages_are_refused():
    pages = encoded(RGB, "TIFF", save_all=True, append_images=[Image.fromarray(RGB)] * 2)
    with pytest.raises(images.UnreadableError, match="TIFF of 3 pages, of which one would be taken"):
        images.decode_picture(pages)


def test_heic_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(images.UnreadableError, match=r"HEIC, which pillow-heif reads: pip install 'segstream\[heic\]'"):
        images.decode_picture(b"\0\0\0\x18ftypheic" + bytes(200))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.9, 0.97])
def test_truncated_jpegs_are_refused(options, share):
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encoded(noise, **options)
    with pytest.raises(images.UnreadableError, match=r"empty|begins with|does not decode"):
        images.decode_picture(data[: int(share * len(data))])


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
        with pytest.raises(images.UnreadableError, match="JPEG that does not decode"):
            images.decode_picture(data)
    with pytest.raises(images.UnreadableError, match="does not decode"):
        images.decode_picture(whole[: len(whole) // 2])
    assert capfd.readouterr().err == ""


def test_pngs_whose_data_ends_early_are_not_half_black():
    rows = bytes([0, *[200] * 6]) * 3
    data = png_file(rows, (6, 5, 8, 0, 0, 0, 0))
    for decode in (decode_ids, images.decode_picture):
        with pytest.raises(images.UnreadableError, match="pixel data of 21 bytes, its header says 35"):
            decode(data)


def test_damaged_exif_is_told_only_if_it_hides_the_orientation():
    def with_exif(tags):
        block = b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + b"".join(tags)
        body = b"Exif\0\0" + block
        whole = encoded(RGB)
        return whole[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + whole[2:]

    beyond = struct.pack("<HHII", 0x010F, 2, 500, 9999)  # a text that lies outside the block
    upright = struct.pack("<HHIHH", 0x0112, 3, 1, 1, 0)
    assert images.decode_picture(with_exif([upright, beyond])).as_is == "jpg"
    assert images.decode_picture(with_exif([beyond])).as_is == "jpg"
    with pytest.raises(images.UnreadableError, match="EXIF block cut short, so that the orientation is unknown"):
        images.decode_picture(with_exif([upright[:6]]))


def test_an_orientation_after_the_pixels_counts():
    whole, exif = encoded(RGB, "PNG"), Image.Exif()
    exif[0x0112] = 3
    chunk = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
    late = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    found = images.decode_picture(whole[:-12] + late + whole[-12:])
    assert found.as_is is None
    assert np.array_equal(found.pixels, RGB[::-1, ::-1])


def test_size_is_told_by_the_header_before_any_pixel_is_decoded(monkeypatch):
    monkeypatch.setattr(zlib, "decompressobj", None)  # no decoder runs
    monkeypatch.setattr(ImageFile.ImageFile, "load", None)
    bmp = struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 54, 0, 0, 54, 40, 60000, 60000, 1, 24, 0, 0, 0, 0, 0, 0)
    for data in (png_file(b"\0", (60000, 60000, 8, 0, 0, 0, 0)), bmp, b"P5 60000 60000 255\n"):
        for decode in (images.decode_picture, decode_ids):
            with pytest.raises(images.TooLargeError, match=r"60000 x 60000 .*; set SEGSTREAM_MAX_PIXELS=3600000000 to"):
                decode(data)


def test_the_limit_is_what_the_environment_says(monkeypatch):
    data = encoded(RGB, "PNG")
    monkeypatch.setenv("SEGSTREAM_MAX_PIXELS", str(40 * 60 - 1))
    with pytest.raises(images.TooLargeError, match="60 x 40 pixels by its header, more than 2,399; set"):
        images.decode_picture(data)
    monkeypatch.setenv("SEGSTREAM_MAX_PIXELS", str(40 * 60))
    assert images.decode_picture(data).as_is == "png"
    for wrong in ("0", "many", "1e9", "9" * 5000):
        monkeypatch.setenv("SEGSTREAM_MAX_PIXELS", wrong)
        with pytest.raises(UsageError, match=r"SEGSTREAM_MAX_PIXELS=.*: not a number of pixels"):
            images.decode_picture(data)


def test_pillows_own_limit_is_raised_only_where_it_is_the_lower_one(monkeypatch):
    data, before = encoded(RGB, "TIFF"), Image.MAX_IMAGE_PIXELS
    images.decode_picture(data)
    assert before == Image.MAX_IMAGE_PIXELS
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert np.array_equal(images.decode_picture(data).pixels, RGB)


def test_what_the_process_is_set_to_changes_no_answer(monkeypatch):
    data = encoded(RGB, "BMP")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # as another thread may do at any time
        assert np.array_equal(images.decode_picture(data).pixels, RGB)
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(images.UnreadableError, match="LOAD_TRUNCATED_IMAGES is set"):
        images.decode_picture(data[:-100])


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
    for data in (images.encode(".png", red), images.encode_jpeg(red, 95)):
        assert np.abs(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int) - red).max() < 6
