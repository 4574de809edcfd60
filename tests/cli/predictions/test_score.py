"""Folders of label maps and confidences against labelled sets, and what is submitted of them."""

import json
import struct
import tarfile
import zlib
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import yaml

from segstream.cli.commands.ensemble import ensemble
from segstream.cli.predictions import bravo
from segstream.cli.predictions.output_folder import write_label
from segstream.model.evaluation.calibration import count, curve, success
from segstream.model.evaluation.metrics import measure
from segstream.shards.convert.convert import convert
from segstream.shards.errors import DataError, UsageError
from segstream.shards.files import write_bytes
from tests.shards.servers import serving
from tests.shards.trees import picture, save

zstandard = pytest.importorskip("zstandard")
NAMES = {
    "ACDCfog": "bravo_ACDC/fog/test/G/f_rgb_anon",
    "SMIYC": "bravo_SMIYC/RoadAnomaly21/images/zebra.0",
    "synobjs": "bravo_synobjs/cheetah/s_leftImg8bit",
    "mine": "city/plain",
}
BASES = {**NAMES, "ACDCfog": "bravo_ACDC/fog/test/G/f"}
HW = (24, 32)
K = 3
PICKED = {name: np.r_[3, 4, 7 + n, 300:760:2] for n, name in enumerate(NAMES.values())}


def arrays(name):
    """Ids, confidences, labels and mask of an image."""
    rng = np.random.default_rng(len(name))
    label, unknown = rng.choice([0, 1, 2, 255], HW), rng.choice([0, 0, 1, 255], HW)
    pred = np.where(rng.random(HW) < 0.6, label % 255, rng.integers(0, K, HW))
    return pred.astype(np.uint8), rng.integers(0, 1 << 16, HW).astype(np.uint16), label, unknown


def own(folder, dataset, classes, names, which):
    """URL of a labelled set of own data."""
    rng = np.random.default_rng(0)
    for name in names:
        save(folder / f"{dataset}/images/{name}.png", picture(rng))
        save(folder / f"{dataset}/labels/{name}.png", arrays(name)[which].astype(np.uint8))
    spec = {"name": dataset, "root": ".", "classes": [{"name": c} for c in classes]}
    spec["splits"] = {"val": {"images": "images/**/*.png", "labels": "labels/**/*.png"}}
    (folder / f"{dataset}/own.yaml").write_text(yaml.safe_dump(spec))
    return str(convert(folder / f"{dataset}/own.yaml", split="val", out=folder / "shards").url)


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """URLs of class labels of all but SMIYC, and of masks of all but ours."""
    folder = tmp_path_factory.mktemp("sets")
    labelled, masked = ([n for s, n in NAMES.items() if s != without] for without in ("SMIYC", "mine"))
    return own(folder, "mine", ("a", "b", "c"), labelled, 2), own(folder, "masks", ("known", "unknown"), masked, 3)


@pytest.fixture
def out(tmp_path):
    for name in NAMES.values():
        write_label(tmp_path / f"out/{name}_pred.png", arrays(name)[0])
        write_label(tmp_path / f"out/{name}_conf.png", arrays(name)[1])
    return tmp_path / "out"


def pack(indices):
    """A file of samples, as its description says."""
    data = len(indices).to_bytes(3, "little") + int(indices[0]).to_bytes(3, "little")
    for step in np.diff(indices).tolist():
        data += bytes([step]) if step < 256 else b"\0" + step.to_bytes(3, "little")
    return zstandard.ZstdCompressor(level=9).compress(data)


@pytest.fixture
def samples(tmp_path):
    for subset, name in NAMES.items():
        write_bytes(tmp_path / f"sampling/{BASES[subset]}_samples.bin", pack(PICKED[name]))
    return tmp_path / "sampling"


def expected(name, *, labelled, masked, picked=slice(None)):
    """What one image counts."""
    pred, sure, label, unknown = arrays(name)
    if not masked:
        unknown = np.zeros(HW, int)
    elif labelled:
        unknown = np.where(label == 255, 255, unknown)
    return count(pred, sure, label if labelled else np.full(HW, 255), unknown, K, picked)


def turned(row):
    """The measures of a subset that enter means, more being better."""
    classes = [row[k] for k in ("miou_hmsa", "auroc", "aupr_success", "aupr_error") if k in row]
    classes += [1 - row[k] for k in ("ece", "fpr95") if k in row]
    return classes, [row["ood_auroc"], row["ood_aupr"], 1 - row["ood_fpr95"]] if "ood_auroc" in row else []


def harmonic(values):
    return len(values) / sum(1 / v for v in values)


