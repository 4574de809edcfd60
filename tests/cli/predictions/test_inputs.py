"""What `predict` takes besides files, folders and videos: shard sets and lists."""

import json

import numpy as np
import pytest
from PIL import Image

from segstream.cli.commands.ensemble import ensemble
from segstream.cli.commands.predict import predict
from segstream.cli.predictions.inputs import find_pictures, of_files
from segstream.model.config import InferConfig
from segstream.model.inference.infer import predict as scores_of
from segstream.model.networks.build import build
from segstream.model.networks.weights import load_any
from segstream.pipeline.decode import decode_image, decode_label
from segstream.shards.convert.convert import convert
from segstream.shards.errors import DataError
from segstream.shards.format.reader import open_shards
from segstream.shards.taxonomy import load_taxonomy
from tests.model.toy import TINY, save_net
from tests.shards import trees
from tests.shards.servers import serving

CITY = "cityscapes-19"
SETTINGS = {"crop": 33, "short_side": 32, "flip": True, "device": "cpu"}


@pytest.fixture(scope="module")
def final(tmp_path_factory):
    options = TINY | {"init": "kaiming"}
    place = tmp_path_factory.mktemp("net") / "final.pt"
    net = build("hrnet-tiny", 19, seed=3, **options)
    return save_net(place, net, options=options, taxonomy=load_taxonomy(CITY), eval=SETTINGS)


def scores(final, image):
    net, _ = load_any(final)
    return scores_of(net, [image], [None], InferConfig(**SETTINGS))[0][0].numpy()


def members(url, name, decode):
    with open_shards(url) as shards:
        return {shards.entry(i).key: decode(shards.read(i, name), where="") for i in range(len(shards))}


def label(path):
    return np.asarray(Image.open(path))


def test_samples_of_a_set_are_named_as_their_images(tmp_path, final, capsys):
    raw = trees.cityscapes(tmp_path / "raw")
    image = raw / "leftImg8bit/train/ulm/ulm_000000_000019_leftImg8bit.png"
    image.rename(image.with_name("u.1 x_leftImg8bit.png"))  # whose key is spelt otherwise
    (raw / "gtFine/train/ulm/ulm_000000_000019_gtFine_labelIds.png").rename(
        raw / "gtFine/train/ulm/u.1 x_gtFine_labelIds.png"
    )
    url = convert(CITY, split="train", raw=raw, out=tmp_path / "shards").url
    with serving(tmp_path / "shards") as server:
        for source, out in ((url, tmp_path / "out"), (f"{server.url}/{CITY}/train", tmp_path / "far")):
            predict(source, checkpoint=final, out=out, logits=True)
            rows = json.loads((out / "classes.json").read_text())["inputs"]
            assert list(rows) == ["aachen/aachen_000000_000019_leftImg8bit", "ulm/u.1 x_leftImg8bit"]
            assert rows["ulm/u.1 x_leftImg8bit"]["file"] == f"{source}/ulm/u%2E1%20x_leftImg8bit"
            for image, name in zip(members(url, "image", decode_image).values(), rows, strict=True):
                np.testing.assert_array_equal(label(out / f"labels/{name}.png"), scores(final, image).argmax(axis=0))
            capsys.readouterr()
            predict(source, checkpoint=final, out=out, logits=True)
            assert "2 of 2 were finished already" in capsys.readouterr().err
    ensemble([tmp_path / "out", tmp_path / "far"], out=tmp_path / "both")
    found = label(tmp_path / "both/ulm/u.1 x_leftImg8bit_pred.png")
    np.testing.assert_array_equal(found, label(tmp_path / "out/labels/ulm/u.1 x_leftImg8bit.png"))
    other = convert(CITY, split="val", raw=raw, out=tmp_path / "shards").url
    with pytest.raises(DataError, match="data is '"):  # keys of another set may be the same
        predict(other, checkpoint=final, out=tmp_path / "out")


