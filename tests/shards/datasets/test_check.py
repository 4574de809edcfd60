import json
import re
import zipfile
from dataclasses import asdict

import pytest

from segstream.shards.datasets.check import check_release, tops
from segstream.shards.datasets.layout import split_list
from segstream.shards.datasets.registry import registry
from segstream.shards.errors import UsageError
from tests.shards import trees


def names(root, *paths):
    """Empty files: a check reads names alone."""
    for path in paths:
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
    return root


def kitti(root):
    listed = [stem for split in ("train", "val") for stem in split_list("kitti-19", split)]
    return names(root, *(f"training/{folder}/{stem}.png" for stem in listed for folder in ("image_2", "semantic")))


def camvid(root):
    listed = [stem for split in ("train", "val", "test") for stem in split_list("camvid-11", split)]
    forms = ("701_StillsRaw_full/{}.png", "Labels32-RGB/{}_L.png")
    return names(root, *(form.format(stem) for stem in listed for form in forms))


@pytest.mark.parametrize(("name", "tree"), [("kitti-19", kitti), ("camvid-11", camvid)])
def test_complete_releases_are_complete(tmp_path, name, tree):
    found = check_release(name, tree(tmp_path))
    assert found.ok, found
    assert {s.split: (s.images, s.labels) for s in found.splits} == {
        split: (count, count) for split, count in registry()[name].splits.items()
    }
    assert all((s.missing_images, s.missing_labels, s.first_missing) == (0, 0, ()) for s in found.splits)
    assert json.loads(json.dumps(asdict(found)))["ok"] is True


def test_missing_files_are_counted_and_named(tmp_path):
    raw = kitti(tmp_path)
    first, second, third = split_list("kitti-19", "val")[:3]
    gone = [f"training/semantic/{second}.png", f"training/semantic/{third}.png", f"training/image_2/{first}.png"]
    for path in gone:
        (raw / path).unlink()
    train, val = check_release("kitti-19", raw).splits
    assert train.problem is None
    assert (val.images, val.labels, val.missing_images, val.missing_labels) == (49, 47, 1, 2)
    assert val.problem == "1 images (their labels were not looked for) and 2 other labels are missing"
    assert val.first_missing == tuple(gone)


def test_where_the_folder_is_the_list_images_and_labels_are_counted_against_the_release(tmp_path):
    files = [f"{kind}/training/ADE_train_{n:08d}" for n in range(1, 6) for kind in ("images", "annotations")]
    names(tmp_path, *(f"{stem}.{'jpg' if stem.startswith('images') else 'png'}" for stem in files))
    (tmp_path / "annotations/training/ADE_train_00000002.png").unlink()
    (tmp_path / "images/training/ADE_train_00000003.jpg").unlink()
    found = check_release("ade20k-150", tmp_path)
    train, val = found.splits
    assert (train.expected, train.images, train.labels) == (20210, 4, 3)
    assert (train.missing_images, train.missing_labels) == (20206, 20206)
    assert train.first_missing == (
        "annotations/training/ADE_train_00000002.png",
        "the image of annotations/training/ADE_train_00000003.png",
    )
    assert (val.images, val.labels, val.missing_images, val.missing_labels) == (0, 0, 2000, 2000)
    assert "annotations/validation: no such folder" in val.problem
    assert not found.ok
    assert found.notes == (
        "without ADE20K_2016_07_26/ (ADE20K_2016_07_26.zip, unpacked here) --relabel cannot apply its records",
    )


def test_optional_splits_are_checked_where_they_are(tmp_path):
    def shown():
        found = check_release("cityscapes-19", tmp_path)
        splits = {s.split: (s.expected, s.images, s.labels) for s in found.splits}
        return splits, [note for note in found.notes if "relabel" not in note]

    trees.cityscapes(tmp_path)
    usual = {"train": (2975, 2, 2), "val": (500, 1, 1)}
    assert shown() == (usual, [])
    names(tmp_path, "leftImg8bit/train_extra/troisdorf/troisdorf_000000_000073_leftImg8bit.png")
    splits, (unlabelled, black) = shown()
    assert (splits, "unpack gtCoarse.zip" in unlabelled, "all black" in black) == (usual, True, True)
    trees.coarse(tmp_path)
    splits, _ = shown()
    assert splits == usual | {"train_extra": (19998, 3, 2), "train_coarse": (2975, 2, 1)}


