import math
import os
import signal
from contextlib import nullcontext
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy, interpolate
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, PolynomialLR

from segstream.model.checkpoint import check_same, load_checkpoint, load_final
from segstream.model.config import CCSAConfig, TrainConfig
from segstream.model.networks.blocks import normalise
from segstream.model.networks.build import build
from segstream.model.training.trainer import SHAPING, Stopped, learning_rate, run_identity, stop_signals, train
from segstream.shards.errors import DataError
from tests.model.toy import META, TINY, StopError, ToySource, run, stop_at, toy_net


def weights(path):
    return load_final(path).weights


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return weights(run(str(tmp_path_factory.mktemp("undisturbed"))))


WAYS = {
    "adamw": {"optimizer": "adamw", "lr": 0.002, "class_balance": 0.5},
    "rmi": {"loss": "rmi", "accumulate": 2},
    "ema": {"ema": 0.9, "clip_norm": 0.1},
    "mgda": {"mgda": True},
    "frozen": {"freeze": ("stage2", "bn1"), "warmup_steps": 3, "schedule": "cosine", "ema": 0.9},
    "ccsa": {"ccsa": CCSAConfig(positives=20), "loss": "relaxed"},
}


@pytest.mark.parametrize(("way", "step"), [("", 2), ("", 6), *((way, 6) for way in WAYS)])
def test_an_interrupted_run_ends_in_the_same_bits(tmp_path, undisturbed, way, step):
    changes, notes = WAYS.get(way, {}), []
    calm = weights(run(str(tmp_path / "calm"), **changes)) if way else undisturbed
    with pytest.raises(StopError):
        run(str(tmp_path), on_log=stop_at(step), **changes)
    assert same(weights(run(str(tmp_path), on_note=notes.append, **changes)), calm)
    kept = (step - 1) // 3 * 3  # the interruption comes before the step's own checkpoint
    path = tmp_path / "checkpoints" / f"step-{kept:08d}.pt"
    assert notes == ([f"going on from {path} at step {kept} of 8"] if kept else [])
    assert not way or not same(calm, undisturbed)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_steps_are_those_of_a_plain_loop(tmp_path, optimizer):
    source, net = ToySource(), build("hrnet-tiny", 3, seed=1, **TINY)
    plain = deepcopy(net).to(memory_format=torch.channels_last).train()
    config = TrainConfig(
        steps=3, lr=0.01, optimizer=optimizer, momentum=0.8, weight_decay=0.02, class_balance=1.0, device="cpu"
    )
    final = train(net, source, config, str(tmp_path), meta=META, seed=0)
    settings = {"momentum": 0.8} if optimizer == "sgd" else {"betas": (0.8, 0.999)}
    kind = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[optimizer]
    steps = kind(plain.parameters(), lr=0.01, weight_decay=0.02, **settings)
    by_class = torch.tensor([2 / 3, 4 / 3, 4 / 3])  # 1 / share, scaled to a mean of 1 over the pixels
    for batch in source.batches(0, 3):
        steps.param_groups[0]["lr"] = 0.01 * (1 - batch.step / 3) ** 0.9
        logits = plain(normalise(batch.images).contiguous(memory_format=torch.channels_last)).logits
        logits = interpolate(logits, size=batch.labels.shape[1:], mode="bilinear", align_corners=True)
        labels = batch.labels.long()
        of = [batch.dataset_ids == d for d in (0, 1)]
        loss = sum(0.5 * cross_entropy(logits[mine], labels[mine], by_class, ignore_index=255) for mine in of)
        steps.zero_grad()
        loss.backward()
        steps.step()
    got, expected = weights(final), plain.state_dict()
    undone = "last_layer.0.bias"  # by batch norm: its gradient is rounding, which AdamW blows up
    del got[undone], expected[undone]
    torch.testing.assert_close(got, dict(expected), rtol=1e-3, atol=1e-4)


def test_intervals_do_not_shape_the_result_and_a_finished_run_returns_at_once_and_says_so(tmp_path, undisturbed):
    torch.manual_seed(99)
    final = run(str(tmp_path), log_every=1, checkpoint_every=1)
    assert same(weights(final), undisturbed)
    stamp = Path(final).stat().st_mtime_ns
    notes, rows = [], []
    assert run(str(tmp_path), on_note=notes.append, on_log=rows.append) == final
    assert notes == [f"already finished: {final} holds 8 steps of this very run; nothing to do"]
    assert rows == []
    assert Path(final).stat().st_mtime_ns == stamp


