import cv2
import numpy as np
import pytest

from segstream.colors import class_colors, colorize, legend, palette
from segstream.shards.taxonomy import IGNORE_INDEX, load_taxonomy, taxonomy_names


def test_colours_are_distinct_and_never_the_colour_of_ignored_pixels():
    colors = palette(316)
    assert colors.shape == (316, 3)
    assert colors.dtype == np.uint8
    assert len(np.unique(colors, axis=0)) == 316
    assert colors.max(1).min() > 60
    assert (colors[:11] == palette(11)).all()  # a class keeps its colour in a longer palette
    with pytest.raises(ValueError, match="can be told apart"):
        palette(100_000)


CITY = load_taxonomy("cityscapes-19").classes


@pytest.mark.parametrize(("colors", "least"), [(palette(20), 20), (class_colors(CITY), 15)], ids=["palette", "classes"])
def test_the_first_classes_and_those_met_in_most_datasets_differ_clearly(colors, least):
    lab = cv2.cvtColor(colors[None].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[0]
    apart = np.linalg.norm(lab[:, None] - lab[None], axis=-1) + 1000 * np.eye(len(colors))
    assert apart.min() > least  # a difference of 2 can just be seen


def test_a_label_takes_the_colours_of_its_ids_and_black_where_ignored():
    picture = colorize(np.array([[0, 2, IGNORE_INDEX]], np.uint8), 3)
    assert picture.tolist() == [[palette(3)[0].tolist(), palette(3)[2].tolist(), [0, 0, 0]]]
    assert (colorize(np.array([[315]], np.int16), 316)[0, 0] == palette(316)[315]).all()


@pytest.mark.parametrize("wrong", [3, 254, -1])
def test_an_id_outside_the_classes_is_named(wrong):
    with pytest.raises(ValueError, match=rf"\[{wrong}\] are outside the 3 classes"):
        colorize(np.array([[0, wrong]], np.int16), 3)


def test_a_legend_names_what_occurs_by_area():
    label = np.array([[2, 2, 0], [2, IGNORE_INDEX, 0]], np.uint8)
    names = [name for name, _ in legend([colorize(label, 3)], ("sky", "road", "tree"))]
    assert names == ["tree", "sky", "not scored"]
    sky = "#{:02x}{:02x}{:02x}".format(*palette(3)[0])
    assert dict(legend([colorize(label, 3)], ("sky", "road", "tree")))["sky"] == sky
    assert legend([], ("sky",)) == ()


def test_a_class_name_has_one_colour_in_every_taxonomy():
    seen = {}
    for taxonomy in taxonomy_names():
        classes = load_taxonomy(taxonomy).classes
        colors = class_colors(classes)
        assert len(np.unique(colors, axis=0)) == len(classes)
        assert (colors.max(1) > 60).all()  # never the black of ignored pixels
        for name, color in zip(classes, colors.tolist(), strict=True):
            assert seen.setdefault(name.lower(), color) == color
    assert len({tuple(c) for c in seen.values()}) > 350


def test_letter_case_and_separators_do_not_make_another_class():
    one, two, three, other = class_colors(("Traffic Light", "traffic_light", "traffic-light", "traffic sign")).tolist()
    assert one == two == three != other


def test_names_of_your_own_are_distinct_and_keep_their_colours():
    own = [f"thing {n}" for n in range(100)]
    colors = class_colors([*own, "road"])
    known = {tuple(c) for name in taxonomy_names() for c in class_colors(load_taxonomy(name).classes).tolist()}
    assert len(np.unique(colors, axis=0)) == 101
    assert not {tuple(c) for c in colors[:-1].tolist()} & known
    assert (class_colors(["road", "thing 3"]) == class_colors(["x", "thing 3", "road"])[[2, 1]]).all()
    with pytest.raises(ValueError, match="5000 class names"):
        class_colors([f"thing {n}" for n in range(5000)])
