import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from segstream.shards.checks.stats import class_table, common_member, label_warnings, total_table
from segstream.shards.convert.convert import convert
from segstream.shards.errors import UsageError
from segstream.shards.format.manifest import label_taxonomies
from segstream.shards.format.reader import open_shards
from tests.shards import trees
from tests.shards.convert.test_convert import members


@pytest.mark.parametrize(("member", "classes"), [("native", 150), ("universal", 194)])
def test_the_table_is_a_count_over_the_labels(ade, member, classes):
    labels = [np.asarray(Image.open(io.BytesIO(d))) for n, d in members(ade).items() if n.endswith(f".{member}.png")]
    table = class_table(open_shards(ade).manifest, member)
    assert [row.id for row in table] == list(range(classes))
    pixels = np.array([(np.stack(labels) == i).sum() for i in range(classes)])
    assert [row.pixels for row in table] == pixels.tolist()
    assert [row.images for row in table] == [sum((label == i).any() for label in labels) for i in range(classes)]
    assert np.allclose([row.share for row in table], pixels / pixels.sum())


def test_a_member_without_classes(ade):
    with pytest.raises(UsageError, match="did you mean 'native'"):
        class_table(open_shards(ade).manifest, "nativ")


@pytest.fixture
def camvid(tmp_path):
    raw = trees.camvid(tmp_path / "camvid")
    return convert(dataset="camvid-11", split="val", raw=raw, out=str(tmp_path / "out")).url


def labels(folder, member):
    found = [np.asarray(Image.open(io.BytesIO(d))) for n, d in members(folder).items() if n.endswith(f".{member}.png")]
    return np.stack(found)


def test_the_total_is_a_count_over_the_labels_of_all_sets(ade, camvid, tmp_path):
    manifests = [open_shards(url).manifest for url in (ade, camvid)]
    total = total_table([class_table(m) for m in manifests])
    counts = {}
    for manifest, stack in zip(manifests, (labels(ade, "native"), labels(tmp_path / camvid, "native")), strict=True):
        for i, name in enumerate(manifest.native.classes):
            pixels, images = counts.get(name.lower(), (0, 0))
            here = stack == i
            counts[name.lower()] = (pixels + int(here.sum()), images + int(here.any((1, 2)).sum()))
    assert {row.name.lower(): (row.pixels, row.images) for row in total} == counts
    assert counts["building"][1] > max(r.images for r in class_table(manifests[1]) if r.name == "Building")  # of both
    assert sum(row.share for row in total) == pytest.approx(1)
    assert [row.id for row in total] == list(range(len(counts)))


def test_the_total_of_one_taxonomy_keeps_its_ids(ade):
    table = class_table(open_shards(ade).manifest, "universal")
    total = total_table([table, table])
    assert [(r.id, r.name, r.pixels, r.images) for r in total] == [
        (r.id, r.name, 2 * r.pixels, 2 * r.images) for r in table
    ]
    assert [r.share for r in total] == [r.share for r in table]


def test_sets_compare_in_universal_classes_where_all_hold_them(ade, camvid):
    one, other = open_shards(ade).manifest, open_shards(camvid).manifest
    assert common_member([one]) == "native"
    assert common_member([one, one]) == "universal"
    assert common_member([one, other]) == "native"


def test_a_set_holds_what_its_members_are(ade):
    manifest = open_shards(ade).manifest
    more = dataclasses.replace(manifest, members=(*manifest.members, "universal-relabeled"))
    assert list(label_taxonomies(more)) == ["native", "universal", "universal-relabeled"]
    assert label_taxonomies(more)["universal-relabeled"] == more.universal
    bare = dataclasses.replace(manifest, members=("image", "json"))
    with pytest.raises(UsageError, match="holds images only"):
        class_table(bare)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([[0, 1, 2, 2]] * 2, ["all 2 samples have the same native.png"]),
        ([[0, 1, 2, 2], [2, 2, 1, 0]], []),
        ([[0, 1, 2, 255], [255] * 4], ["62.5% of the pixels are ignored"]),
        ([[0, 0, 0, 1], [1] * 4], ["1 of the 3 classes given occur nowhere: c"]),
        ([[0] * 4, [0, 0, 0, 255]], ["only one class occurs, a", "2 of the 3 classes given occur nowhere: b; c"]),
        ([[255] * 4], ["no pixel is labelled"]),
    ],
)
def test_what_speaks_against_learning_from_labels(tmp_path, values, expected):
    for n, row in enumerate(values):
        trees.save(tmp_path / f"images/{n}.png", trees.picture(np.random.default_rng(n), (24, 32)))
        trees.save(tmp_path / f"labels/{n}.png", np.repeat(np.repeat([row], 8, axis=1), 24, axis=0).astype(np.uint8))
    own = tmp_path / "own.yaml"
    own.write_text(
        "name: mine\nsplits: {val: {images: images/*.png, labels: labels/*.png}}\n"
        "classes: [{name: a}, {name: b}, {name: c}]\n"
    )
    made = convert(dataset=own, split="val", raw=tmp_path, out=tmp_path / "out")
    told = label_warnings(made, pixels=made.pixels)
    assert [line.partition(": there is nothing")[0] for line in told] == [f"mine val: {line}" for line in expected]
    with open_shards(made.url) as shards:  # the manifest tells the same
        assert label_warnings(shards.manifest) == told
        assert label_warnings(shards.manifest, "naive") == told
        assert label_warnings(dataclasses.replace(shards.manifest, members=("image", "json"))) == []