SOURCE = ToySource()
CHANGES = {
    "lr": ({"lr": 0.01}, r"train.lr is 0.05, this run has 0.01"),
    "optimizer": ({"optimizer": "adamw"}, r"train.optimizer is 'sgd', this run has 'adamw'"),
    "balance": ({"class_balance": 0.5}, r"train.class_balance is 0.0, this run has 0.5"),
    "loss": ({"loss": "rmi"}, r"train.loss is 'ce', this run has 'rmi'"),
    "schedule": ({"schedule": "cosine"}, r"train.schedule is nothing, this run has 'cosine'"),
    "ccsa": ({"ccsa": CCSAConfig()}, r"train.ccsa"),
    "freeze": ({"freeze": ("stage4",)}, r"train.freeze is nothing, this run has \['stage4'\]"),
    "steps": ({"steps": 9}, r"train.steps is 8, this run has 9"),
    "seed": ({"seed": 4}, r"seed is 3, this run has 4"),
    "data": ({"source": ToySource(seed=1)}, r"data.fingerprint.seed is 0, this run has 1"),
    "mix": ({"source": ToySource(weights=(0.25, 0.75))}, r"data.weights is \[0.5, 0.5\], this run has \[0.25, 0.75\]"),
    "net": ({"meta": {**META, "options": {**TINY, "stem": 9}}}, r"network.options.stem is 8, this run has 9"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_makes_another_run(name):
    """Whatever shapes the result; the recipe's name does not."""
    changes, text = CHANGES[name]
    settings = {"steps": 8, "lr": 0.05, "device": "cpu"}

    def identity(source=SOURCE, meta=META, seed=3, **others):
        return run_identity(source, TrainConfig(**settings | others), meta=meta, seed=seed)

    with pytest.raises(DataError, match=f"x: belongs to another run: {text}"):
        check_same("x", identity(), identity(**changes))
    assert identity() == identity(meta={**META, "recipe": {"name": "renamed"}}, log_every=1, keep=9, accumulate=2)
    settings = "steps lr optimizer momentum weight_decay power loss class_balance mgda clip_norm ema precision"
    assert settings.split() == SHAPING


SCORES = {1: 0.2, 2: 0.7, 3: math.nan, 4: 0.7, 5: 0.1, 6: 0.9, 7: 0.3, 8: 0.9}


def validated(folder, until=99, at="score", scores=SCORES, **changes):
    """The toy, with a score after each step, stopped after `until`: before it is scored, or before its checkpoint."""

    def on_validate(net, done):
        if done == until and at == "score":
            raise StopError
        seen.append((done, net.state_dict()["conv1.weight"].clone()))
        return scores[done]

    def on_log(row):
        if row.step == until and at == "log":
            raise StopError

    seen = []
    with pytest.raises(StopError) if until < 8 else nullcontext():
        run(str(folder), on_validate=on_validate, on_log=on_log, validate_every=1, log_every=1, ema=0.5, **changes)
    return dict(seen)


@pytest.mark.parametrize("every", [1, 3])
def test_the_best_weights_are_kept_and_are_the_same_after_kills(tmp_path, every):
    seen = validated(tmp_path / "calm", checkpoint_every=every)
    calm = load_final(tmp_path / "calm/best.pt")
    assert (calm.step, calm.meta["score"]) == (6, 0.9)  # of equal ones the earliest; no number is none
    assert torch.equal(calm.weights["conv1.weight"], seen[6])  # averaged
    for until, at in ((2, "score"), (3, "log"), (3, "score"), (6, "score"), (7, "log")):
        validated(tmp_path / "killed", until, at, checkpoint_every=every)
    validated(tmp_path / "killed", checkpoint_every=every)
    best = load_final(tmp_path / "killed/best.pt")
    assert (best.step, best.meta) == (calm.step, calm.meta)
    assert same(best.weights, calm.weights)
    assert same(weights(tmp_path / "killed/final.pt"), weights(tmp_path / "calm/final.pt"))


@pytest.mark.parametrize("other", [{"validate": {"limit": 3}}, {"eval": {"flip": True}}])
def test_scores_of_another_validation_do_not_count_and_another_runs_best_is_refused(tmp_path, other):
    validated(tmp_path, 7, checkpoint_every=2)
    other = {**META, "recipe": other | {"name": "toy"}}
    validated(tmp_path, checkpoint_every=2, meta=other, scores={7: 0.2, 8: 0.1})
    assert load_final(tmp_path / "best.pt").step == 7
    for path in (*tmp_path.glob("checkpoints/*"), tmp_path / "final.pt"):
        path.unlink()
    with pytest.raises(DataError, match=r"best.pt: belongs to another run: train.ema is 0.5"):
        run(str(tmp_path))
    run(str(tmp_path), restart_changed=True)
    assert not (tmp_path / "best.pt").exists()


def test_what_changes_no_score_keeps_the_best(tmp_path):
    validated(tmp_path, 7, checkpoint_every=2)
    alike = {**META, "recipe": {"validate": {"pictures": 0}, "eval": {"batch": 1}}}
    validated(tmp_path, checkpoint_every=2, meta=alike)
    assert load_final(tmp_path / "best.pt").step == 6


FROZEN = ("stage2", "stage3.0.branches.1", "bn1", "last_layer.0")


@pytest.mark.parametrize("changes", [{}, {"optimizer": "adamw", "ema": 0.5}, {"mgda": True}, {"accumulate": 2}])
def test_frozen_parts_keep_weights_and_statistics_and_the_rest_learns(tmp_path, changes):
    before = deepcopy(toy_net().state_dict())

    def on_validate(net, done):
        assert not any(module.training for module in net.modules())

    after = weights(run(str(tmp_path), freeze=FROZEN, validate_every=3, on_validate=on_validate, **changes))
    for name, tensor in after.items():
        stays = f"{name}.".startswith(tuple(f"{part}." for part in FROZEN))
        assert torch.equal(tensor, before[name]) == stays, name
    content = load_checkpoint(tmp_path / "checkpoints/step-00000008.pt")
    learnt = [n for n, _ in toy_net().named_parameters() if not f"{n}.".startswith(tuple(f"{p}." for p in FROZEN))]
    assert len(content.optimizer["state"]) == len(learnt)


def test_what_cannot_be_frozen_is_named(tmp_path):
    for parts, text in (
        (("stage22",), "train.freeze: 'stage22' is no part of this network; did you mean 'stage2'"),
        (
            ("x",),
            "train.freeze: 'x' is no part of this network; its parts are bn1, bn2, conv1, conv2, last_layer, layer1",
        ),
        (
            tuple(n for n, _ in toy_net().named_children()),
            "train.freeze: .*: nothing is left to train; name fewer parts",
        ),
    ):
        with pytest.raises(DataError, match=text):
            run(str(tmp_path), freeze=parts)


def test_another_run_in_the_same_folder_is_refused(tmp_path):
    for stopped in (True, False):
        with pytest.raises(StopError) if stopped else nullcontext():
            run(str(tmp_path), on_log=stop_at(4) if stopped else None)
        name = "step-00000003.pt" if stopped else "final.pt"
        with pytest.raises(DataError, match=rf"{name}: belongs to another run: train.lr is 0.05"):
            run(str(tmp_path), lr=0.01)
    assert (tmp_path / "final.pt").exists()


def test_restart_changed_starts_over(tmp_path, undisturbed):
    run(str(tmp_path), lr=0.01)
    notes = []
    final = run(str(tmp_path), restart_changed=True, on_note=notes.append)
    other = "belongs to another run: train.lr is 0.01, this run has 0.05"
    assert notes == [f"starting over: {tmp_path / 'final.pt'}: {other}"]
    assert same(weights(final), undisturbed)
    notes.clear()
    run(str(tmp_path), restart_changed=True, on_note=notes.append)
    assert notes[0].startswith("already finished")


def test_a_corrupt_checkpoint_stops_the_run_or_is_dropped_on_request(tmp_path, undisturbed):
    with pytest.raises(StopError):
        run(str(tmp_path), on_log=stop_at(4))
    (path,) = (tmp_path / "checkpoints").iterdir()
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(DataError, match=r"step-00000003.pt: cannot be read .*there is no earlier one"):
        run(str(tmp_path))
    assert same(weights(run(str(tmp_path), restart_changed=True)), undisturbed)


def test_a_diverging_run_stops_and_keeps_its_last_good_checkpoint(tmp_path):
    with pytest.raises(DataError, match=r"not finite after step \d+ .*lower lr \(now 1e\+30\)"):
        run(str(tmp_path), lr=1e30, checkpoint_every=1, steps=20)
    assert not (tmp_path / "final.pt").exists()
    for path in tmp_path.glob("checkpoints/*"):
        assert all(tensor.isfinite().all() for tensor in load_checkpoint(path).weights.values())


def test_an_ignored_batch_leaves_a_finite_loss_and_a_label_beyond_the_network_is_named(tmp_path):
    rows = []
    run(str(tmp_path / "ignored"), source=ToySource(label=255), on_log=rows.append)
    assert [row.loss for row in rows] == [0.0] * 4
    assert all(math.isnan(v) for row in rows for v in row.losses.values())
    with pytest.raises(DataError, match=r"step 0: a label holds id 7, the network has 3 classes \(samples 0/0"):
        run(str(tmp_path), source=ToySource(label=7))


def test_log_rows_report_the_mix(tmp_path):
    rows = []
    run(str(tmp_path), on_log=rows.append, log_every=3)
    assert [row.step for row in rows] == [3, 6, 8]
    assert all(0 <= row.data_wait <= 1 and row.crops_per_s > 0 for row in rows)
    means = [0.5 * row.losses["left"] + 0.5 * row.losses["right"] for row in rows]
    assert [row.loss for row in rows] == pytest.approx(means, rel=1e-5)
    assert rows[-1].eta_s == 0


def rates(steps, **schedule):
    config = TrainConfig(steps=steps, lr=0.01, **schedule)
    return [learning_rate(step, config) for step in range(steps)]


def test_it_is_the_curve_of_the_reference():
    """Which sets the rate after update i to base x (1 - (i + 1) / max_iter) ^ 0.9: update 0 uses the base itself."""
    config, rate = TrainConfig(steps=500_000, lr=0.01), 0.01
    for update in range(2000):
        assert learning_rate(update, config) == rate
        rate = 0.01 * (1 - float(update + 1) / 500_000) ** 0.9


def by_torch(schedule, steps):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.01)
    made, rates = schedule(optimizer), []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        made.step()
    return rates


@pytest.mark.parametrize(
    ("asked", "schedule"),
    [
        ({"power": 2.0}, lambda o: PolynomialLR(o, 50, power=2.0)),
        ({"schedule": "cosine"}, lambda o: CosineAnnealingLR(o, 50)),
        ({"power": 1e-9, "warmup_steps": 8}, lambda o: LinearLR(o, 1 / 8, total_iters=7)),
    ],
)
def test_schedules_are_those_of_torch(asked, schedule):
    assert rates(50, **asked) == pytest.approx(by_torch(schedule, 50), rel=1e-6)


def test_a_warmup_is_a_factor_of_the_schedule():
    plain, warm = rates(20, schedule="cosine"), rates(20, schedule="cosine", warmup_steps=5)
    assert warm == pytest.approx([rate * min(1, (step + 1) / 5) for step, rate in enumerate(plain)], rel=1e-12)


@pytest.mark.parametrize(("samples", "batch", "epochs"), [(2975, 8, 3), (30, 6, 7), (10, 4, 3), (7, 3, 175)])
def test_per_epoch_it_is_what_hmsa_published(samples, batch, epochs):
    """lr (1 - e / max_epoch) ^ power, e: epochs whose samples have all been used."""
    steps = epochs * samples // batch
    got = rates(steps, power=2.0, schedule_per="epoch", epoch_steps=samples / batch)
    done = [step * batch // samples for step in range(steps)]
    assert got == pytest.approx([0.01 * (1 - e / epochs) ** 2 for e in done], rel=1e-12)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_is_noted_and_the_handlers_come_back(number):
    before = signal.getsignal(number)
    with stop_signals() as came:
        assert came == []
        os.kill(os.getpid(), number)
        assert came == [number]
    assert signal.getsignal(number) is before


def test_a_run_told_to_stop_keeps_every_step_it_made(tmp_path):
    def on_log(row):
        if row.step == 2:
            os.kill(os.getpid(), signal.SIGUSR1)

    with pytest.raises(Stopped, match=r"told to stop, 2 of 8 steps are kept; the same command goes on") as stopped:
        run(str(tmp_path), on_log=on_log, checkpoint_every=5)
    assert isinstance(stopped.value, DataError)
    assert stopped.value.exit_code == 75
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000002.pt"]
    notes = []
    run(str(tmp_path), on_note=notes.append)
    assert notes == [f"going on from {tmp_path}/checkpoints/step-00000002.pt at step 2 of 8"]
