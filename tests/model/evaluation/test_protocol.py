import pytest

from segstream.model.evaluation.protocol import protocols
from segstream.shards.errors import DataError
from segstream.shards.taxonomy import TRAINING_TAXONOMIES, load_taxonomy

UNIVERSAL = load_taxonomy("universal")
HELD_OUT = ("voc2012", "pascal-context-60", "camvid-11", "wilddash-19", "kitti-19", "scannet-20")
COUNTED = {"ade20k-150": 117, "bdd": 19, "cityscapes-19": 19, "coco-panoptic-133": 122, "idd-39": 25}
COUNTED |= {"mapillary-public65": 44, "sunrgbd-37": 37}
TRAINING_MEMBERS = ("image", "json", "native", "universal")


def only(model, native, members=TRAINING_MEMBERS, **options):
    (protocol,) = protocols(load_taxonomy(model), load_taxonomy(native), members, **options)
    return protocol


@pytest.mark.parametrize("name", HELD_OUT)
@pytest.mark.parametrize("model", ["universal", "naive"])
def test_held_out_sets_are_judged_in_their_own_classes_all_of_them(name, model):
    protocol = only(model, name, ("image", "native"))
    native = load_taxonomy(name)
    assert (protocol.label, protocol.taxonomy, protocol.relabeled) == ("native", native, False)
    assert protocol.counted == tuple(range(native.num_classes))
    assert protocol.regime == ("zero-shot" if model == "universal" else "naive")
    assert protocol.projection.shape == (native.num_classes, load_taxonomy(model).num_classes)


@pytest.mark.parametrize("name", TRAINING_TAXONOMIES)
def test_training_sets_count_the_universal_classes_that_theirs_map_to(name):
    protocol = only("universal", name)
    assert (protocol.regime, protocol.label, protocol.taxonomy) == ("training", "universal", UNIVERSAL)
    assert len(protocol.counted) == COUNTED[name]
    assert protocol.projection is None


def test_a_training_set_is_judged_in_both_taxonomies_if_asked_and_by_its_own_classes_if_trained_in_them():
    found = protocols(UNIVERSAL, load_taxonomy("idd-39"), TRAINING_MEMBERS, schemes=("auto", "native", "universal"))
    own = [("training", "universal", 25), ("training-own", "native", 39)]
    assert [(p.regime, p.label, len(p.counted)) for p in found] == own
    oracle = only("camvid-11", "camvid-11", ("native",))
    assert (oracle.regime, oracle.projection) == ("oracle", None)


@pytest.mark.parametrize(
    ("learnt", "asked", "stored", "expected"),
    [
        (True, None, True, True),
        (True, None, False, False),
        (False, None, True, False),
        (True, False, True, False),
        (False, True, True, True),
    ],
)
def test_relabelled_labels_are_used_where_they_were_learnt_and_are_there(learnt, asked, stored, expected):
    members = (*TRAINING_MEMBERS, *(("universal-relabeled",) if stored else ()))
    protocol = only("universal", "bdd", members, learnt_relabeled=learnt, relabeled=asked)
    assert protocol.relabeled is expected
    assert len(protocol.counted) == COUNTED["bdd"]


@pytest.mark.parametrize(
    ("model", "native", "members", "options", "says"),
    [
        ("camvid-11", "voc2012", TRAINING_MEMBERS, {}, "cannot be scored in 'voc2012'"),
        ("naive", "bdd", TRAINING_MEMBERS, {"schemes": ("universal",)}, "'naive' cannot be evaluated in universal cl"),
        ("universal", "bdd", TRAINING_MEMBERS, {"relabeled": True}, "no relabelled labels; convert it with --relabel"),
        ("universal", "voc2012", TRAINING_MEMBERS, {"relabeled": True}, "leave out --relabeled"),
        ("universal", "voc2012", ("native",), {"schemes": ("universal",)}, "voc2012: its labels have no universal cl"),
    ],
)
def test_what_cannot_be_judged_is_said(model, native, members, options, says):
    with pytest.raises(DataError, match=says):
        only(model, native, members, **options)
