"""A temperature that is known is found from labelled images, stored with the model, and mends its calibration."""

import json

import numpy as np
import pytest
import torch
import yaml

from segstream.calibration import calibrate
from segstream.cli.commands.ensemble import ensemble
from segstream.evaluation import EvalModel
from segstream.model.checkpoint import load_final
from segstream.model.inference.infer import softmax
from segstream.model.inference.predictor import Predictor
from segstream.model.networks.build import PRESETS, build, divide_logits
from segstream.shards.convert.convert import convert
from segstream.shards.errors import DataError, UsageError
from segstream.shards.taxonomy import Taxonomy
from tests.cli.commands.test_eval import invoke
from tests.model.literal_inference import random_image, settled
from tests.model.plain import HMSA
from tests.model.toy import TINY, save_net
from tests.shards.trees import save

CLASSES = ("a", "b", "c")
OWN = Taxonomy(name="own", kind="own", classes=CLASSES)
COUNT, HW, TRUE = 4, (64, 80), 2.0
ONE_PASS = {"crop": 96, "flip": False, "batch": 1, "device": "cpu"}
WINDOWS = {"crop": 32, "flip": True, "device": "cpu"}


def model(path, arch, **infer):
    options = HMSA if arch == "hmsa" else TINY | {"init": "kaiming"}
    return save_net(path, settled(arch, 3, sure=3, **options), taxonomy=OWN, arch=arch, options=options, eval=infer)


def labelled(folder, checkpoint):
    """URL of images whose labels are drawn as softmax(logits / TRUE) says."""
    predictor, rng = Predictor(checkpoint), np.random.default_rng(0)
    for n in range(COUNT):
        image = random_image(*HW, seed=n)
        p = softmax(predictor.logits([image])[0] / TRUE)
        label = (p.cumsum(axis=0) > rng.random(HW)).argmax(axis=0)
        label[:5] = 255
        save(folder / f"images/{n}.png", image)
        save(folder / f"labels/{n}.png", label.astype(np.uint8))
    spec = {"name": "own", "root": ".", "classes": [{"name": c} for c in CLASSES]}
    spec["splits"] = {"val": {"images": "images/*.png", "labels": "labels/*.png"}}
    (folder / "own.yaml").write_text(yaml.safe_dump(spec))
    return str(convert(folder / "own.yaml", split="val", out=folder / "shards").url)


@pytest.mark.parametrize(("arch", "infer"), [("hrnet-tiny", ONE_PASS), ("hmsa", WINDOWS), ("hrnet-tiny", WINDOWS)])
def test_a_known_temperature_is_found_stored_and_applied(tmp_path, arch, infer):
    file, out = model(tmp_path / "toy.pt", arch, **infer), tmp_path / "calibrated.pt"
    before, url = file.read_bytes(), labelled(tmp_path, file)
    found = json.loads(invoke("eval", file, "--data", url, "--fit-temperature", out, "--json"))
    assert found["temperature"] == pytest.approx(TRUE, rel=0.05)
    assert file.read_bytes() == before
    kept, given = load_final(out), load_final(file)
    assert kept.meta == given.meta | {"temperature": found["temperature"]}
    assert all(torch.equal(kept.weights[name], tensor) for name, tensor in given.weights.items())
    image = random_image(*HW, seed=9)
    if (arch, infer) != ("hrnet-tiny", WINDOWS):  # whose averages of probabilities are no scaled logits
        logits, cooler = (Predictor(path).logits([image])[0] for path in (file, out))
        cooler -= cooler.mean(axis=0)
        logits -= logits.mean(axis=0)
        np.testing.assert_allclose(cooler * found["temperature"], logits, atol=2e-4)
        np.testing.assert_array_equal(logits.argmax(axis=0), cooler.argmax(axis=0))
    invoke("eval", out, "--data", url)  # is a checkpoint like any other
    errors = {}
    for path in (file, out):  # also in what commands make of it, judged there
        dumps, direct = tmp_path / path.stem, tmp_path / f"{path.stem}-direct"
        invoke("predict", tmp_path / "images", "--checkpoint", path, "--out", dumps, "--logits")
        invoke("predict", url, "--checkpoint", path, "--out", direct, "--confidence")
        ensemble([dumps], dumps / "both", score=[url])
        ensemble([], direct, score=[url])
        scores = [json.loads((place / "score.json").read_text()) for place in (dumps / "both", direct)]
        of_dumps, errors[path.stem] = (found["subsets"]["own"]["ece"] for found in scores)
        assert of_dumps == pytest.approx(errors[path.stem], abs=1e-3)
    assert errors["calibrated"] < 0.06 < 0.09 < errors["toy"]


@pytest.mark.parametrize("arch", PRESETS)
def test_every_architecture_divides_its_logits(arch):
    options = {"hmsa": HMSA, "hrnet-ocr": {k: v for k, v in HMSA.items() if k not in ("n_scales", "attention_width")}}
    small = options.get(arch, {"blocks": 1, "width": 8} if arch.startswith("pspnet") else TINY)
    net, images = build(arch, 3, **small).eval(), torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = net(images)
        divide_logits(net, 2.5, where="x")
        torch.testing.assert_close(net(images) * 2.5, before)


def test_what_cannot_be_calibrated_is_told(tmp_path):
    file, out = model(tmp_path / "toy.pt", "hrnet-tiny", **ONE_PASS), tmp_path / "out.pt"
    url = labelled(tmp_path, file)
    calibrate(EvalModel.load(file), [url], out)
    with pytest.raises(DataError, match=r"the model has a temperature, \d\.\d+; fit one to the file without"):
        calibrate(EvalModel.load(out), [url], tmp_path / "twice.pt")
    for options, message in (
        ((file,), "name another file than CHECKPOINT, and one size"),
        ((out, "--short-side", "32,64"), "name another file than CHECKPOINT, and one size"),
        ((out, "--metrics", "m.json"), "--metrics is not for --fit-temperature"),
    ):
        with pytest.raises(UsageError, match=message):
            invoke("eval", file, "--data", url, "--fit-temperature", *options)
    other = save_net(tmp_path / "universal.pt", settled("hrnet-tiny", 3, **TINY), classes=3, eval=ONE_PASS)
    with pytest.raises(DataError, match="own"):
        calibrate(EvalModel.load(other), [url], out)
    for value in (0.0, -1.0, float("nan"), float("inf"), "hot"):
        with pytest.raises(DataError, match="must be a number above 0"):
            divide_logits(build("hrnet-tiny", 3, **TINY), value, where="x")
