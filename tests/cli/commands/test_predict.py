"""Pictures and videos to label maps, as a user runs it: in this process, with a network of known answers."""

import json
import os
from fractions import Fraction

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy.special import softmax

from segstream.cli.commands.predict import predict
from segstream.cli.predictions.media import open_video, write_video
from segstream.cli.predictions.output_folder import named
from segstream.cli.predictions.overlay import draw
from segstream.cli.predictions.predict import grouped
from segstream.model.config import InferConfig
from segstream.model.inference.infer import by_scale
from segstream.model.inference.infer import predict as scores_of
from segstream.model.inference.predictor import Predictor
from segstream.model.networks.build import build
from segstream.model.networks.weights import load_any
from segstream.shards.errors import DataError, UsageError
from tests.model.literal_inference import random_image, settled
from tests.model.plain import HMSA
from tests.model.toy import CLASSES, TINY, save_net, save_published
from tests.shards.trees import save

SETTINGS = {"crop": 33, "short_side": 32, "flip": True, "device": "cpu"}


def checkpoint(path, seed=3):
    options = TINY | {"init": "kaiming"}
    return save_net(path, build("hrnet-tiny", 3, seed=seed, **options), options=options, eval=SETTINGS)


@pytest.fixture
def final(tmp_path):
    return checkpoint(tmp_path / "final.pt")


def picture(seed, size_hw=(40, 52)):
    return random_image(*size_hw, seed)


def folder(path, names):
    for i, name in enumerate(names):
        save(path / name, picture(i))
    return path


def label(path):
    return np.asarray(Image.open(path))


def expected_scores(final, image, **changes):
    net, _ = load_any(final)
    return scores_of(net, [image], [None], InferConfig(**SETTINGS | changes))[0][0].numpy()


def expected(final, image, **changes):
    return expected_scores(final, image, **changes).argmax(axis=0)


def run(source, final, out, **options):
    predict(str(source), checkpoint=final, out=out, **options)


def test_a_folder_keeps_its_sub_folders(tmp_path, final, capsys):
    names = ("a/x.png", "b/x.png", "y.png")
    source = folder(tmp_path / "in", names)
    for other in ("notes.txt", "a/drive.MTS"):
        (source / other).touch()
    run(source, final, tmp_path / "out", overlay=True, json=True)
    printed = capsys.readouterr()
    told = f"1 .mts ({source}/a/drive.MTS), 1 .txt ({source}/notes.txt); name a video to segment it"
    assert f"predict: left out 2 files that are no pictures: {told}\n" in printed.err
    report = json.loads(printed.out)
    summary = json.loads((tmp_path / "out/classes.json").read_text())
    assert report["inputs"] == summary["inputs"]
    assert list(summary["inputs"]) == ["a/x", "b/x", "y"]
    assert summary["classes"] == list(CLASSES)
    for i, name in enumerate(names):
        ids = label(tmp_path / "out/labels" / name)
        np.testing.assert_array_equal(ids, expected(final, picture(i)))
        assert ids.dtype == np.uint8
        row = summary["inputs"][name.removesuffix(".png")]
        assert row["size_hw"] == [40, 52]
        shares = {CLASSES[k]: round(float((ids == k).mean()), 6) for k in range(3) if (ids == k).any()}
        assert row["classes"] == shares
        with Image.open((tmp_path / "out/overlays" / name).with_suffix(".jpg")) as drawn:
            assert drawn.size == (52 * 4, 40 * 4)  # small pictures are drawn enlarged
    assert not list((tmp_path / "out").rglob("*.part"))


def test_one_image_and_a_glob(tmp_path, final):
    source = folder(tmp_path / "in", ("a/x.png", "b/x.png", "b/y.png"))
    run(source / "b/y.png", final, tmp_path / "one")
    assert [p.name for p in (tmp_path / "one/labels").rglob("*.*")] == ["y.png"]
    run(f"{source}/*/x.png", final, tmp_path / "glob")
    names = {p.relative_to(tmp_path / "glob/labels").as_posix() for p in (tmp_path / "glob/labels").rglob("*.png")}
    assert names == {"a/x.png", "b/x.png"}
    assert not (tmp_path / "glob/overlays").exists()


