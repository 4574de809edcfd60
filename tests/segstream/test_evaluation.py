"""Evaluation on small shard sets: by hand, killed, in several processes, under every rule."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix

from segstream.cli import console
from segstream.evaluation import EvalModel, evaluate, open_sets, open_validation, run_evaluation, spread
from segstream.model import distributed
from segstream.model.checkpoint import Final, save_final
from segstream.model.config import InferConfig
from segstream.model.distributed import ProcessGroup
from segstream.model.evaluation.resume_log import SetLog
from segstream.model.networks.build import build
from segstream.model.networks.weights import load_any
from segstream.pipeline.eval_images import EvalImages
from segstream.shards.convert.convert import convert
from segstream.shards.errors import DataError
from segstream.shards.taxonomy import IGNORE_INDEX, load_taxonomy
from tests.cli.conftest import Command
from tests.model.literal_inference import literal
from tests.model.toy import TINY
from tests.shards import trees

ROOT = Path(__file__).parents[2]
CONFIG = InferConfig(crop=24, short_side=24, batch=2, device="cpu")
OPTIONS = TINY | {"init": "kaiming"}
HEADER = "dataset,split,original_class,new_class,parent,image_stem,segment_id"


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def bdd(root: Path) -> Path:
    """Three pictures of road, person and fence; persons of the first two become cyclists."""
    rng = np.random.default_rng(3)
    for stem in "abc":
        trees.save(root / f"seg/images/val/{stem}.jpg", trees.picture(rng))
        trees.save(root / f"seg/labels/val/{stem}_train_id.png", trees.blocks(rng, [0, 4, 11, 255]).astype(np.uint8))
    rows = [f"bdd,val,person,bicyclist,val,{stem},11" for stem in "ab"]
    (root / "records.csv").write_text("\n".join([HEADER, *rows, ""]))
    return root


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Dataset -> URL of its validation split."""
    folder = tmp_path_factory.mktemp("sets")
    raws = {
        "ade20k-150": trees.ade20k(folder / "ade", train=0, val=7, size_hw=(26, 37)),
        "camvid-11": trees.camvid(folder / "camvid", count=3),
        "bdd": bdd(folder / "bdd"),
    }
    for dataset, raw in raws.items():
        records = raw / "records.csv" if dataset == "bdd" else None
        convert(dataset=dataset, split="val", raw=raw, out=str(folder), relabel=records)
    return {dataset: str(folder / dataset / "val") for dataset in raws}


def checkpoint(
    path: Path, taxonomy: str = "universal", *, learnt: str = "universal", classes: int | None = None
) -> Path:
    """A network of random weights that is sure of itself, so that rounding decides nothing."""
    known = load_taxonomy(taxonomy)
    count = known.num_classes if classes is None else classes
    net = build("hrnet-tiny", count, seed=4, **OPTIONS)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    rng = np.random.default_rng(7)
    images = torch.from_numpy(np.stack([trees.picture(rng) for _ in range(4)])).float().permute(0, 3, 1, 2)
    with torch.no_grad():
        spread = net((images - 120) / 57).logits.std()  # in training mode, which settles batch norm
        net.last_layer[3].weight *= 6 / spread
    recipe = {"name": path.stem, "seed": 0, "data": {"taxonomy": learnt}, "eval": dataclasses.asdict(CONFIG)}
    meta = {"arch": "hrnet-tiny", "num_classes": count, "options": OPTIONS, "recipe": recipe}
    meta["taxonomy"] = dataclasses.asdict(known)
    save_final(path, Final(identity={}, meta=json.loads(json.dumps(meta)), step=1, weights=net.state_dict()))
    return path


@pytest.fixture(scope="module")
def universal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("run") / "toy.pt")


def literal_pred(net: torch.nn.Module, image: np.ndarray, matrix: np.ndarray, base: int, scales: Any) -> np.ndarray:
    return literal(net, image, matrix, base=base, crop=24, scales=scales, flip=True).argmax(axis=0)


