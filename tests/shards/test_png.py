import io

import numpy as np
import pytest
from PIL import Image

from shards import png

LABEL = np.kron(np.arange(12, dtype=np.uint8).reshape(3, 4) * 20, np.ones((8, 8), np.uint8))


def saved(array, **options):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG", **options)
    return file.getvalue()


@pytest.mark.parametrize("shape", [(1, 1), (24, 32), (3, 500)])
def test_labels_survive_and_repeat(shape):
    label = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    data = png.encode_label(label)
    decoded = Image.open(io.BytesIO(data))
    assert decoded.mode == "L"
    assert np.array_equal(np.asarray(decoded), label)
    assert png.encode_label(np.asfortranarray(label)) == data
    assert png.check(data) == (8, 0)


def test_every_cut_is_noticed():
    data = saved(LABEL)
    png.check(data)
    for end in range(len(data)):
        with pytest.raises(png.BrokenPngError):
            png.check(data[:end])


def test_every_flipped_byte_is_noticed():
    data = bytearray(saved(LABEL))
    for at in range(len(data)):
        broken = data.copy()
        broken[at] ^= 0x10
        with pytest.raises(png.BrokenPngError):
            png.check(bytes(broken))


def test_bytes_after_the_end_do_not_matter():
    assert png.check(saved(LABEL) + b"padding") == (8, 0)