@pytest.mark.parametrize("sampled", [False, True])
def test_subsets_are_scored_as_the_challenge_defines_and_means_are_harmonic(out, sets, samples, sampled, capsys):
    ensemble([], out, score=[sets[0]], score_ood=[sets[1]], samples=samples if sampled else None, json=True)
    found = json.loads(capsys.readouterr().out)["score"]
    assert found == json.loads((out / "score.json").read_text())
    assert found["images"] == 4
    assert [*found["subsets"]] == sorted(NAMES)
    for subset, name in NAMES.items():
        row = found["subsets"][subset]
        how = {"labelled": subset != "SMIYC", "masked": subset != "mine"}
        confusion, levels = expected(name, **how, picked=PICKED[name] if sampled else slice(None))
        if subset == "SMIYC":
            assert "miou_hmsa" not in row
        else:
            assert row["miou_mseg"] == pytest.approx(measure(confusion)[0]["miou"])
            assert row["miou_hmsa"] == pytest.approx(measure(confusion, rule="hmsa")[0]["miou"])
            assert {k: row[k] for k in success(*levels[:2])} == pytest.approx(success(*levels[:2]))
            assert row["classes"].keys() == {"a", "b", "c"}
            assert sum(share for _, _, share in row["reliability"]) == pytest.approx(1)
        ood = [row.get(f"ood_{name}") for name in ("auroc", "aupr", "fpr95")]
        inside = subset in ("SMIYC", "synobjs")
        assert ood == (pytest.approx(list(curve(levels[3][::-1], levels[2][::-1]))) if inside else [None] * 3)
        assert row["hmean"] == pytest.approx(harmonic([*chain(*turned(row))]))
    semantic, ood = ([*chain(*values)] for values in zip(*map(turned, found["subsets"].values()), strict=True))
    assert (len(semantic), len(ood)) == (3 * 6, 2 * 3)
    assert found["semantic"] == pytest.approx(harmonic(semantic))
    assert found["ood"] == pytest.approx(harmonic(ood))
    assert found["bravo_index"] == pytest.approx(harmonic([found["semantic"], found["ood"]]))


def test_the_table_shows_percent_and_dashes(out, sets, capsys):
    ensemble([], out, score=[sets[0]])
    text = capsys.readouterr().out
    row = json.loads((out / "score.json").read_text())["subsets"]["mine"]
    assert " ".join(f"{100 * row[k]:.1f}" for k in ("miou_mseg", "miou_hmsa", "accuracy", "ece")) in " ".join(
        text.split()
    )
    assert "ood -, bravo_index -" in text


def test_what_predict_leaves_is_scored_alike(out, sets, capsys):
    ensemble([], out, score=[sets[0]], json=True)
    expected = json.loads(capsys.readouterr().out)["score"]["subsets"]
    for name in NAMES.values():
        write_label(out.parent / f"other/labels/{name}.png", arrays(name)[0])
        write_label(out.parent / f"other/confidences/{name}.png", arrays(name)[1])
    with serving(Path(sets[0])) as server:  # remote labels, too
        ensemble([], out.parent / "other", score=[server.url], json=True)
    assert json.loads(capsys.readouterr().out)["score"]["subsets"] == expected


def test_images_that_are_missing_or_doubled_or_do_not_fit_are_named(out, sets):
    def refused(message, *urls):
        with pytest.raises(DataError, match=message):
            ensemble([], out, score=[*urls] or [sets[0]])

    refused(r"3 labels lack a prediction of their own: \S+mine/val/bravo_\S+ has another label", sets[0], sets[0])
    refused(r"mine/val and \S+masks/val: labels of different classes", *sets)
    pred, conf = (out / f"{NAMES['mine']}_{kind}.png" for kind in ("pred", "conf"))
    for path, ids, message in (
        (conf, np.zeros((24, 31), np.uint16), r"plain_conf\.png: uint16 of \(24, 31\), expected uint16 of \(24, 32\)"),
        (conf, np.zeros(HW, np.uint8), r"plain_conf\.png: uint8 of"),
        (pred, np.full(HW, 3, np.uint8), r"plain_pred\.png: label holds ids \[3\], the taxonomy has 3 classes"),
    ):
        before = path.read_bytes()
        write_label(path, ids)
        refused(message)
        path.write_bytes(before)
    for place in (out, out.parent / "model"):  # what predict leaves of itself, and of what was combined
        write_bytes(place / "classes.json", json.dumps({"classes": ["b", "a", "c"]}).encode())
        refused(rf"{place}/classes\.json: ids of other classes than \S+mine/val has")
        (out / "classes.json").unlink(missing_ok=True)
        write_bytes(out / "ensemble.json", json.dumps({"models": [str(out.parent / "model")]}).encode())
    write_bytes(out / "ensemble.json", json.dumps({"models": [str(place)], "ids": "cityscapes-34"}).encode())
    pred.unlink()
    refused("1 labels lack a prediction of their own: .*/city/plain has no prediction$")