def test_results_inside_the_folder_are_no_inputs(tmp_path, final):
    source = folder(tmp_path / "frames.mp4", ("a.png",))  # a folder may be named like a video
    for _ in range(2):
        run(source, final, source / "out", overlay=True)
        assert list(json.loads((source / "out/classes.json").read_text())["inputs"]) == ["a"]
    np.testing.assert_array_equal(label(source / "out/labels/a.png"), expected(final, picture(0)))
    with pytest.raises(DataError, match="all of its pictures are in --out"):
        run(source / "out", final, source / "out", overlay=True)


def test_two_inputs_of_one_name_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"a.jpg and .*a.PNG would both become labels/a.png"):
        named([tmp_path / "a.jpg", tmp_path / "a.PNG"], tmp_path)
    assert named([tmp_path / "x/a.jpg", tmp_path / "a.jpg"], tmp_path)[0].name == "x/a"


def test_settings_reach_the_procedure(tmp_path, final):
    source = folder(tmp_path / "in", ("x.png",))
    run(source, final, tmp_path / "a", short_side="native", crop=17, scales="0.5,1.5", flip=False)
    changes = {"short_side": None, "crop": 17, "scales": (0.5, 1.5), "flip": False}
    np.testing.assert_array_equal(label(tmp_path / "a/labels/x.png"), expected(final, picture(0), **changes))
    identity = json.loads((tmp_path / "a/predict.json").read_text())
    assert identity["inference"]["scales"] == [0.5, 1.5]
    run(source, final, tmp_path / "c", long_side="48")
    changes = {"short_side": None, "long_side": 48}
    np.testing.assert_array_equal(label(tmp_path / "c/labels/x.png"), expected(final, picture(0), **changes))
    run(source, final, tmp_path / "b", scales="multi", short_side="36")
    assert len(json.loads((tmp_path / "b/predict.json").read_text())["inference"]["scales"]) == 6


def test_only_what_is_missing_is_made_again(tmp_path, final, monkeypatch):
    source = folder(tmp_path / "in", ("a.png", "b.png", "c.png"))
    run(source, final, tmp_path / "out")
    before = (tmp_path / "out/classes.json").read_text()
    (tmp_path / "out/labels/b.png").unlink()
    os.utime(tmp_path / "out/labels/c.png", ns=(0, 0))  # older than its picture
    made = []
    original = Predictor.__call__
    monkeypatch.setattr(Predictor, "__call__", lambda self, images: made.append(len(images)) or original(self, images))
    run(source, final, tmp_path / "out")
    assert sum(made) == 2
    assert (tmp_path / "out/classes.json").read_text() == before
    run(source, final, tmp_path / "out", overlay=True)  # one more kind of output
    assert sum(made) == 5


def test_another_way_to_make_them_is_refused_or_makes_all_of_them(tmp_path, final):
    source = folder(tmp_path / "in", ("a.png", "b.png"))
    run(source, final, tmp_path / "out")
    with pytest.raises(DataError, match=r"inference.crop is 33, this run has 17.*--overwrite"):
        run(source, final, tmp_path / "out", crop=17)
    with pytest.raises(DataError, match="checkpoint is"):
        run(source, checkpoint(tmp_path / "other.pt", seed=4), tmp_path / "out")
    (source / "b.png").rename(tmp_path / "b.png")  # an overwriting call is killed, having got as far as a.png
    run(source, final, tmp_path / "out", crop=17, overwrite=True)
    (tmp_path / "b.png").rename(source / "b.png")
    run(source, final, tmp_path / "out", crop=17)
    for i, name in enumerate("ab"):  # nothing old is left
        np.testing.assert_array_equal(label(tmp_path / f"out/labels/{name}.png"), expected(final, picture(i), crop=17))


