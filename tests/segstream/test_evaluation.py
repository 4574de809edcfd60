"""Evaluation on small shard sets: by hand, killed, in several processes, under every rule."""

import dataclasses
import json
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import confusion_matrix

from segstream.cli import console
from segstream.colors import RIGHT_WRONG
from segstream.evaluation import EvalModel, evaluate, mean_score, open_sets, open_validation, run_evaluation, spread
from segstream.model import distributed
from segstream.model.checkpoint import load_final
from segstream.model.config import InferConfig
from segstream.model.distributed import ProcessGroup
from segstream.model.evaluation.metrics import EvalResult
from segstream.model.evaluation.resume_log import SetLog
from segstream.model.networks.build import build
from segstream.model.networks.weights import load_any
from segstream.pipeline.eval_images import EvalImages
from segstream.shards.convert.convert import convert
from segstream.shards.errors import DataError, UsageError
from segstream.shards.taxonomy import IGNORE_INDEX, load_taxonomy
from tests.model.literal_inference import literal, settled
from tests.model.toy import TINY, save_net
from tests.segstream.recipes import modules_entered
from tests.shards import trees
from tests.shards.convert.test_relabel import record_file

CONFIG = InferConfig(crop=24, short_side=24, batch=2, device="cpu")
OPTIONS = TINY | {"init": "kaiming"}


def bdd(root):
    """Three pictures of road, person and fence; persons of the first two become cyclists."""
    rng = np.random.default_rng(3)
    for stem in "abc":
        trees.save(root / f"seg/images/val/{stem}.jpg", trees.picture(rng))
        trees.save(root / f"seg/labels/val/{stem}_train_id.png", trees.blocks(rng, [0, 4, 11, 255]).astype(np.uint8))
    record_file(root, [f"bdd,val,person,bicyclist,val,{stem},11" for stem in "ab"])
    return root


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Dataset -> URL of its validation split."""
    folder = tmp_path_factory.mktemp("sets")
    raws = {
        "ade20k-150": (trees.ade20k(folder / "ade", train=0, val=7, size_hw=(26, 37)), None),
        "camvid-11": (trees.camvid(folder / "camvid", count=3), None),
        "bdd": (bdd(folder / "bdd"), folder / "bdd/records.csv"),
    }
    return {n: convert(n, split="val", raw=raw, out=folder, relabel=csv).url for n, (raw, csv) in raws.items()}


def checkpoint(path, *, learnt="universal", classes=194):
    """A network that is sure of itself, so that rounding decides nothing."""
    net = settled("hrnet-tiny", classes, sure=6, **OPTIONS)
    recipe = {"data": {"taxonomy": learnt}, "eval": dataclasses.asdict(CONFIG)}
    return save_net(path, net, taxonomy=load_taxonomy("universal"), classes=classes, options=OPTIONS, **recipe)


@pytest.fixture(scope="module")
def universal(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("run") / "toy.pt")


@pytest.fixture(scope="module")
def whole(universal, sets, tmp_path_factory):
    """Two sets, their results, and the file of these."""
    urls, out = [sets["camvid-11"], sets["ade20k-150"]], tmp_path_factory.mktemp("whole") / "whole.json"
    return urls, evaluate(universal, urls, out=out), out


def literal_pred(net, image, matrix, base, scales):
    return literal(net, image, matrix, base=base, crop=24, scales=scales, flip=True).argmax(axis=0)


@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0, 1.25)])
def test_rows_are_those_of_the_procedure_written_out_in_float64(universal, sets, scales):
    """Label maps by hand, pooled, through scikit-learn's matrix: in universal and in own classes at once."""
    found = evaluate(universal, sets["bdd"], short_sides=(24, 31), scales=scales, taxonomy=["native", "universal"])
    assert [(r.taxonomy, r.short_side) for r in found] == [(t, side) for t in ("bdd", "universal") for side in (24, 31)]
    net = load_any(str(universal))[0]
    images = EvalImages(sets["bdd"])
    for result in found[1:3]:
        protocol, side = result.protocol, result.short_side
        matrix = np.eye(194) if protocol.projection is None else protocol.projection
        labels, preds = [], []
        for _, image, by_member in images.read(range(len(images)), protocol.members):
            pred = literal_pred(net, image, matrix, side, scales)
            labels.append(by_member[protocol.label].ravel())
            preds.append(pred.ravel())
        label, pred = np.concatenate(labels), np.concatenate(preds)
        keep = label != IGNORE_INDEX
        matrix = confusion_matrix(label[keep], pred[keep], labels=range(protocol.taxonomy.num_classes))
        moved = np.abs(matrix - result.confusion).sum() / 2
        assert moved <= 0.002 * keep.sum()
        hit, truth, guess = result.confusion.diagonal(), result.confusion.sum(axis=1), result.confusion.sum(axis=0)
        ious = hit / (truth + guess - hit + 1e-10)
        reached = sorted(set(load_taxonomy("bdd").to_universal or ()) - {255})
        over = reached if protocol.label == "universal" else list(range(19))
        assert result.miou == pytest.approx(ious[over].mean(), abs=1e-9)
        assert len(result.classes) == len(over)
        assert len(np.unique(pred)) > 3  # of a network that says something


