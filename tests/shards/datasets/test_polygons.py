import json

import numpy as np
import pytest
from PIL import Image, ImageDraw

from segstream.shards.datasets.polygons import fill, object_masks, parse_polygons, rasterise
from segstream.shards.errors import UnreadableError

IDS = {"sky": 1, "car": 2, "polegroup": 3, "pole": 4}


def frame(*objects, size_hw=(24, 32)):
    content = {"imgHeight": size_hw[0], "imgWidth": size_hw[1], "objects": list(objects)}
    return parse_polygons(json.dumps(content).encode())


def thing(label, polygon, **more):
    return {"label": label, "polygon": polygon, **more}


def box(x0, y0, x1, y1):
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]


def test_edges_belong_to_the_polygon_and_later_objects_lie_on_top():
    found = rasterise(frame(thing("sky", box(2, 3, 9, 7)), thing("car", box(5, 5, 40, 60))), IDS, background=9)
    expected = np.full((24, 32), 9)
    expected[3:8, 2:10] = 1
    expected[5:, 5:] = 2  # cut off at the frame
    assert np.array_equal(found, expected)
    assert found.dtype == np.uint8


@pytest.mark.parametrize("fractional", [False, True])
def test_random_polygons_as_pillow_draws_them_one_by_one(fractional):
    rng = np.random.default_rng(int(fractional))
    things, canvas = [], Image.new("L", (48, 40), 9)
    for n in range(60):
        points = rng.uniform(-8, 56, (int(rng.integers(3, 9)), 2))
        points = points.tolist() if fractional else points.astype(int).tolist()
        label = ["sky", "car", "pole"][n % 3]
        things.append(thing(label, points))
        ImageDraw.Draw(canvas).polygon([(x, y) for x, y in points], fill=IDS[label])
    assert np.array_equal(rasterise(frame(*things, size_hw=(40, 48)), IDS, background=9), np.asarray(canvas))


def test_what_is_passed_over_and_what_a_group_is():
    """Deleted objects and those of fewer than 3 vertices, whatever their label; a group counts as its class."""
    whole = box(0, 0, 31, 23)
    over = [thing(label, whole, deleted=yes) for label, yes in (("car", 1), ("car", True), ("no such class", 1))]
    few = [thing("car", [[0, 0], [31, 23]], deleted=0), thing("car", [[3, 3]]), thing("no such class", [])]
    groups = thing("cargroup", box(0, 0, 3, 3)), thing("polegroup", box(9, 9, 12, 12))  # a class of that name
    expected = np.full((24, 32), 9)
    expected[:4, :4], expected[9:13, 9:13] = 2, 3
    assert np.array_equal(rasterise(frame(*over, *few, *groups, *over), IDS, background=9), expected)


def test_unknown_labels_are_reported():
    drawn = frame(thing("sky", box(0, 0, 31, 23)), thing("zebra", box(1, 1, 4, 4)), thing("group", box(1, 1, 4, 4)))
    with pytest.raises(UnreadableError, match=r"labels \['group', 'zebra'\], which no class has"):
        rasterise(drawn, IDS, background=9)


def test_fields_of_objects():
    found = frame(thing("car", [[1.5, 2], [3, 4]], id=7, deleted=1, date="x", verified=0), thing("sky", []))
    first, second = found.objects
    assert found.size_hw == (24, 32)
    assert (first.label, first.id, first.deleted, first.points.tolist()) == ("car", 7, True, [[1.5, 2], [3, 4]])
    assert (second.id, second.deleted, second.points.shape) == (None, False, (0, 2))


def test_masks_of_single_objects():
    """Whatever lies over one or whether it was deleted; a flat polygon is a line, a point is nothing."""
    deleted, over = thing("car", box(2, 3, 9, 7), deleted=1), thing("sky", box(0, 0, 31, 23))
    flat = [thing("car", points) for points in ([[4, 5], [9, 5], [6, 5]], [[4, 5], [9, 5]], [[4, 5]])]
    found = frame(deleted, over, *flat)
    expected, line = np.zeros((2, 24, 32), bool)
    expected[3:8, 2:10], line[5, 4:10] = True, True
    masks = [fill(found, found.objects[i]) for i in (0, 2, 3, 4)]
    assert masks[0].dtype == np.bool_
    for mask, wanted in zip(masks, (expected, line, line, np.zeros_like(line)), strict=True):
        assert np.array_equal(mask, wanted)