def test_a_bad_picture_is_reported_and_the_others_are_made(tmp_path, final, capsys):
    source = folder(tmp_path / "in", ("a.png", "c.png"))
    (source / "b.png").write_bytes(b"")
    Image.new("L", (1, 30000)).save(source / "thin.png")
    with pytest.raises(DataError, match=r"2 of 4 inputs failed, the first: .*b.png: empty file"):
        run(source, final, tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out/labels").iterdir()) == ["a.png", "c.png"]
    rows = json.loads((tmp_path / "out/classes.json").read_text())["inputs"]
    assert "empty file" in rows["b"]["error"]
    assert "thin.png: an image of 1 x 30000 would be segmented at 33 x 960000" in rows["thin"]["error"]
    assert "failed: " in capsys.readouterr().err


def test_dumped_scores_are_float16_at_native_size(tmp_path, final):
    source = folder(tmp_path / "in", ("s/a.png",))
    run(source, final, tmp_path / "l", logits=True)
    run(source, final, tmp_path / "p", probabilities=True)
    wanted = expected_scores(final, picture(0))
    with np.load(tmp_path / "l/logits/s/a_logits.npz") as file:
        assert file.files == ["logits"]
        logits = file["logits"]
    with np.load(tmp_path / "p/logits/s/a_probabilities.npz") as file:
        shares = file["probabilities"]
    assert (logits.dtype, logits.shape, shares.dtype) == (np.float16, (3, 40, 52), np.float16)
    np.testing.assert_allclose(shares, wanted, atol=1e-3)
    np.testing.assert_allclose(softmax(logits.astype(float), axis=0), wanted, atol=5e-3)
    np.testing.assert_array_equal(label(tmp_path / "l/labels/s/a.png"), wanted.argmax(axis=0))


def test_confidences_and_a_threshold(tmp_path, final):
    """255 is where the confidence that is written, not the one before it, is below."""
    source = folder(tmp_path / "in", ("s/a.png",))
    run(source, final, tmp_path / "all", confidence=True)
    scores = expected_scores(final, picture(0))
    written = label(tmp_path / "all/confidences/s/a.png")
    assert written.dtype == np.uint16
    np.testing.assert_allclose(written / 65535, scores.max(axis=0), atol=1e-4)
    np.testing.assert_array_equal(label(tmp_path / "all/labels/s/a.png"), scores.argmax(axis=0))
    threshold = float(np.median(written)) / 65535
    for options in ({"confidence": True}, {"logits": True}, {"probabilities": True, "overlay": True}):
        out = tmp_path / str(len(options) + len(next(iter(options))))
        for _ in range(2):  # the second reads what the first has written
            run(source, final, out, threshold=threshold, **options)
            unsure = written / 65535 < threshold
            assert 0.1 < unsure.mean() < 0.9
            ids = label(out / "labels/s/a.png")
            np.testing.assert_array_equal(ids, np.where(unsure, 255, scores.argmax(axis=0)))
            row = json.loads((out / "classes.json").read_text())["inputs"]["s/a"]
            known = ids[~unsure]
            assert row["classes"] == {CLASSES[k]: round(float((known == k).mean()), 6) for k in set(known.tolist())}
    with pytest.raises(DataError, match="threshold"):
        run(source, final, out)


def test_more_than_255_classes_are_written_with_16_bits(tmp_path):
    file = save_published(tmp_path / "naive.pth", 316)
    source = folder(tmp_path / "in", ("a.png",))
    run(source, file, tmp_path / "out", crop=33, arch="hrnet-tiny", device="cpu", overlay=True)
    ids = cv2.imread(str(tmp_path / "out/labels/a.png"), cv2.IMREAD_UNCHANGED)
    assert (ids.dtype, ids.shape) == (np.uint16, (40, 52))
    np.testing.assert_array_equal(ids, expected(file, picture(0), short_side=None))
    run(source, file, tmp_path / "b", crop=33, arch="hrnet-tiny", device="cpu", threshold=1)
    assert (cv2.imread(str(tmp_path / "b/labels/a.png"), cv2.IMREAD_UNCHANGED) == 255).all()  # which is no class there


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"logits": True, "probabilities": True}, "one of the two"),
        ({"taxonomy": "cityscapes-19"}, "predictions in taxonomy 'toy' cannot be scored in 'cityscapes-19'"),
        ({"n_scales": "0.5,1"}, "only hierarchical multi-scale attention"),
        ({"classes": 4}, "has 3 classes, not 4"),
    ],
)
def test_bad_options_are_told(tmp_path, final, options, text):
    source = folder(tmp_path / "in", ("a.png",))
    with pytest.raises(DataError, match=text):
        run(source, final, tmp_path / "out", **options)


def test_places_that_cannot_be_used_are_told(tmp_path, final):
    source = folder(tmp_path / "in", ("a.png",))
    (tmp_path / "file").write_text("")
    for asked, message in (
        ((source, final, tmp_path / "file"), r"file/predict.json: cannot be read"),
        ((tmp_path / "none", final, tmp_path / "out"), r"no picture \("),
        ((source, tmp_path / "none.pt", tmp_path / "out"), "no such file"),
    ):
        with pytest.raises(DataError, match=message):
            run(*asked)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/labels").write_text("")
    with pytest.raises(DataError, match=r"labels/a.png: cannot be written"):
        run(source, final, tmp_path / "out")


