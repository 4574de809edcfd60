import io

import numpy as np
import pytest
from PIL import Image

from segstream.shards.codecs import png
from segstream.shards.errors import UnreadableError
from tests.shards.trees import png_file

LABEL = np.kron(np.arange(12, dtype=np.uint8).reshape(3, 4) * 20, np.ones((8, 8), np.uint8))


def saved(array, **options):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG", **options)
    return file.getvalue()


@pytest.mark.parametrize("shape", [(1, 1), (24, 32), (3, 500), (64, 5), (65, 5), (200, 31)])
def test_labels_survive_and_repeat(shape):
    label = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    data = png.encode_label(label)
    decoded = Image.open(io.BytesIO(data))
    assert decoded.mode == "L"
    assert np.array_equal(np.asarray(decoded), label)
    assert png.encode_label(np.asfortranarray(label)) == data
    assert png.check(data) == png.Header(shape, 8, 0, False)
    png.check_rows(data, png.check(data))


def test_every_cut_and_every_flipped_byte_is_noticed_but_not_what_follows_the_end():
    data = saved(LABEL)
    assert png.check(data + b"padding") == png.check(data) == png.Header(LABEL.shape, 8, 0, False)
    cuts = [data[:end] for end in range(len(data))]
    flips = [data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :] for at in range(len(data))]
    for broken in (*cuts, *flips):
        with pytest.raises(UnreadableError):
            png.check(broken)


ROWS = bytes(7 * 6)  # of 5 x 7 pixels, a filter type before each


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (png_file(ROWS[:-1], (5, 7, 8, 0, 0, 0, 0)), "pixel data of 41 bytes, its header says 42"),
        (png_file(ROWS[:12], (5, 7, 8, 0, 0, 0, 0)), "pixel data of 12 bytes"),
        (png_file(ROWS + b"0", (5, 7, 8, 0, 0, 0, 0)), "pixel data of over 42 bytes"),
        (png_file(ROWS, (5, 7, 8, 2, 0, 0, 0)), "its header says 112"),
        (png_file(ROWS[:36] + b"\5" + ROWS[37:], (5, 7, 8, 0, 0, 0, 0)), "a row without a filter type"),
        (png_file(ROWS, (5, 7, 8, 0, 0, 0, 0), (b"IHDR", bytes(13))), "not one header"),
        (png_file(ROWS, (5, 7, 8, 0, 0, 0, 0), (b"NEWS", b"")), "unknown chunk 'NEWS'"),
        (png.SIGNATURE + png_file(ROWS, (5, 7, 8, 0, 0, 0, 0))[8 + 25 :], "not one header"),
    ],
)
def test_well_formed_nonsense_is_noticed(data, why):
    with pytest.raises(UnreadableError, match=why):
        png.check_rows(data, png.check(data))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("size_wh", [(1, 1), (3, 2), (5, 9), (33, 17)])
def test_whole_files_of_any_kind_pass(mode, size_wh):
    file = io.BytesIO()
    Image.new(mode, size_wh).save(file, "PNG")
    png.check_rows(file.getvalue(), png.check(file.getvalue()))


@pytest.mark.parametrize("size_wh", [(1, 1), (3, 2), (5, 9), (33, 17)])
def test_interlaced_files_are_counted_by_their_passes(size_wh):
    width, height = size_wh
    pixels = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    count = 0
    for x0, y0, dx, dy in pixels:  # as the PNG specification's table has them
        columns, rows = len(range(x0, width, dx)), len(range(y0, height, dy))
        count += rows * (1 + columns) if columns else 0
    data = png_file(bytes(count), (width, height, 8, 0, 0, 0, 1))
    png.check_rows(data, png.check(data))
    assert np.asarray(Image.open(io.BytesIO(data))).shape == (height, width)
