import pytest

from segstream.shards.synthetic.canvas import Camera
from segstream.shards.synthetic.objects import object_named, spread
from segstream.shards.synthetic.read_table import table
from segstream.shards.synthetic.textures import tile
from segstream.shards.taxonomy import universal_ids


@pytest.mark.parametrize("name", table("objects"))
def test_objects_name_what_there_is(name: str) -> None:
    item = object_named(name)
    others = [*(item.either or {}), *(item.carries.what if item.carries else {}), *([item.under] if item.under else [])]
    assert set(others) <= set(table("objects"))
    shapes = [*item.parts, *(mark for shape in item.parts for mark in shape.marks)]
    assert bool(shapes) != bool(item.either)
    assert {paint for shape in shapes for paint in (shape.paint, *shape.faces.values())} <= set(table("paints"))
    for label in {(shape.label or item.label or name).partition("/")[0] for shape in shapes}:
        assert universal_ids([label], at=name)


def test_scenes_name_objects_and_paints_have_tiles() -> None:
    scenes, domains = table("scenes"), table("domains")
    rooms, street = scenes["rooms"], scenes["street"]
    places = [*(p for kind in rooms["kinds"].values() for p in kind["things"]), *rooms["anywhere"]]
    places += [*street["strips"], *street["features"], *scenes["subjects"].values()]
    named = {what for place in places for what in place["what"]} | set(street["gaps"]) | set(rooms["walls"])
    named |= {what for subject in scenes["subjects"].values() for what in subject.get("company", {})}
    named |= {what for domain in domains.values() for key in ("town", "traffic") for what in domain.get(key, {})}
    assert named - {"none"} <= set(table("objects"))
    assert {what for domain in domains.values() for what in domain.get("subjects", {})} == set(scenes["subjects"])
    for options in table("paints").values():
        for option in options:
            assert tile(option.get("tile", "plain")).shape == (256, 256)


def test_spread_follows_the_weights() -> None:
    weights = {"a": 3.0, "b": 1.0}
    keys = [spread(weights, (i + 0.5) / 100)[0] for i in range(100)]
    assert keys.count("a") == 75
    assert spread(weights, 0.0) == ("a", 0.0)
    assert spread(weights, 0.875) == ("b", 0.5)


def test_what_is_nearer_is_larger_and_lower() -> None:
    camera = Camera(focal=100, centre=50, horizon=40, height=1.5)
    assert camera.size(5) == 2 * camera.size(10)
    assert camera.project((0, 0, 5))[1] > camera.project((0, 0, 10))[1] > camera.horizon