def test_several_taxonomies_share_the_forward_passes(universal, sets):
    def passes(schemes):
        model, seen = EvalModel.load(universal), []
        stem = next(m for m in model.net.modules() if isinstance(m, torch.nn.Conv2d))
        stem.register_forward_hook(lambda *_: seen.append(1))
        with open_sets(model, [sets["bdd"]], schemes=schemes, relabeled=False) as opened:
            run_evaluation(model, opened, ProcessGroup())
        return len(seen)

    assert passes(["native", "universal"]) == passes(["native"]) > 0


def test_an_evaluation_enters_few_modules(universal, sets):
    """From the checkpoint that has been read to the mean IoU; docs/architecture.md names them."""
    model = EvalModel.load(universal)
    with modules_entered() as seen, open_sets(model, [sets["bdd"]]) as opened:
        (result,) = run_evaluation(model, opened, distributed.start(), progress=console.progress)
    entered = [name for name in seen if name.startswith(("model.", "pipeline.", "cli."))]
    assert result.images == 3
    assert {"pipeline.eval_images", "model.networks.hrnet", "model.evaluation.metrics"} <= {*entered}
    assert len(entered) <= 12, entered


def test_the_best_side_is_marked(universal, sets):
    (long,) = evaluate(universal, [sets["camvid-11"]], long_side=40)
    assert (long.side, long.short_side, long.long_side, long.max) == ("long 40", None, 40, True)
    assert EvalResult.from_json(json.loads(json.dumps(long.to_json())), at="row").side == "long 40"
    with pytest.raises(UsageError, match="short_side and long_side"):
        evaluate(universal, [sets["camvid-11"]], long_side=40, short_sides=[16])
    found = evaluate(universal, [sets["camvid-11"]], short_sides=[16, 30, "native"])
    assert [r.side for r in found] == ["16", "30", "native"]
    assert "long_side" not in found[0].inference  # so that what was begun without it goes on
    assert [r.short_side for r in found] == [16, 30, None]
    assert len({r.miou for r in found}) == 3
    assert [r.max for r in found] == [r.miou == max(r.miou for r in found) for r in found]
    assert {r.regime for r in found} == {"zero-shot"}