@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0, 1.25)])
def test_rows_are_those_of_the_procedure_written_out_in_float64(
    universal: Path, sets: dict[str, str], scales: Any
) -> None:
    """Label maps by hand, pooled, through scikit-learn's matrix: in universal and in own classes at once."""
    found = evaluate(universal, sets["bdd"], short_sides=(24, 31), scales=scales, taxonomy=["native", "universal"])
    assert [(r.taxonomy, r.short_side) for r in found] == [
        *(("bdd", 24), ("bdd", 31)),
        *(("universal", 24), ("universal", 31)),
    ]
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
        hit, truth, guess = (result.confusion.diagonal(), result.confusion.sum(axis=1), result.confusion.sum(axis=0))
        ious = hit / (truth + guess - hit + 1e-10)
        reached = sorted(set(load_taxonomy("bdd").to_universal or ()) - {255})
        over = reached if protocol.label == "universal" else list(range(19))
        assert result.miou == pytest.approx(ious[over].mean(), abs=1e-9)
        assert len(result.classes) == len(over)
        assert len(np.unique(pred)) > 3  # of a network that says something


def test_several_taxonomies_share_the_forward_passes(universal: Path, sets: dict[str, str]) -> None:
    def passes(schemes: list[Any]) -> int:
        model, seen = EvalModel.load(universal), []
        stem = next(m for m in model.net.modules() if isinstance(m, torch.nn.Conv2d))
        stem.register_forward_hook(lambda *_: seen.append(1))
        with open_sets(model, [sets["bdd"]], schemes=schemes, relabeled=False) as opened:
            run_evaluation(model, opened, ProcessGroup())
        return len(seen)

    assert passes(["native", "universal"]) == passes(["native"]) > 0


def test_an_evaluation_enters_few_modules(universal: Path, sets: dict[str, str]) -> None:
    """From the checkpoint that has been read to the mean IoU; docs/architecture.md names them."""
    entered: dict[str, None] = {}

    def note(frame: Any, event: str, _: object) -> None:
        _, _, module = frame.f_code.co_filename.rpartition("/segstream/")
        if event == "call" and module.split("/")[0] in ("model", "pipeline", "cli"):
            entered[module] = None

    model = EvalModel.load(universal)
    threading.setprofile(note)
    sys.setprofile(note)
    try:
        with open_sets(model, [sets["bdd"]]) as opened:
            (result,) = run_evaluation(model, opened, distributed.start(), progress=console.progress)
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    assert result.images == 3
    assert {"pipeline/eval_images.py", "model/networks/hrnet.py", "model/evaluation/metrics.py"} <= entered.keys()
    assert len(entered) <= 12, list(entered)


def test_the_best_side_is_marked(universal: Path, sets: dict[str, str]) -> None:
    found = evaluate(universal, [sets["camvid-11"]], short_sides=[16, 30, "native"])
    assert [r.short_side for r in found] == [16, 30, None]
    assert len({r.miou for r in found}) == 3
    assert [r.max for r in found] == [r.miou == max(r.miou for r in found) for r in found]
    assert {r.regime for r in found} == {"zero-shot"}


def test_relabelled_models_are_judged_by_released_labels(tmp_path: Path, sets: dict[str, str]) -> None:
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


def test_absent_classes_count_by_the_rule(universal: Path, sets: dict[str, str]) -> None:
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


def interrupt(monkeypatch: pytest.MonkeyPatch, at: int, path: Path, url: str, out: Path) -> None:
    """An evaluation that ends at its image number `at`, which is not noted any more."""
    real, left = SetLog.add, at

    def add(self: SetLog, sample: Any, counts: Any) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise KeyboardInterrupt
        real(self, sample, counts)

    with monkeypatch.context() as patch:
        patch.setattr(SetLog, "add", add)
        with pytest.raises(KeyboardInterrupt):
            evaluate(path, [url], out=out)


def killed(*args: object) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", KILLED, *map(str, args)],
        capture_output=True, text=True, env=env, timeout=240, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("how", ["between", "torn"])