def test_masks_have_the_outline():
    rng = np.random.default_rng(3)
    for _ in range(40):
        points = rng.integers(-4, 36, (int(rng.integers(3, 8)), 2)).tolist()
        canvas = Image.new("L", (32, 24), 0)
        ImageDraw.Draw(canvas).polygon([tuple(p) for p in points], fill=1, outline=1)
        one = frame(thing("car", points))
        assert np.array_equal(fill(one, one.objects[0]), np.asarray(canvas) == 1)


GOOD = {"imgHeight": 4, "imgWidth": 4, "objects": [thing("car", box(0, 0, 2, 2), id=1, deleted=0)]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"imgHeight": 0}, "frame of 0 x 4 pixels"),
        ({"imgHeight": -4}, "frame of -4 x 4 pixels"),
        ({"imgWidth": 4.5}, r"frame of 4 x 4\.5 pixels"),
        ({"imgWidth": "4"}, "frame of"),
        ({"imgWidth": 1 << 40}, "too large: 1099511627776 x 4 pixels"),
        ({"imgWidth": None}, "frame of"),
        ({"objects": None}, "not a polygon JSON"),
        ({"objects": {"a": 1}}, "not a polygon JSON"),
        ({"objects": [3]}, "not a polygon JSON"),
        ({"objects": [{"label": "car"}]}, "polygon JSON without 'polygon'"),
        ({"objects": [{"polygon": []}]}, "polygon JSON without 'label'"),
        ({"objects": [thing(7, [])]}, "object 0: label 7"),
        ({"objects": [thing("car", [], id="7")]}, "id '7'"),
        ({"objects": [thing("car", [], deleted="no")]}, "deleted 'no'"),
        ({"objects": [thing("car", [[1, 2], [3]])]}, "not a polygon JSON"),
        ({"objects": [thing("car", [[1, 2, 3], [4, 5, 6]])]}, "not a polygon JSON"),
        ({"objects": [thing("car", [["a", "b"]])]}, "not a polygon JSON"),
        ({"objects": [thing("car", [[None, 2]])]}, "not a polygon JSON"),
        ({"objects": [thing("car", [[float("nan"), 2]])]}, "object 0: a vertex far outside"),
        ({"objects": [thing("car", [[1, 1e9]])]}, "object 0: a vertex far outside"),
        ({"objects": [thing("car", [[1, 10**400]])]}, "not a polygon JSON"),
    ],
)
def test_what_is_no_polygon_json(change, message):
    assert parse_polygons(json.dumps(GOOD).encode())
    with pytest.raises(UnreadableError, match=message):
        parse_polygons(json.dumps(GOOD | change).encode())


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"3", b"\xff\xfe", b"[" * 100_000, json.dumps(GOOD).encode()[:-9]])
def test_what_is_no_json(data):
    with pytest.raises(UnreadableError, match="not a polygon JSON"):
        parse_polygons(data)


def test_records_count_places_or_go_by_id_as_the_release_means_them():
    objects = [thing("car", box(0, 0, 3, 3), id=1), thing("car", box(9, 9, 12, 12), id=0)]
    data = json.dumps({"imgHeight": 24, "imgWidth": 32, "objects": objects}).encode()
    first, second = np.zeros((2, 24, 32), bool)
    first[:4, :4], second[9:13, 9:13] = True, True
    for by_id, expected in ((False, (first, second)), (True, (second, first))):
        assert np.array_equal([*object_masks(data, [0, 1], (24, 32), by_id=by_id)], expected)
    assert not next(object_masks(data, [7], (24, 32), by_id=True)).any()