def test_relabelled_models_are_judged_by_released_labels(tmp_path, sets):
    learnt = checkpoint(tmp_path / "relabeled.pt", learnt="universal-relabeled")
    (plain,) = evaluate(learnt, [sets["bdd"]], relabeled=False)
    (result,) = evaluate(learnt, [sets["bdd"]])
    assert (plain.relabeled, result.relabeled) == (False, True)
    expected = np.zeros((194, 195), np.int64)
    net = load_any(str(learnt))[0]
    for i, (_, image, labels) in enumerate(EvalImages(sets["bdd"]).read(range(3), result.protocol.members)):
        pred = literal_pred(net, image, np.eye(194), 24, (1.0,))
        released, changed = labels["universal"], labels["universal-relabeled"]
        assert (released != changed).any() == (i < 2)
        for p, g, r in zip(pred.ravel(), released.ravel(), changed.ravel(), strict=True):
            if g != 255 and r != 255:
                expected[g, p if g == r else g if p == r else 194] += 1
    assert result.confusion[:, 194].sum() > 0
    assert np.abs(result.confusion - expected).sum() <= 8
    assert result.acc == pytest.approx(result.confusion.diagonal().sum() / result.confusion.sum(), abs=1e-9)
    assert len(result.classes) == 19


def test_absent_classes_count_by_the_rule(universal, sets):
    (mseg,), (hmsa,) = (evaluate(universal, [sets["camvid-11"]], rule=rule) for rule in ("mseg", "hmsa"))
    assert mseg.confusion.tolist() == hmsa.confusion.tolist()
    ious = [c.iou for c in hmsa.classes]
    assert None in ious
    assert hmsa.miou == pytest.approx(np.mean([v for v in ious if v is not None]), abs=1e-9)
    assert mseg.miou == pytest.approx(sum(v or 0 for v in ious) / 11, abs=1e-9)


KILLED = """
import os, signal, sys
from segstream.model.evaluation.resume_log import SetLog
add, left = SetLog.add, int(sys.argv.pop(1))
torn = sys.argv.pop(1) == "torn"
def deadly(self, sample, counts):
    global left
    left -= 1
    if left == 0 and torn:
        with self.file.open("ab") as file:
            file.write(b"\\n0123abcd [0,")
    if left > 0:
        add(self, sample, counts)
    else:
        os.kill(os.getpid(), signal.SIGKILL)
SetLog.add = deadly
from segstream.cli.main import run
run()
"""


def interrupt(monkeypatch, at, path, url, out):
    """An evaluation that ends at its image number `at`, which is not noted any more."""
    real, left = SetLog.add, at

    def add(self, sample, counts):
        nonlocal left
        left -= 1
        if left == 0:
            raise KeyboardInterrupt
        real(self, sample, counts)

    with monkeypatch.context() as patch:
        patch.setattr(SetLog, "add", add)
        with pytest.raises(KeyboardInterrupt):
            evaluate(path, [url], out=out)


@pytest.mark.parametrize("how", ["between", "torn"])
def test_a_killed_evaluation_goes_on_and_ends_in_the_same_file(universal, whole, tmp_path, here, how):
    """Killed in the second set; taken up by one process, or by two."""
    urls, _, expected = whole
    out, notes = tmp_path / "killed.json", tmp_path / "killed.json.journal"
    command = ["eval", universal, "--data", urls[0], "--data", urls[1], "--out", out]
    dead = subprocess.run([sys.executable, "-c", KILLED, "6", how, *command], capture_output=True, check=False)
    assert dead.returncode == -9, dead.stderr
    assert not out.exists()
    assert (notes / "rank-00000.jsonl").read_bytes().count(b"\n") == (5 if how == "between" else 6)
    if how == "between":
        evaluate(universal, urls, out=out)
    else:
        done = here(*command, "--processes", 2, "--json")
        assert done.code == 0, done.err
        assert json.loads(done.out) == json.loads(out.read_text())
    assert out.read_bytes() == expected.read_bytes()
    assert not notes.exists()


