"""GTA5: Cityscapes ids as palette indices, splits in a MATLAB file, two blank pictures and some of another size."""

import io
import tarfile
import zipfile

import numpy as np
import pytest
import scipy.io
from PIL import Image

from segstream.shards.convert.convert import convert
from segstream.shards.errors import DataError
from segstream.shards.taxonomy import load_taxonomy
from tests.shards.datasets.reading import VOID, dataset, found, natives, noise, write

NAME = "gta5-19"
SIZE_HW = (1052, 1914)
PALETTE = [(37 * i + 11 * c) % 256 for i in range(256) for c in range(3)]
TRAIN_IDS = dict(
    zip([7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33], range(19), strict=True)
)


def release(root, **splits):
    """split.mat as MATLAB writes it: columns of doubles."""
    columns = {name: np.array(ids, np.float64)[:, None] for name, ids in splits.items()}
    scipy.io.savemat(root / "split.mat", columns)
    (root / "images").mkdir()
    (root / "labels").mkdir()
    return root


def picture(root, number, label, image=None):
    write(root / f"images/{number:05d}.png", noise(label.shape) if image is None else image)
    write(root / f"labels/{number:05d}.png", label, palette=PALETTE)


def full(*rows):
    """A label of the release's size with these values in its first row, road elsewhere."""
    label = np.full(SIZE_HW, 7)
    label[0, : len(rows)] = rows
    return label


def test_splits_are_those_of_the_release_without_its_blank_pictures(tmp_path):
    release(tmp_path, trainIds=[1, 15188, 3], valIds=[17705, 2], testIds=[24966])
    for number in (1, 2, 15188, 17705, 24966):
        picture(tmp_path, number, np.zeros((4, 4)))
    train = found(NAME, tmp_path, "train")
    assert [(p.key, p.image, p.label) for p in train.pairs] == [("00001", "images/00001.png", "labels/00001.png")]
    assert train.absent == ("images/00003.png",)
    assert [p.key for p in found(NAME, tmp_path, "val").pairs] == ["00002"]
    assert [p.key for p in found(NAME, tmp_path, "test").pairs] == ["24966"]


def test_every_id_and_those_no_class_has(tmp_path):
    release(tmp_path, trainIds=[1])
    picture(tmp_path, 1, full(*range(256)), image=np.zeros((*SIZE_HW, 3)))
    (native,) = natives(NAME, tmp_path, "train").values()
    assert native[0, :256].tolist() == [TRAIN_IDS.get(i, VOID) for i in range(256)]
    assert (native[1:] == 0).all()
    assert dataset(NAME).taxonomy is load_taxonomy("cityscapes-19")


def test_a_label_of_another_size_is_resized_by_nearest(tmp_path):
    release(tmp_path, trainIds=[1])
    label = np.random.default_rng(0).choice([7, 11, 23, 26], (526, 957))  # half as high, half as wide
    picture(tmp_path, 1, label)
    (native,) = natives(NAME, tmp_path, "train").values()
    expected = np.kron(np.vectorize(TRAIN_IDS.get)(label), np.ones((2, 2), int))
    assert np.array_equal(native, expected)


def test_a_picture_of_another_size_is_resized_as_the_reference_does_and_others_keep_their_bytes():
    pixels = noise((1046, 1914))
    other, right = io.BytesIO(), io.BytesIO()
    Image.fromarray(pixels).save(other, "PNG", compress_level=1)
    Image.new("RGB", SIZE_HW[::-1], (1, 2, 3)).save(right, "PNG", compress_level=1)
    repaired = dataset(NAME).read_image(other.getvalue())
    assert repaired.as_is is None
    assert np.array_equal(repaired.pixels, np.asarray(Image.fromarray(pixels).resize((1914, 1052))))
    assert dataset(NAME).read_image(right.getvalue()).as_is == "png"


@pytest.mark.parametrize("data", [None, b"", b"MATLAB 5.0 MAT-file"])
def test_a_split_file_that_is_none(tmp_path, data):
    release(tmp_path, trainIds=[1])
    (tmp_path / "split.mat").unlink()
    if data is not None:
        (tmp_path / "split.mat").write_bytes(data)
    with pytest.raises(
        DataError, match=r"split\.mat: (cannot be read|scipy cannot read it as a|its first bytes do not say MATLAB 5)"
    ):
        found(NAME, tmp_path, "train")


def test_a_split_that_the_file_lacks(tmp_path):
    release(tmp_path, trainIds=[1])
    with pytest.raises(DataError, match=r"split\.mat: the \.mat file holds no valIds; download it again"):
        found(NAME, tmp_path, "val")


def test_from_the_archives_to_a_shard_picture_and_label_of_different_sizes(tmp_path):
    """The archives as downloaded; the label is wrong in width, the picture right."""
    (tmp_path / "raw").mkdir()
    release(tmp_path, valIds=[2])
    label = np.repeat(np.array([[7, 11, 23], [40, 26, 0]]), 526, 0)
    picture(tmp_path, 2, label, image=np.zeros((*SIZE_HW, 3)))
    for name, path in {
        "01_images": "images/00002.png",
        "01_labels": "labels/00002.png",
        "read_mapping": "read_mapping/split.mat",
    }.items():
        with zipfile.ZipFile(tmp_path / f"raw/{name}.zip", "w") as archive:
            archive.write(tmp_path / path.removeprefix("read_mapping/"), path)
    convert(dataset=NAME, split="val", raw=tmp_path / "raw", out=str(tmp_path / "out"))
    with tarfile.open(tmp_path / f"out/{NAME}/val/shard-000000.tar") as shard:
        files = {m.name: shard.extractfile(m).read() for m in shard}
    assert files["00002.png"] == (tmp_path / "images/00002.png").read_bytes()
    native = np.asarray(Image.open(io.BytesIO(files["00002.native.png"])))
    assert np.array_equal(native, np.kron([[0, 2, 10], [VOID, 13, VOID]], np.ones((526, 638))))
