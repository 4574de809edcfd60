from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from segstream.pipeline.samples import class_shares, label_views
from segstream.shards.errors import DataError
from segstream.shards.taxonomy import load_taxonomy, naive_remap
from tests.pipeline.fakes import FakeShards, own_taxonomy


def manifests(*natives):
    return {native.name: FakeShards(native.name, native, (3,)).manifest for native in natives}


ADE, SUN, CAMVID = (load_taxonomy(name) for name in ("ade20k-150", "sunrgbd-37", "camvid-11"))


def test_universal_labels_are_taken_as_stored():
    views = label_views("universal", manifests(ADE, SUN))
    label = np.array([[0, 193, 255]], np.uint8)
    for view in views.values():
        assert (view.member, view.taxonomy, view.dtype) == ("universal", load_taxonomy("universal"), np.uint8)
        assert view.of(label, where="k") is label


def test_relabelled_labels_are_another_member_in_the_same_classes():
    sets = manifests(ADE)
    relabelled = {name: replace(m, members=(*m.members, "universal-relabeled")) for name, m in sets.items()}
    view = label_views("universal-relabeled", relabelled)["ade20k-150"]
    assert (view.member, view.taxonomy, view.remap) == ("universal-relabeled", load_taxonomy("universal"), None)
    assert label_views("universal", relabelled)["ade20k-150"].member == "universal"
    counts = {"universal": {1: (5, 1)}, "universal-relabeled": {2: (5, 1)}}
    counted = {"ade20k-150": replace(relabelled["ade20k-150"], counts=counts)}
    assert class_shares({"ade20k-150": view}, counted, {"ade20k-150": Fraction(1)})[1:3] == (0.0, 1.0)


def test_a_set_that_was_not_relabelled_says_how_to_get_there():
    with pytest.raises(DataError, match=r"data\.mix\.sunrgbd-37: .*no relabelled labels .*convert it with --relabel"):
        label_views("universal-relabeled", manifests(SUN))
    with pytest.raises(DataError, match=r"data\.mix\.camvid-11: its shards hold no universal labels"):
        label_views("universal-relabeled", manifests(CAMVID))


def test_naive_labels_are_looked_up_and_ids_above_a_byte_survive():
    views = label_views("naive", manifests(ADE, SUN))
    naive = load_taxonomy("naive")
    for native in (ADE, SUN):
        view = views[native.name]
        assert (view.member, view.taxonomy, view.dtype) == ("native", naive, np.int16)
        ids = np.arange(native.num_classes, dtype=np.uint8)[None]
        named = [naive.classes[i] for i in view.of(ids, where="k")[0]]
        assert named == [name.lower() for name in native.classes]
        assert view.of(np.full((2, 2), 255, np.uint8), where="k").tolist() == [[255, 255], [255, 255]]
    assert views["sunrgbd-37"].of(ids, where="k").max() > 255
    assert views["sunrgbd-37"].of(ids, where="k").dtype == np.int16
    assert naive_remap(SUN).table[36] == views["sunrgbd-37"].of(np.array([[36]], np.uint8), where="k")[0, 0]


def test_own_classes_mix_where_they_are_the_same():
    with pytest.raises(DataError, match=r"native, but ade20k-150 and sunrgbd-37 have different classes"):
        label_views("native", manifests(ADE, SUN))
    shared = own_taxonomy("cars")
    views = label_views("native", {n: FakeShards(n, shared, (2,)).manifest for n in ("x", "y")})
    assert {view.taxonomy.name for view in views.values()} == {"cars"}


def test_ids_and_classes_that_are_not_known_are_errors():
    view = label_views("naive", manifests(SUN))["sunrgbd-37"]
    with pytest.raises(DataError, match=r"there/k: 1 of 2 pixels carry ids \[200\]"):
        view.of(np.array([[3, 200]], np.uint8), where="there/k")
    with pytest.raises(DataError, match="not in the naive taxonomy"):
        label_views("naive", manifests(own_taxonomy(classes=("flux capacitor",))))


def test_class_shares_mix_the_datasets_by_their_weights_not_by_their_sizes():
    ade = FakeShards("ade20k-150", ADE, (3,), counts={"native": {0: (30, 3), 2: (10, 1)}}).manifest
    sun = FakeShards("sunrgbd-37", SUN, (3,), counts={"native": {0: (900, 9), 36: (100, 1)}}).manifest
    by_name = {"ade20k-150": ade, "sunrgbd-37": sun}
    views = label_views("naive", by_name)
    got = class_shares(views, by_name, {"ade20k-150": Fraction(3, 4), "sunrgbd-37": Fraction(1, 4)})
    names = load_taxonomy("naive").classes
    expected = dict.fromkeys(names, 0.0)
    expected[ADE.classes[0].lower()] += 0.75 * 0.75
    expected[ADE.classes[2].lower()] += 0.75 * 0.25
    expected[SUN.classes[0].lower()] += 0.25 * 0.9
    expected[SUN.classes[36].lower()] += 0.25 * 0.1
    assert dict(zip(names, got, strict=True)) == pytest.approx(expected)


def test_labels_that_say_nothing_cannot_be_trained_on():
    nothing = {"camvid-11": replace(manifests(CAMVID)["camvid-11"], counts={})}
    with pytest.raises(DataError, match=r"data\.mix: no pixel of camvid-11 has a class"):
        class_shares(label_views("native", nothing), nothing, {"camvid-11": Fraction(1)})