def test_a_killed_evaluation_goes_on_and_ends_in_the_same_file(
    universal: Path, sets: dict[str, str], tmp_path: Path, here: Command, how: str
) -> None:
    """Killed in the second set; taken up by one process, or by two."""
    urls = [sets["camvid-11"], sets["ade20k-150"]]
    evaluate(universal, urls, out=tmp_path / "whole.json")
    out = tmp_path / "killed.json"
    command = ("eval", universal, "--data", urls[0], "--data", urls[1], "--out", out)
    dead = killed(6, how, *command)
    assert dead.returncode == -9, dead.stderr
    notes = tmp_path / "killed.json.journal"
    assert not out.exists()
    assert (notes / "rank-00000.jsonl").read_bytes().count(b"\n") == (5 if how == "between" else 6)
    if how == "between":
        evaluate(universal, urls, out=out)
    else:
        done = here(*command, "--processes", 2, "--json")
        assert done.code == 0, done.err
        assert json.loads(done.out) == json.loads(out.read_text())
    assert out.read_bytes() == (tmp_path / "whole.json").read_bytes()
    assert not notes.exists()


def test_finished_images_are_not_segmented_again(
    universal: Path, sets: dict[str, str], tmp_path: Path, monkeypatch
) -> None:
    out, seen, real = tmp_path / "r.json", [], EvalImages.at
    monkeypatch.setattr(EvalImages, "at", lambda self, i, members: (seen.append(i), real(self, i, members))[1])
    whole = evaluate(universal, [sets["ade20k-150"]], out=tmp_path / "whole.json")
    interrupt(monkeypatch, 4, universal, sets["ade20k-150"], out)
    seen.clear()
    (again,) = evaluate(universal, [sets["ade20k-150"]], out=out)
    assert sorted(seen) == [3, 4, 5, 6]
    assert again.images_per_s is not None
    assert again.to_json() == whole[0].to_json()
    assert again.confusion.tolist() == whole[0].confusion.tolist()


def test_two_processes_count_what_one_counts(
    universal: Path, sets: dict[str, str], tmp_path: Path, here: Command
) -> None:
    one = evaluate(universal, [sets["ade20k-150"], sets["bdd"]], out=tmp_path / "one.json")
    done = here(
        *("eval", universal, "--data", sets["ade20k-150"], "--data", sets["bdd"], "--processes", 2),
        *("--out", tmp_path / "two.json", "--confusion", tmp_path / "matrices", "--metrics", tmp_path / "m.json"),
    )
    assert done.code == 0, done.err
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    matrix = json.loads((tmp_path / "matrices/bdd_universal_24_ss.json").read_text())
    assert matrix["pixels"] == one[1].confusion.tolist()
    assert done.err.count("7 of 7 images") == 1  # one process speaks
    speeds = json.loads((tmp_path / "m.speed.json").read_text())  # not in m.json, or every metric would seem to change
    assert [*speeds] == [sets["ade20k-150"], sets["bdd"]]
    assert min(speeds.values()) > 0
    assert json.loads((tmp_path / "m.json").read_text())["bdd"].keys() == {"miou", "macc", "acc"}


def test_an_error_in_one_process_ends_all(universal: Path, sets: dict[str, str], tmp_path: Path, here: Command) -> None:
    broken = shutil.copytree(sets["bdd"], tmp_path / "bdd")
    tar = broken / "shard-000000.tar"
    data = bytearray(tar.read_bytes())
    data[data.index(b"\xff\xd8\xff") + 100] ^= 255  # in the first picture
    tar.write_bytes(data)
    done = here("eval", universal, "--data", broken, "--processes", 2)
    assert done.code == 1
    assert "checksum" in done.err
    assert "Traceback" not in done.err


def test_another_evaluation_of_the_same_file_is_refused(
    universal: Path, sets: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "r.json"
    interrupt(monkeypatch, 2, universal, sets["bdd"], out)
    with pytest.raises(
        DataError, match=r"r\.json\.journal: holds another, unfinished evaluation: inference\.1\.short_side"
    ):
        evaluate(universal, [sets["bdd"]], out=out, short_sides=[30])
    (row,) = evaluate(universal, [sets["bdd"]], out=out, short_sides=[30], restart_changed=True)
    (alone,) = evaluate(universal, [sets["bdd"]], short_sides=[30])
    assert row.confusion.tolist() == alone.confusion.tolist()


def test_what_cannot_be_judged_is_said(
    universal: Path, sets: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: Command
) -> None:
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
        ({"split": "train"}, "native size"),
        ({"shards": ()}, "holds no sample"),
    ):
        changed = type(shards)(shards._store, dataclasses.replace(shards.manifest, **changes))
        monkeypatch.setattr("segstream.pipeline.eval_images.open_shards", lambda url, changed=changed: changed)
        with pytest.raises(DataError, match=says):
            EvalImages(sets["bdd"])