def test_confidences_become_labels(tmp_path, final):
    """predict -> shard: the pixels that a lower threshold keeps and a higher one does not."""
    raw = trees.coarse(tmp_path / "raw")
    given = {"split": "train_extra", "raw": raw}
    url = convert(CITY, out=tmp_path / "coarse", **given).url
    predict(url, checkpoint=final, out=tmp_path / "auto", confidence=True)
    folder = raw / "leftImg8bit/train_extra"
    predict(str(folder), checkpoint=final, out=tmp_path / "from-files", confidence=True)
    files = {p.relative_to(tmp_path / "auto").as_posix() for p in (tmp_path / "auto").rglob("*.png")}
    assert files == {
        p.relative_to(tmp_path / "from-files").as_posix() for p in (tmp_path / "from-files").rglob("*.png")
    }
    written = {key: label(tmp_path / f"auto/confidences/{key}.png") for key in members(url, "native", decode_label)}
    threshold = float(np.median(list(written.values()))) / 65535
    spec = tmp_path / "auto.yaml"
    found = {}
    for least in (0, threshold):
        spec.write_text(f"{{folder: auto, threshold: {least}}}")
        found[least] = members(
            convert(CITY, out=tmp_path / "auto", auto_labels=spec, **given).url, "native", decode_label
        )
    for key, confidences in written.items():
        ids = label(tmp_path / f"auto/labels/{key}.png")
        np.testing.assert_array_equal(found[0][key], ids)
        np.testing.assert_array_equal(found[threshold][key] != ids, confidences / 65535 < threshold)
        assert set(found[threshold][key][confidences / 65535 < threshold].tolist()) == {255}
    predict(url, checkpoint=final, out=tmp_path / "cut", threshold=threshold)
    for key, native in found[threshold].items():
        np.testing.assert_array_equal(label(tmp_path / f"cut/labels/{key}.png"), native)


def test_a_list_names_pictures_relative_to_itself(tmp_path, final):
    rng = np.random.default_rng(2)
    for name in ("in/a/x.png", "in/b y.png", "far/z.png"):
        trees.save(tmp_path / name, trees.picture(rng))
    lines = tmp_path / "in/images.txt"
    lines.write_bytes("\ufeffa/x.png\r\n\r\n  b y.png \r\n".encode())
    predict(str(lines), checkpoint=final, out=tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out/labels").rglob("*.png")) == ["b y.png", "x.png"]
    image = label(tmp_path / "in/a/x.png")
    np.testing.assert_array_equal(label(tmp_path / "out/labels/a/x.png"), scores(final, image).argmax(axis=0))
    lines.write_text(f"a/x.png\n{tmp_path}/far/z.png\n")  # beyond the list's folder: named below what all share
    assert [item.name for item in of_files(str(lines), tmp_path / "out")] == ["in/a/x", "far/z"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("x.png\nnone.png\na\n", r"images\.txt: line 2: 'none\.png' is no file; line 3: 'a' is no file; a line is"),
        ("x.png\n./x.png\n", r"images\.txt: line 2: '\./x\.png' is line 1 again; a line is"),
        ("x.png\na\0b.png\n", "line 2: 'a.*b.png' is no file"),
        ("\n", r"images\.txt: no path in it"),
    ],
)
def test_wrong_lines_are_told(tmp_path, content, message):
    trees.save(tmp_path / "x.png", np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "a").mkdir()
    (tmp_path / "images.txt").write_text(content)
    with pytest.raises(DataError, match=message):
        of_files(str(tmp_path / "images.txt"), tmp_path / "out")


def test_pictures_are_found_by_file_folder_and_glob_and_the_rest_is_told(tmp_path):
    names = ("b.JPG", "a.png", "deep/er/c.Tiff", "d.webp", ".hidden/e.png", "._a.png", "notes.txt", "f.mp4")
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/g.heic").touch()
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("b.JPG", "a.png", "deep", "d.webp", ".hidden", "._a.png", "notes.txt", "f.mp4"):
        (tmp_path / name).rename(folder / name)
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    (folder / "lost.ppm").symlink_to(tmp_path / "nowhere.ppm")  # given, so that reading it says what is wrong
    shown = [folder / name for name in ("a.png", "b.JPG", "d.webp", "deep/er/c.Tiff", "link/g.heic", "lost.ppm")]
    others = [folder / name for name in ("f.mp4", "notes.txt")]
    assert find_pictures(folder) == (shown, others, folder)
    assert find_pictures(f"{folder}/**/*.[tT]iff") == ([folder / "deep/er/c.Tiff"], [], folder)
    assert find_pictures(f"{folder}/*") == ([*shown[:3], shown[-1]], others, folder)
    assert find_pictures(str(folder / "notes.txt")) == ([folder / "notes.txt"], [], folder)
    (folder / "odd[1].png").touch()
    assert find_pictures(folder / "odd[1].png") == ([folder / "odd[1].png"], [], folder)  # a file before a pattern
    for nothing in (tmp_path / "nowhere", f"{folder}/*.gif", folder / ".hidden/no"):
        with pytest.raises(DataError, match=r"no picture .*nothing is there"):
            find_pictures(nothing)
    with pytest.raises(DataError, match=r"no picture .*there are 1 \.mp4 \(.*f\.mp4\); name a file"):
        find_pictures(f"{folder}/f.*")
