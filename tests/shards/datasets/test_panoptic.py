import io
import json

import numpy as np
import pytest
from PIL import Image

from segstream.shards.datasets.panoptic import read_annotations, read_categories, segment_ids
from segstream.shards.datasets.release import Release
from segstream.shards.datasets.sources import Pair
from segstream.shards.errors import DataError, UnreadableError

SEGMENTS = {0: 255, 1: 4, 300: 9, 65_536: 4, 16_777_215: 200, 8_922_372: 0}  # segment -> category


def png(codes, mode="RGB"):
    rgb = np.stack([codes % 256, codes // 256 % 256, codes // 65536], -1).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(rgb).convert(mode).save(file, "PNG")
    return file.getvalue()


def pairs(*without):
    return [(s, c) for s, c in SEGMENTS.items() if s and s not in without]


def category_ids(data, segments):
    return read_categories(data, Pair(key="", image="", label="", extra=segments))


CODES = np.random.default_rng(0).choice(list(SEGMENTS), (24, 32))


def test_ids_are_little_endian_colours_and_each_segment_becomes_its_category_and_id_0_none():
    assert np.array_equal(segment_ids(png(CODES)), CODES)
    for segments in (pairs(), [*pairs(), (0, 7)]):
        assert np.array_equal(category_ids(png(CODES), segments), np.vectorize(SEGMENTS.get)(CODES))
    assert (category_ids(png(CODES * 0), []) == 255).all()


def test_pixels_of_unlisted_segments_are_counted():
    lost = int(((CODES == 300) | (CODES == 1)).sum())
    with pytest.raises(UnreadableError, match=rf"{lost} pixels of segments \[1, 300\], which the panoptic JSON lacks"):
        category_ids(png(CODES), pairs(1, 300))


@pytest.mark.parametrize("extra", [(1, 5), (1 << 24, 5), (-1, 5), (77, 256), (77, -1), (1 << 70, 1)])
def test_segments_that_cannot_be(extra):
    with pytest.raises(UnreadableError, match="twice, or with ids that cannot be"):
        category_ids(png(CODES), [*pairs(), extra])


@pytest.mark.parametrize(("mode", "segments", "said"), [("RGB", None, "no entry"), ("L", pairs(), "expected RGB")])
def test_an_image_that_the_json_does_not_know_and_a_png_without_colours(mode, segments, said):
    with pytest.raises(UnreadableError, match=said):
        category_ids(png(CODES, mode), segments)


def described(tmp_path, *entries):
    (tmp_path / "p.json").write_text(json.dumps({"annotations": entries}))
    return read_annotations(Release(tmp_path), "p.json")


def test_annotations_by_name(tmp_path):
    info = [{"id": 3, "category_id": 5, "iscrowd": 1}, {"id": 9, "category_id": 5}]
    one, other = ({"file_name": f"{c}.png", "segments_info": i} for c, i in (("a", info), ("b", [])))
    assert described(tmp_path, one, other) == {"a": ((3, 5), (9, 5)), "b": ()}
    with pytest.raises(DataError, match=r"p\.json: describes a\.png twice"):
        described(tmp_path, one, other, one)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "3", '{"annotations": 3}', '{"annotations": [{}]}', '{"annotations": [{"file_name": 3}]}',
     '{"annotations": [{"file_name": "a.png", "segments_info": [{"id": "3", "category_id": 1}]}]}',
     '{"annotations": [{"file_name": "a.png", "segments_info": [{"id": 3, "category_id": 1.5}]}]}',
     '{"annotations": [{"file_name": "a.png", "segments_info": [{"id": null, "category_id": 1}]}]}'],
)  # fmt: skip
def test_what_is_no_panoptic_json(tmp_path, content):
    (tmp_path / "p.json").write_text(content)
    with pytest.raises(DataError, match=r"p\.json: not COCO panoptic annotations"):
        read_annotations(Release(tmp_path), "p.json")


def test_a_missing_json(tmp_path):
    with pytest.raises(DataError, match=r"p\.json: cannot be read"):
        read_annotations(Release(tmp_path), "p.json")