def test_finished_images_are_not_segmented_again(universal, whole, tmp_path, monkeypatch):
    (_, url), (_, expected), _ = whole
    out, seen, real = tmp_path / "r.json", [], EvalImages.at
    interrupt(monkeypatch, 4, universal, url, out)
    monkeypatch.setattr(EvalImages, "at", lambda self, i, members: (seen.append(i), real(self, i, members))[1])
    (again,) = evaluate(universal, [url], out=out)
    assert sorted(seen) == [3, 4, 5, 6]
    assert again.images_per_s is not None
    assert again.to_json() == expected.to_json()
    assert again.confusion.tolist() == expected.confusion.tolist()
    assert again.image_ious.tolist() == expected.image_ious.tolist()


def test_two_processes_count_what_one_counts(universal, whole, tmp_path, here):
    urls, one, expected = whole
    files = ("--out", tmp_path / "two.json", "--confusion", tmp_path / "matrices", "--metrics", tmp_path / "m.json")
    files += ("--pictures", tmp_path / "p", "--num-pictures", 0, "--worst", 2)
    done = here("eval", universal, "--data", urls[0], "--data", urls[1], "--processes", 2, *files)
    assert done.code == 0, done.err
    assert expected.read_bytes() == (tmp_path / "two.json").read_bytes()
    matrix = json.loads((tmp_path / "matrices/ade20k-150_universal_24_ss.json").read_text())
    assert matrix["pixels"] == one[1].confusion.tolist()
    assert done.err.count("7 of 7 images") == 1  # one process speaks
    speeds = json.loads((tmp_path / "m.speed.json").read_text())  # not in m.json, or every metric would seem to change
    assert [*speeds] == urls
    assert min(speeds.values()) > 0
    assert json.loads((tmp_path / "m.json").read_text())["camvid-11"].keys() == {"miou", "macc", "acc"}
    with EvalImages(urls[1]) as images:
        ious = {images.key(i): iou for i, iou in enumerate(one[1].image_ious)}
    lowest = json.loads((tmp_path / "p/ade20k-150/worst-val/worst.json").read_text())
    assert [*lowest.items()] == sorted(ious.items(), key=lambda item: item[1])[:2]


def test_error_masks_are_red_where_the_evaluation_counts_an_error(universal, sets, tmp_path, here):
    """For a model of relabelled labels, too, whose predictions are rewritten before they are compared."""
    relabeled = checkpoint(tmp_path / "toy.pt", learnt="universal-relabeled")
    for path, url, split_of in ((universal, sets["camvid-11"], "camvid-11"), (relabeled, sets["bdd"], "bdd")):
        done = here("eval", path, "--data", url, "--pictures", tmp_path / "p", "--worst", 3)
        assert done.code == 0, done.err
        (result,) = evaluate(path, url)
        masks = [np.asarray(Image.open(file)) for file in (tmp_path / f"p/{split_of}/worst-val").glob("*_error.png")]
        counts = [sum(int((mask == color).all(axis=2).sum()) for mask in masks) for color in RIGHT_WRONG]
        right = int(result.confusion.diagonal().sum())
        assert counts == [right, int(result.confusion.sum()) - right]
        assert len(masks) == 3


def test_an_error_in_one_process_ends_all(universal, sets, tmp_path, here):
    broken = shutil.copytree(sets["bdd"], tmp_path / "bdd")
    tar = broken / "shard-000000.tar"
    data = bytearray(tar.read_bytes())
    data[data.index(b"\xff\xd8\xff") + 100] ^= 255  # in the first picture
    tar.write_bytes(data)
    done = here("eval", universal, "--data", broken, "--processes", 2)
    assert done.code == 1
    assert "checksum" in done.err
    assert "Traceback" not in done.err


def test_another_evaluation_of_the_same_file_is_refused(universal, sets, tmp_path, monkeypatch):
    out = tmp_path / "r.json"
    interrupt(monkeypatch, 2, universal, sets["bdd"], out)
    with pytest.raises(DataError, match=r"r\.json\.journal: holds another, .* evaluation: inference\.1\.short_side"):
        evaluate(universal, [sets["bdd"]], out=out, short_sides=[30])
    (row,) = evaluate(universal, [sets["bdd"]], out=out, short_sides=[30], restart_changed=True)
    (alone,) = evaluate(universal, [sets["bdd"]], short_sides=[30])
    assert row.confusion.tolist() == alone.confusion.tolist()