def test_groups_are_of_one_size_and_lose_nothing():
    items = [(1, 1), (2, 2), (1, 1), (2, 2), (1, 1), (3, 3)] + [(9, n) for n in range(40)]
    groups = list(grouped(items, lambda size: size, lambda size: 2))
    assert sorted(item for group in groups for item in group) == sorted(items)
    assert all(len(set(group)) == 1 and len(group) <= 2 for group in groups)
    assert groups[:2] == [[(1, 1)] * 2, [(2, 2)] * 2]


def video(path, count=5):
    with write_video(path, (48, 64), Fraction(15)) as write:
        for i in range(count):
            write(picture(i, (48, 64)))
    return path


def test_a_video_is_segmented_frame_for_frame(tmp_path, final, capsys):
    pytest.importorskip("av")
    source = video(tmp_path / "v.mp4")
    run(source, final, tmp_path / "out", frame_labels=True)
    frames = list(open_video(source).frames())
    for i, frame in enumerate(frames):
        np.testing.assert_array_equal(label(tmp_path / f"out/labels/v/{i:06d}.png"), expected(final, frame))
    result = open_video(tmp_path / "out/overlays/v.mp4")
    assert (result.rate, result.count, result.size_hw) == (Fraction(15), 5, (48 * 4, 64 * 4))
    row = json.loads((tmp_path / "out/classes.json").read_text())["inputs"]["v"]
    assert row["frames"] == 5
    assert sum(row["classes"].values()) == pytest.approx(1, abs=1e-5)
    made = (tmp_path / "out/overlays/v.mp4").stat().st_mtime_ns
    run(source, final, tmp_path / "out", frame_labels=True)
    assert "finished already" in capsys.readouterr().err
    assert (tmp_path / "out/overlays/v.mp4").stat().st_mtime_ns == made
    (tmp_path / "out/labels/v/000003.png").unlink()
    run(source, final, tmp_path / "out", frame_labels=True)
    assert (tmp_path / "out/labels/v/000003.png").exists()


def test_a_truncated_video_keeps_its_frames_and_says_where_it_ends(tmp_path, final):
    pytest.importorskip("av")
    source = video(tmp_path / "v.mkv", count=30)
    source.write_bytes(source.read_bytes()[:-400])
    with pytest.raises(DataError, match=r"v.mkv, frame \d+: "):
        run(source, final, tmp_path / "out")
    assert not (tmp_path / "out/overlays/v.mp4").exists()
    kept = len(list(open_video(tmp_path / "out/overlays/v.partial.mp4").frames()))
    row = json.loads((tmp_path / "out/classes.json").read_text())["inputs"]["v"]
    assert 0 < kept == row["frames"] < 30
    assert "v.mkv, frame" in row["error"]


def test_attention_and_prediction_at_each_scale_are_drawn_and_counted_as_outputs(tmp_path):
    net, options = settled("hmsa", 3, **HMSA), HMSA | {"init": "kaiming"}
    final = save_net(tmp_path / "final.pt", net, arch="hmsa", options=options, eval=SETTINGS | {"n_scales": [1.0, 2.0]})
    source, out = folder(tmp_path / "in", ["a/x.png"]), tmp_path / "out"
    run(source, final, out, attention=True)
    predictor = Predictor(final)
    views = by_scale(predictor.net, picture(0), None, predictor.config)
    for scale, (ids, attention) in views.items():
        np.testing.assert_array_equal(label(out / f"scales/{scale:g}/a/x_attention.png"), (attention * 255).round())
        drawn = draw(picture(0), ids, predictor.taxonomy.classes)
        assert np.abs(label(out / f"scales/{scale:g}/a/x_overlay.jpg") - drawn.astype(float)).mean() < 8
    (out / "scales/2/a/x_attention.png").unlink()
    run(source, final, out, attention=True)
    assert (out / "scales/2/a/x_attention.png").exists()
    with pytest.raises(UsageError, match="only hmsa networks have it"):
        run(source, final, tmp_path / "windows", attention=True, scales="1")
    with pytest.raises(UsageError, match="only hmsa networks have it"):
        run(source, checkpoint(tmp_path / "hrnet.pt"), tmp_path / "hrnet", attention=True)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"logits": True}, "labels only"),
        ({"attention": True}, "labels only"),
        ({"threshold": 0.5}, "labels only"),
        ({"overlay": False}, "gives nothing"),
    ],
)
def test_a_video_has_no_scores(tmp_path, final, options, says):
    with pytest.raises(UsageError, match=says):
        run(tmp_path / "v.mp4", final, tmp_path / "out", **options)