def test_a_submission_holds_each_images_encoded_file(out, samples):
    for path in (out / "city").iterdir():
        path.unlink()
    tar_path = out.parent / "submission.tar"
    ensemble([], out, samples=samples, submission=tar_path)
    with tarfile.open(tar_path) as tar:
        content = {name: tar.extractfile(name).read() for name in tar.getnames()}
    assert [*content] == sorted(f"{base}_encoded.bin" for subset, base in BASES.items() if subset != "mine")
    for subset, name in NAMES.items():
        if subset == "mine":
            continue
        data = content[f"{BASES[subset]}_encoded.bin"]
        pred, sure, *_ = arrays(name)
        sampled = b"".join(struct.pack("<H", sure.ravel()[i]) for i in PICKED[name])
        body = b"BV23" + struct.pack("<6I", 2, 24, 32, 233, 24 * 32, 466)
        body += zstandard.ZstdCompressor(level=9).compress(pred.tobytes() + sampled)
        assert data == body + struct.pack("<I", zlib.crc32(body))


def test_what_cannot_be_submitted_is_told(out, samples, tmp_path, monkeypatch):
    tar = tmp_path / "submission.tar"
    zebra = out / f"{NAMES['SMIYC']}_pred.png"
    for ids, named in (
        (np.full(HW, 255, np.uint8), r"zebra\.0"),
        (np.full(HW, 256, np.uint16), r"zebra\.0"),
        (arrays(NAMES["SMIYC"])[0], "city/plain"),
    ):
        write_label(zebra, ids)
        with pytest.raises(DataError, match=rf"{named}_pred\.png: not ids of 0 \.\. 19 of an image"):
            ensemble([], out, samples=samples, submission=tar)
    assert not tar.exists()
    with pytest.raises(UsageError, match="--submission: needs the pixels BRAVO samples"):
        ensemble([], out, submission=tar)
    with pytest.raises(UsageError, match="name FOLDERS"):
        ensemble([], out)
    with pytest.raises(DataError, match=r"none/bravo_ACDC/fog/test/G/f_samples\.bin: not the samples of 768 pixels"):
        ensemble([], out, samples=tmp_path / "none", submission=tar)
    monkeypatch.setitem(__import__("sys").modules, "zstandard", None)
    with pytest.raises(DataError, match=r"pip install 'segstream\[bravo\]'"):
        ensemble([], out, samples=samples, submission=tar)


ZEBRA = f"{BASES['SMIYC']}_samples.bin"
PACKED = zstandard.ZstdCompressor().compress


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no zstd",
        pack([1, 2])[:-3],
        PACKED(b""),
        PACKED(b"\1\0\0"),
        PACKED(b"\1\0\0\0\3\0"),  # 768 of 768 pixels
        PACKED(b"\2\0\0\5\0\0\0\1\0"),  # cut within a step
        PACKED(b"\2\0\0\5\0\0\0\0\0\0"),  # twice the same
        PACKED(b"\3\0\0\5\0\0\1"),  # two of three
        PACKED(b"\xff" * (1 << 23)),
        zstandard.ZstdCompressor(write_content_size=False).compress(b"\xff" * (1 << 23)),
    ],
)
def test_samples_that_cannot_be_are_refused(tmp_path, data):
    write_bytes(tmp_path / ZEBRA, data)
    with pytest.raises(DataError, match=rf"{ZEBRA}: not the samples of 768 pixels"):
        bravo.read_samples(tmp_path, NAMES["SMIYC"], 24 * 32)


@pytest.mark.parametrize(
    ("name", "subset", "base"),
    [
        ("x/bravo_ACDC/rain/test/a_rgb_anon", "ACDCrain", "bravo_ACDC/rain/test/a"),
        ("bravo_ACDC/dust/a_rgb_anon", None, None),
        ("bravo_ACDC/fog/a", None, None),
        ("bravo_outofcontext/frankfurt/f_leftImg8bit", "outofcontext", "bravo_outofcontext/frankfurt/f"),
        ("bravo_synflare/f_leftImg8bit", "synflare", "bravo_synflare/f"),
        ("bravo_synrain/f_leftImg8bit", "synrain", "bravo_synrain/f"),
        ("bravo_synobjs/f_leftImg8bit", "synobjs", "bravo_synobjs/f_leftImg8bit"),
        ("a/b", None, None),
    ],
)
def test_subsets_go_by_the_path(name, subset, base):
    assert (bravo.identify(name) or (None, None)) == (subset, base)