def test_what_cannot_be_judged_is_said(universal, sets, tmp_path, monkeypatch, here):
    wrong = checkpoint(tmp_path / "wrong.pt", classes=150)
    for command in (
        ("eval", wrong, "--data", sets["bdd"]),
        ("predict", wrong, "--checkpoint", wrong, "--out", tmp_path / "out"),
    ):
        done = here(*command)
        assert done.code == 1
        assert "wrong.pt: the network has 150 classes, its taxonomy 'universal' has 194" in done.err
    with pytest.raises(DataError, match=r"camvid-11/val: camvid-11: its labels have no universal classes"):
        evaluate(universal, [sets["camvid-11"]], taxonomy="universal")
    shards = EvalImages(sets["bdd"]).shards
    for changes, says in (
        ({"members": ("image", "json")}, "images without labels"),
        ({"params": {"short_side": 1}}, "native size"),
        ({"shards": ()}, "holds no sample"),
    ):
        changed = type(shards)(shards._store, dataclasses.replace(shards.manifest, **changes))
        monkeypatch.setattr("segstream.pipeline.eval_images.open_shards", lambda url, changed=changed: changed)
        with pytest.raises(DataError, match=says):
            EvalImages(sets["bdd"])


@pytest.mark.parametrize(
    ("name", "learnt"), [("mseg-3m-480p", True), ("mseg-unrelabeled-1m", False), ("coco-panoptic-133-1m", False)]
)
def test_published_files_are_judged_by_their_names_rule(tmp_path, monkeypatch, name, learnt):
    """What is recognised as MSeg's is universal, and relabelled unless its name says otherwise; see `model.load`."""
    net, meta = build("hrnet-tiny", 194, **OPTIONS), dataclasses.asdict(load_taxonomy("universal"))
    read = net, {"num_classes": 194, "taxonomy": json.loads(json.dumps(meta))}
    monkeypatch.setattr("segstream.model.inference.predictor.load_any", lambda *_: read)
    path = tmp_path / f"{name}.pth"
    path.write_bytes(b"weights")
    model = EvalModel.load(path, short_sides=(360, 720))
    assert (model.name, model.seed, model.learnt_relabeled) == (name, None, learnt)
    assert model.taxonomy == load_taxonomy("universal")
    assert [(c.crop, c.short_side, c.flip) for c in model.configs] == [(713, 360, True), (713, 720, True)]


def test_a_result_that_cannot_be_written_is_said_before_any_work(universal, sets, tmp_path, monkeypatch, here):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(EvalImages, "at", lambda *_: pytest.fail("an image was read"))
    done = here("eval", universal, "--data", sets["bdd"], "--out", tmp_path / "file" / "r.json")
    assert done.code == 1
    assert "file/r.json.journal: cannot be created" in done.err


KEPT = []


class OneOfSeveral(ProcessGroup):
    """One of several processes; what `sum_` would add up is kept instead."""

    def sum_(self, tensor):
        KEPT.append(tensor.clone())
        return tensor


def test_samples_are_spread_over_the_set():
    assert list(spread(5, None)) == list(spread(5, 9)) == [0, 1, 2, 3, 4]
    assert list(spread(100, 4)) == [0, 25, 50, 75]
    for size in range(1, 40):
        for limit in range(1, 45):
            chosen = list(spread(size, limit))
            assert len(set(chosen)) == len(chosen) == min(size, limit)
            assert chosen == sorted(chosen)
            assert chosen[-1] < size


