"""Folders of dumped logits to BRAVO's files."""

import json

import cv2
import numpy as np
import pytest
from scipy.special import softmax

from segstream.cli.commands.ensemble import ensemble
from segstream.shards.errors import DataError, UsageError

NAMES = ("bravo_ACDC/fog/a", "bravo_SMIYC/b")


def dump(folder, name, seed, size_hw=(6, 7)):
    path = folder / f"{name}_logits.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    logits = np.random.default_rng(seed).normal(0, 2, (19, *size_hw)).astype(np.float16)
    np.savez_compressed(path, logits=logits)
    return logits.astype(np.float64)


@pytest.fixture
def models(tmp_path):
    """Two models' folders, one as `predict` writes it, and what they hold."""
    folders = [tmp_path / "one", tmp_path / "two"]
    roots = [folders[0] / "logits", folders[1]]
    content = {name: [dump(root, name, 10 * i + j) for j, root in enumerate(roots)] for i, name in enumerate(NAMES)}
    return folders, content


def read(path):
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def test_labels_and_confidences_are_those_of_the_mean_of_softmax(models, tmp_path, capsys):
    folders, content = models
    ensemble(folders, tmp_path / "out", json=True)
    assert json.loads(capsys.readouterr().out)["made"] == 2
    for name, logits in content.items():
        mean = np.mean([softmax(x, axis=0) for x in logits], axis=0)
        pred, conf = read(tmp_path / f"out/{name}_pred.png"), read(tmp_path / f"out/{name}_conf.png")
        assert (pred.dtype, conf.dtype) == (np.uint8, np.uint16)
        np.testing.assert_array_equal(pred, mean.argmax(axis=0))
        apart = np.abs(conf - np.floor(mean.max(axis=0) * 65535))
        assert apart.max() <= 1  # float32 may fall on the other side of a step
        assert (apart == 0).mean() > 0.9
    assert sum(p.is_file() for p in (tmp_path / "out").rglob("*")) == 2 * len(NAMES) + 1


def test_only_what_is_missing_or_old_is_made_again(models, tmp_path, capsys):
    folders, _ = models
    out, later = tmp_path / "out", lambda: dump(folders[1], NAMES[1], 99)
    missing = (out / f"{NAMES[0]}_conf.png").unlink
    scores = out / "score.json"
    for change, expected in ((lambda: None, 2), (lambda: None, 0), (later, 1), (missing, 1)):
        change()
        if out.is_dir():
            scores.write_text("{}")
        ensemble(folders, out, json=True)
        assert json.loads(capsys.readouterr().out)["made"] == expected
        assert scores.exists() == (expected == 0)  # those of other files go
    with pytest.raises(DataError, match="rule is 'softmax', this run has 'max'"):
        ensemble(folders, out, rule="max")
    ensemble(folders, out, rule="max", overwrite=True, json=True)
    assert json.loads(capsys.readouterr().out)["made"] == 2


def test_an_image_that_a_model_lacks_is_an_error_unless_asked_for(models, tmp_path):
    folders, _ = models
    alone = dump(folders[1], "c", 5)
    with pytest.raises(DataError, match=r"1 of 3 images are not of all models, the first: c_logits.npz"):
        ensemble(folders, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    ensemble(folders, tmp_path / "out", allow_missing=True, weights="1,3")
    np.testing.assert_array_equal(read(tmp_path / "out/c_pred.png"), alone.argmax(axis=0))


def test_bad_files_are_named(models, tmp_path):
    folders, _ = models
    bad = folders[1] / f"{NAMES[0]}_logits.npz"
    whole = bad.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"no zip"):
        bad.write_bytes(content)
        with pytest.raises(DataError, match=r"two/bravo_ACDC/fog/a_logits.npz: no array"):
            ensemble(folders, tmp_path / "out")
    for arrays, says in (
        ({"other": np.zeros(3)}, "no array `logits` that can be read"),
        ({"logits": np.full((19, 6, 7), np.nan)}, "`logits` holds nan or infinity"),
        ({"logits": np.zeros((6, 7))}, r"float64 of \(6, 7\), not floats of three sides"),
    ):
        np.savez_compressed(bad, **arrays)
        with pytest.raises(DataError, match=rf"a_logits.npz: {says}"):
            ensemble(folders, tmp_path / "out")
    dump(folders[1], NAMES[0], 1, (6, 8))
    with pytest.raises(DataError, match=r"bravo_ACDC/fog/a: logits of \(19, 6, 8\) beside \(19, 6, 7\)"):
        ensemble(folders, tmp_path / "out")


def test_bad_use_is_told(models, tmp_path):
    folders, _ = models
    for weights in ("1", "1,0", "1,x", "1,2,3"):
        with pytest.raises(UsageError, match="give 2 numbers above 0"):
            ensemble(folders, tmp_path / "out", weights=weights)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: no \*_logits.npz"):
        ensemble([*folders, tmp_path / "empty"], tmp_path / "out")


LABEL_IDS = [
    7,
    8,
    11,
    12,
    13,
    17,
    19,
    20,
    21,
    22,
    23,
    24,
    25,
    26,
    27,
    28,
    31,
    32,
    33,
]  # of Cityscapes' 19, as published


def test_ids_of_cityscapes_server(models, tmp_path):
    folders, _ = models
    ensemble(folders, tmp_path / "own")
    ensemble(folders, tmp_path / "server", ids="cityscapes-34")
    for name in NAMES:
        own, server = (read(tmp_path / f"{folder}/{name}_pred.png") for folder in ("own", "server"))
        np.testing.assert_array_equal(server, np.array(LABEL_IDS)[own])
    with pytest.raises(DataError, match="ids is 'cityscapes-34', this run has nothing"):
        ensemble(folders, tmp_path / "server")
    for other in ({"score": ["x"]}, {"submission": tmp_path / "x.tar"}):
        with pytest.raises(UsageError, match="which have no --ids"):
            ensemble(folders, tmp_path / "server", ids="cityscapes-34", **other)
    (folders[0] / "predict.json").write_text('{"taxonomy": {"name": "camvid-11", "digest": "x"}}')
    with pytest.raises(UsageError, match="made of the classes of cityscapes-19, not of camvid-11"):
        ensemble(folders, tmp_path / "server", ids="cityscapes-34")


def test_more_classes_than_a_server_knows_are_refused(tmp_path):
    np.savez_compressed(tmp_path / "a_logits.npz", logits=np.eye(20, dtype=np.float16)[:, :, None])
    with pytest.raises(DataError, match="a: of more than 19 classes, which --ids cannot say"):
        ensemble([tmp_path], tmp_path / "out", ids="cityscapes-34")