@pytest.mark.parametrize(
    ("name", "learnt"), [("mseg-3m-480p", True), ("mseg-unrelabeled-1m", False), ("coco-panoptic-133-1m", False)]
)
def test_published_files_are_judged_by_their_names_rule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, learnt: bool
) -> None:
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


def test_a_result_that_cannot_be_written_is_said_before_any_work(
    universal: Path, sets: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: Command
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(EvalImages, "at", lambda *_: pytest.fail("an image was read"))
    done = here("eval", universal, "--data", sets["bdd"], "--out", tmp_path / "file" / "r.json")
    assert done.code == 1
    assert "file/r.json.journal: cannot be created" in done.err


class OneOfSeveral(ProcessGroup):
    """One of several processes; what `sum_` would add up is kept instead."""

    def sum_(self, tensor: torch.Tensor) -> torch.Tensor:
        KEPT.append(tensor.clone())
        return tensor


KEPT: list[torch.Tensor] = []


def test_samples_are_spread_over_the_set() -> None:
    assert list(spread(5, None)) == list(spread(5, 9)) == [0, 1, 2, 3, 4]
    assert list(spread(100, 4)) == [0, 25, 50, 75]
    for size in range(1, 40):
        for limit in range(1, 45):
            chosen = list(spread(size, limit))
            assert len(set(chosen)) == len(chosen) == min(size, limit)
            assert chosen == sorted(chosen)
            assert chosen[-1] < size


def test_scores_are_those_of_eval_and_parts_add_up_to_the_whole(segstream: Command, place: Path) -> None:
    model = EvalModel.load(place / "runs/recipe/final.pt")
    urls = (str(place / "shards/camvid-11/val"), str(place / "shards/ade20k-150/val"))
    with open_validation(urls, None, model, ProcessGroup()) as whole:
        scores = whole(model.net)
    done = segstream("eval", place / "runs/recipe/final.pt", "--data", urls[0], "--data", urls[1], "--json")
    for row in json.loads(done.out):
        assert scores[row["dataset"]].miou == pytest.approx(row["miou"], rel=1e-12)
        assert scores[row["dataset"]].images == row["images"]
    for world_size in (2, 3):  # of three processes, one has no image of two
        KEPT.clear()
        for rank in range(world_size):
            with open_validation(urls, None, model, OneOfSeveral(rank=rank, world_size=world_size)) as part:
                part(model.net)
        summed = torch.stack(KEPT[::2]).sum(dim=0)
        np.testing.assert_array_equal(summed.numpy(), scores["camvid-11"].confusion)


def test_a_limit_leaves_images_out(place: Path) -> None:
    model = EvalModel.load(place / "runs/recipe/final.pt")
    with open_validation([str(place / "shards/camvid-11/val")], 1, model, ProcessGroup()) as validation:
        assert validation(model.net)["camvid-11"].images == 1


def test_a_set_that_cannot_be_used_is_told_before_training(place: Path, tmp_path: Path) -> None:
    model = EvalModel.load(place / "runs/recipe/final.pt")
    train = str(place / "shards/ade20k-150/train")
    for url, message in ((str(tmp_path / "none"), "no such folder"), (train, "a training split")):
        with pytest.raises(DataError, match=message), open_validation([url], None, model, ProcessGroup()):
            pass
    val = str(place / "shards/camvid-11/val")
    urls = (val, f"{val}/", f"{val}/.")
    named_twice = r"validate\.data: .*camvid-11-val is named twice"
    with pytest.raises(DataError, match=named_twice), open_validation(urls, None, model, ProcessGroup()):
        pass