def test_what_relabelling_needs_is_noted(tmp_path):
    city, vistas = tmp_path / "city", tmp_path / "vistas"
    names(city, "leftImg8bit/train/ulm/a_leftImg8bit.png", "gtFine/train/ulm/a_gtFine_labelIds.png")
    (note,) = check_release("cityscapes-19", city).notes
    assert note == "without the *_gtFine_polygons.json --relabel cannot apply its records"
    names(city, "gtFine/train/ulm/a_gtFine_polygons.json")
    assert check_release("cityscapes-34", city).notes == ()
    names(vistas, "training/images/a.jpg", "training/labels/a.png")
    assert "without instances/" in check_release("mapillary-public65", vistas).notes[0]
    names(vistas, "training/instances/a.png")
    assert check_release("mapillary-public65", vistas).notes == ()


WRONG = {
    "vistas 2 in folders": ("mapillary-public65", "training/v2.0/labels/a.png training/images/a.jpg", "v2.0"),
    "vistas 2 with the old labels": ("mapillary-public65", "training/v1.2/labels/a.png", "layout of .* v2.0"),
    "vistas 2 for 1.2": ("mapillary-19", "config_v2.0.json", "is Mapillary Vistas v2.0"),
    "part II of IDD": ("idd-39", "leftImg8bit/train/9/a_leftImg8bit.jpg", "JPEG images belong to part II"),
    "WildDash 2 for 1": ("wilddash-19", "panoptic.json images/a.jpg", "this is WildDash 2, the dataset wilddash2-19"),
    "WildDash 1 for 2": ("wilddash2-19", "wd_val_01/a.png", "this is WildDash v1, the dataset wilddash-19"),
    "images of VOC 2012": ("pascal-context-60", "JPEGImages/2008_000008.jpg JPEGImages/2011_000003.jpg", "VOC 2010"),
    "labels of VOC alone": ("voc2012", "JPEGImages/a.jpg SegmentationClass/a.png", "unpack SegmentationClassAug.zip"),
    "SUN RGB-D, not renamed": ("sunrgbd-37", "image/train/img-000001.jpg label37/train/0.png", "rename label37/"),
    "new layout of BDD": ("bdd", "labels/sem_seg/masks/train/a.png", "newer layout .* bdd100k-19"),
    "old layout of BDD": ("bdd100k-19", "seg/labels/train/a_train_id.png", "first layout, which is the dataset bdd"),
    "Cityscapes without labels": ("cityscapes-19", "leftImg8bit/train/ulm/a.png", "unpack gtFine_trainvaltest.zip"),
    "Cityscapes without images": ("cityscapes-34", "gtFine/train/ulm/a.png", "unpack leftImg8bit_trainvaltest.zip"),
    "coarse Cityscapes": ("cityscapes-19", "gtCoarse/train/ulm/a.png", "coarse annotations"),
    "full ADE20K": ("ade20k-150", "index_ade20k.pkl", "full ADE20K of 2021"),
    "KITTI stereo": ("kitti-19", "training/image_2/000000_10.png", "take data_semantics.zip"),
    "all of ScanNet": ("scannet-20", "scans/scene0000_00/a.sens", "take scannet_frames_25k.zip"),
    "SegNet's CamVid": ("camvid-11", "trainannot/a.png", "merged classes"),
    "COCO instances": ("coco-panoptic-133", "annotations/instances_train2017.json", "take panoptic_annotations"),
    "COCO images not moved": ("coco-panoptic-133", "train2017/a.jpg", "into images/"),
    "SHIFT as its script leaves it": ("shift-19", "discrete/images/train/front/img/a.jpg", "move what img.zip"),
    "a packed tar": ("voc2012", "VOCtrainval_11-May-2012.tar", "unpack it so that JPEGImages/ appears"),
    "packed segments": (
        "coco-panoptic-133", "images/val2017/a.jpg annotations/panoptic_val2017.zip",
        "annotations/panoptic_val2017.zip lies here packed; unpack it so that annotations/panoptic_val2017/ appears",
    ),
    "a packed archive of which only the name is known": ("idd-19", "idd-20k-II.tar.gz", "tar.gz lies here packed"),
    "a folder too high": ("bdd", "bdd100k/seg/images/train/a.jpg", "bdd100k holds seg; give that"),
    "two folders too high": ("voc2012", "VOCdevkit/VOC2012/JPEGImages/a.jpg", "VOCdevkit/VOC2012 holds JPEGImages"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_versions_and_places_are_told_by_their_signs(tmp_path, case):
    name, files, says = WRONG[case]
    found = check_release(name, names(tmp_path, *files.split()))
    assert not found.ok
    assert re.search(says, "\n".join(found.problems)), found.problems


@pytest.mark.parametrize("whole", [True, False])
def test_a_zip_counts_as_unpacked_and_nobody_is_told_to_unpack_it(tmp_path, whole):
    with zipfile.ZipFile(tmp_path / "data_semantics.zip", "w") as archive:
        for stem in (stem for split in ("train", "val") for stem in split_list("kitti-19", split)):
            for kind in ("image_2", "semantic"):
                if whole or stem == split_list("kitti-19", "val")[0]:
                    archive.writestr(f"training/{kind}/{stem}.png", "")
    found = check_release("kitti-19", tmp_path)
    said = "data_semantics.zip lies here packed; it counts as unpacked; if files of it are missing, download it again"
    assert (found.ok, found.problems) == (whole, () if whole else (said,))
    assert [split.images for split in found.splits] == ([150, 50] if whole else [0, 1])


def test_a_folder_too_low_is_told(tmp_path):
    names(tmp_path / "release", "seg/images/train/a.jpg", "seg/labels/train/a_train_id.png")
    for low in ("seg", "seg/images"):
        (problem,) = check_release("bdd", tmp_path / "release" / low).problems
        assert problem == f"{tmp_path / 'release'} holds seg; give that folder"


def test_signs_do_not_show_in_a_release_as_it_should_be():
    """What a layout names must not be what another's sign is, by a slip."""
    for name, facts in registry().items():
        for sign in facts.signs:
            assert not (sign.wrong and set(sign.has) <= set(tops(facts.layout)) and not sign.lacks), name


def test_images_of_another_part_among_them_are_told_by_their_number(tmp_path):
    raw = names(
        tmp_path,
        *(f"leftImg8bit/val/1/{n:06d}_leftImg8bit.png" for n in range(983)),
        *(f"gtFine/val/1/{n:06d}_gtFine_polygons.json" for n in range(983)),
    )
    found = check_release("idd-39", raw)
    assert found.splits[1].problem is None
    (problem,) = found.problems
    assert problem.startswith("val: 2 images more than expected; images of part II")


def test_totals_are_checked_where_splits_are_not_known(tmp_path):
    ids = {"training": range(3), "validation": range(3, 5)}
    raw = names(tmp_path, *(f"images/{n}.jpg" for n in range(5)), *(f"panoptic/{n}.png" for n in range(5)))
    notes = [{"file_name": f"{n}.png", "image_id": f"{n}", "segments_info": []} for n in range(5)]
    pictures = [{"file_name": f"{n}.jpg", "id": f"{n}"} for n in range(5)]
    (raw / "panoptic.json").write_text(json.dumps({"annotations": notes, "images": pictures, "categories": []}))
    (raw / "random_split").mkdir()
    for part, listed in ids.items():
        (raw / f"random_split/{part}.txt").write_text("".join(f"{n}\n" for n in listed))
    found = check_release("wilddash2-19", raw)
    assert [(s.split, s.expected, s.images, s.problem) for s in found.splits] == [
        ("train", None, 3, None),
        ("val", None, 2, None),
    ]
    assert found.problems == ("5 images in all, expected 4256; unpack every archive of the release here",)


def test_datasets_without_labels(tmp_path):
    found = check_release("bravo", names(tmp_path, "bravo_ACDC/fog/a.png", "bravo_SMIYC/b.jpg"))
    (test,) = found.splits
    assert (test.images, test.labels, test.problem, found.ok) == (2, None, None, True)
    assert found.notes == tuple(f"bravo_{s}/ is not here" for s in ("outofcontext", "synflare", "synobjs", "synrain"))
    (tmp_path / "empty").mkdir()
    (test,) = check_release("bravo", tmp_path / "empty").splits
    assert (test.images, test.labels, test.missing_labels) == (0, None, 0)
    assert "bravo_ACDC: no such folder" in test.problem


def test_own_data_and_bad_use(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text(
        "{name: own, root: data, splits: {train: {images: a/*.jpg, labels: b/*.png}}, classes: [{name: a}, {name: b}]}"
    )
    names(tmp_path / "data", "a/1.jpg", "a/2.jpg", "b/1.png")
    (train,) = check_release(str(own)).splits
    assert (train.expected, train.images, train.labels, train.first_missing) == (None, 2, 1, ("b/2.png",))
    with pytest.raises(UsageError, match="give the folder of the data"):
        check_release("kitti-19")
    with pytest.raises(UsageError, match="is a taxonomy of bdd"):
        check_release("bdd-relabeled", tmp_path)


def test_a_missing_folder_is_one_problem_of_each_split(tmp_path):
    found = check_release("ade20k-150", tmp_path / "nowhere")
    assert all("nowhere: no such folder" in split.problem for split in found.splits)
    assert not found.ok