def test_scores_are_those_of_eval_and_parts_add_up_to_the_whole(here, place):
    model = EvalModel.load(place / "runs/recipe/final.pt")
    urls = (str(place / "shards/camvid-11/val"), str(place / "shards/ade20k-150/val"))
    with open_validation(urls, None, model, ProcessGroup()) as whole:
        scores = whole(model.net)
    with open_validation(urls[:1], 1, model, ProcessGroup()) as limited:
        assert limited(model.net)["camvid-11"].images == 1
    done = here("eval", place / "runs/recipe/final.pt", "--data", urls[0], "--data", urls[1], "--json")
    for row in json.loads(done.out):
        assert scores[row["dataset"]].miou == pytest.approx(row["miou"], rel=1e-12)
        assert scores[row["dataset"]].images == row["images"]
    for world_size in (2, 3):  # of three processes, one has no image of two
        KEPT.clear()
        for rank in range(world_size):
            with open_validation(urls, None, model, OneOfSeveral(rank=rank, world_size=world_size)) as part:
                part(model.net)
        summed = torch.stack([t for t in KEPT if t.dtype == torch.int64][::2]).sum(dim=0)
        np.testing.assert_array_equal(summed.numpy(), scores["camvid-11"].confusion)


def test_the_best_step_and_every_checkpoint_are_models_that_score_what_validation_saw(here, place, tmp_path):
    val, run = str(place / "shards/camvid-11/val"), tmp_path / "run"
    asked = [f"validate.data=[{val}]", "train.validate_every=1", "validate.best=camvid-11/miou", "validate.pictures=0"]
    asked += ["train.ema=0.5", "train.keep=9", "train.checkpoint_every=1"]
    assert here("train", place / "recipe.yaml", "--run", run, *asked).code == 0
    rows = {row["step"]: row["sets"]["camvid-11"]["miou"] for row in json.loads((run / "validation.json").read_text())}
    found = {step: evaluate(run / f"checkpoints/step-{step:08d}.pt", val)[0] for step in rows}
    assert {step: result.miou for step, result in found.items()} == rows
    best = load_final(run / "best.pt")
    assert (best.step, best.meta["score"]) == max(rows.items(), key=lambda one: (one[1], -one[0]))
    (result,) = evaluate(run / "best.pt", val)
    assert (result.miou, result.model) == (best.meta["score"], "recipe")
    (last,) = evaluate(run / "final.pt", val)
    assert last.confusion.tolist() == found[4].confusion.tolist()


def test_a_best_metric_that_is_never_computed_is_refused(here, place):
    val, every = f"validate.data=[{place}/shards/camvid-11/val]", "train.validate_every=2"
    for given, code, says in (
        (("validate.best=miou", every), 2, "validate.best: miou: it is never computed; set validate.data and train."),
        (("validate.best=miou", val), 2, "validate.best: miou: it is never computed"),
        (("validate.best=iou", val, every), 2, "best: iou; write miou, macc, acc, or DATASET/miou"),
        (("validate.best=camvid/miou", val, every), 1, "'camvid' is not in validate.data; did you mean 'camvid-11'?"),
    ):
        done = here("train", place / "recipe.yaml", "--run", place / "runs/best", *given)
        assert (done.code, done.err.count("\n")) == (code, 1)
        assert says in done.err


def test_the_mean_over_sets_or_that_of_one():
    results = {name: SimpleNamespace(miou=value, acc=1.0) for name, value in (("a", 0.25), ("b", 0.75))}
    assert [mean_score(best, results) for best in ("miou", "b/miou", "a/acc")] == [0.5, 0.75, 1.0]


def test_a_set_that_cannot_be_used_is_told_before_training(place, tmp_path):
    model, shards = EvalModel.load(place / "runs/recipe/final.pt"), str(place / "shards")
    val = f"{shards}/camvid-11/val"
    for urls, message in (
        ([str(tmp_path / "none")], "no such folder"),
        ([f"{shards}/ade20k-150/train"], "a training split, stored at a reduced size"),
        ([val, f"{val}/", f"{val}/."], r"validate\.data: .*camvid-11-val is named twice"),
    ):
        with pytest.raises(DataError, match=message), open_validation(urls, None, model, ProcessGroup()):
            pass
