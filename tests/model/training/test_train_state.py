"""What one update does beside plain SGD, which `test_trainer.py` compares with a loop."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, interpolate

from segstream.model.checkpoint import load_checkpoint, load_final
from segstream.model.config import TrainConfig
from segstream.model.distributed import pick_precision
from segstream.model.networks.blocks import normalise
from segstream.model.networks.build import build
from segstream.model.training.mgda import min_norm
from segstream.model.training.train_state import optimizer_of
from segstream.model.training.trainer import train
from segstream.shards.errors import DataError
from tests.model.plain import TINY as SMALLEST
from tests.model.toy import META, TINY, StopError, ToySource, frozen, run, stop_at, toy_net


def weights_of(path):
    return load_final(path).weights


def plain_losses(net, batch):
    """Mean cross-entropy of each dataset, in plain torch."""
    logits = interpolate(net(normalise(batch.images)).logits, size=(24, 24), mode="bilinear", align_corners=True)
    of = [batch.dataset_ids == d for d in (0, 1)]
    return [cross_entropy(logits[mine], batch.labels[mine].long(), ignore_index=255) for mine in of]


def gradient(loss, net):
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(net.parameters()))])


def first_step(folder, **changes):
    """Weights before and after one update of plain SGD, flat."""
    net = build("hrnet-tiny", 3, seed=1, **TINY)
    before = deepcopy(net)
    config = TrainConfig(steps=1, lr=1.0, momentum=0.0, weight_decay=0.0, device="cpu", **changes)
    rows = []
    train(net, ToySource(), config, str(folder), meta=META, seed=0, on_log=rows.append)
    flat = [torch.cat([p.detach().flatten() for p in n.parameters()]) for n in (before, net)]
    return before.train(), flat[0] - flat[1], rows[0]


def test_mgda_goes_along_the_shortest_combination_of_the_datasets_own_gradients(tmp_path):
    net, step, row = first_step(tmp_path, mgda=True)
    (batch,) = ToySource().batches(0, 1)
    losses = plain_losses(deepcopy(net), batch)
    rows = torch.stack([gradient(plain_losses(net, batch)[d], net) for d in (0, 1)])
    shares = min_norm(rows.double() @ rows.double().T)
    assert 0.01 < shares[0] < 0.99
    torch.testing.assert_close(step, shares.float() @ rows, rtol=1e-3, atol=1e-5)
    assert row.loss == pytest.approx(float(shares @ torch.stack(losses).double()), rel=1e-4)


def test_a_dataset_without_labels_takes_no_part_in_mgda(tmp_path):
    class HalfIgnored(ToySource):
        def batches(self, start, stop):
            for batch in super().batches(start, stop):
                batch.labels[batch.dataset_ids == 1] = 255
                yield batch

    changes = {"steps": 1, "net": frozen(toy_net())}
    shared = run(str(tmp_path / "mgda"), source=HalfIgnored(), mgda=True, **changes)
    alone = run(str(tmp_path / "one"), source=HalfIgnored(weights=(1.0, 0.0)), steps=1, net=frozen(toy_net()))
    torch.testing.assert_close(weights_of(shared), weights_of(alone), rtol=1e-5, atol=1e-6)
    calm = run(str(tmp_path / "none"), source=ToySource(label=255), mgda=True, weight_decay=0.0, steps=2)
    for name, weight in toy_net().named_parameters():
        assert torch.equal(weights_of(calm)[name], weight)


def test_a_longer_gradient_is_cut_to_length(tmp_path):
    _, free, _ = first_step(tmp_path / "free")
    _, cut, _ = first_step(tmp_path / "cut", clip_norm=0.1)
    assert free.norm() > 0.2
    assert cut.norm().item() == pytest.approx(0.1, rel=1e-3)
    torch.testing.assert_close(cut / cut.norm(), free / free.norm(), rtol=1e-2, atol=1e-4)
    _, whole, _ = first_step(tmp_path / "whole", clip_norm=1e6)
    torch.testing.assert_close(whole, free)


def test_averaged_weights_are_published_and_validated_and_both_are_kept(tmp_path):
    sums, trained, ema = {}, {}, 0.75

    def on_validate(net, done):
        assert not net.training
        sums[done] = {name: weight.detach().clone() for name, weight in net.named_parameters()}

    final = run(str(tmp_path), ema=ema, steps=4, checkpoint_every=1, keep=9, validate_every=1, on_validate=on_validate)
    for path in tmp_path.glob("checkpoints/*"):
        progress = load_checkpoint(path)
        trained[progress.step] = progress.weights
    average = {name: weight.detach() for name, weight in toy_net().named_parameters()}
    for step in range(1, 5):
        average = {name: ema * value + (1 - ema) * trained[step][name] for name, value in average.items()}
        torch.testing.assert_close(sums[step], average)
    published = weights_of(final)
    published = weights_of(final)
    torch.testing.assert_close({name: published[name] for name in average}, average)
    plain = weights_of(run(str(tmp_path / "plain"), steps=4))
    buffers = [name for name, _ in toy_net().named_buffers()]
    assert all(torch.equal(published[name], trained[4][name]) for name in buffers)
    assert all(torch.equal(trained[4][name], plain[name]) for name in average)  # looking on changes nothing


class Sick(nn.Module):
    """The toy network, but logits and statistics are not numbers wherever a batch is marked by its first pixel."""

    def __init__(self):
        super().__init__()
        self.net = toy_net()

    def forward(self, images):
        marked = images[:, :1, :1, :1] > 2.2  # 255 after normalisation is 2.25
        return self.net(torch.where(marked, torch.nan, images))


class Marked(ToySource):
    sick: tuple[int, ...] = ()

    def batches(self, start, stop):
        for batch in super().batches(start, stop):
            batch.images[0, 0, 0, 0] = 255 if batch.step in self.sick else 0
            yield batch


def marked(*sick):
    return type("Marked", (Marked,), {"sick": sick})()


def test_a_step_that_is_not_finite_is_skipped_said_and_counted(tmp_path):
    rows, notes = [], []
    changes = {"on_nonfinite": "skip", "log_every": 1, "checkpoint_every": 1, "keep": 9}
    run(str(tmp_path), net=Sick(), source=marked(2, 3), on_log=rows.append, on_note=notes.append, **changes)
    assert [row.skipped for row in rows] == [0, 0, 1, 2, 2, 2, 2, 2]
    assert notes == [f"step {k}: loss or gradient not finite, update skipped ({k - 1} so far)" for k in (2, 3)]
    states = {step: load_checkpoint(tmp_path / "checkpoints" / f"step-{step:08d}.pt") for step in (2, 4, 5)}
    assert all(torch.equal(states[2].weights[name], states[4].weights[name]) for name in states[2].weights)
    assert states[4].skipped == (2, 2)
    assert states[5].skipped == (2, 0)
    assert not all(torch.equal(states[4].weights[name], states[5].weights[name]) for name in states[4].weights)


def test_ten_in_a_row_are_too_many_also_over_a_restart(tmp_path):
    changes = {"on_nonfinite": "skip", "steps": 20, "checkpoint_every": 1, "source": marked(*range(3, 20))}
    with pytest.raises(StopError):
        run(str(tmp_path), net=Sick(), on_log=stop_at(8), **changes)
    with pytest.raises(DataError, match="not finite in 10 steps in a row up to step 12"):
        run(str(tmp_path), net=Sick(), **changes)


def test_groups_are_the_published_ones():
    config = TrainConfig(steps=1, lr=0.01)
    net = build("pspnet-50", 3, blocks=1, width=4)
    groups = optimizer_of(net, config).param_groups
    assert [group["factor"] for group in groups] == [1.0] * 5 + [10.0] * 3
    assert {id(p) for group in groups for p in group["params"]} == {id(p) for p in net.parameters()}
    assert {group["weight_decay"] for group in groups} == {1e-4}
    heads = {id(p) for name, p in net.named_parameters() if name.startswith(("ppm.", "cls.", "aux."))}
    assert {id(p) for group in groups[-3:] for p in group["params"]} == heads
    assert len(optimizer_of(build("hrnet-tiny", 3, **TINY), config).param_groups) == 1
    assert len(optimizer_of(net, replace(config, optimizer="adamw")).param_groups) == 1


def test_heads_learn_at_their_own_rate(tmp_path):
    net = build("pspnet-50", 3, seed=1, blocks=1, width=4)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    plain, factors = deepcopy(net), {"ppm": 10.0, "cls": 10.0, "aux": 10.0}
    for module in (*net.modules(), *plain.modules()):
        if isinstance(module, nn.Dropout2d):
            module.p = 0.0
    config = TrainConfig(steps=1, lr=0.01, momentum=0.0, weight_decay=0.0, channels_last=False, device="cpu")
    (batch,) = ToySource().batches(0, 1)
    train(net, ToySource(), config, str(tmp_path), meta=META, seed=0)
    output = plain.train()(normalise(batch.images))

    def loss(logits):
        up = interpolate(logits, size=(24, 24), mode="bilinear", align_corners=True)
        of = [batch.dataset_ids == d for d in (0, 1)]
        return sum(0.5 * cross_entropy(up[mine], batch.labels[mine].long(), ignore_index=255) for mine in of)

    (loss(output.logits) + 0.4 * loss(output.aux[0].logits)).backward()
    for (name, after), p in zip(net.named_parameters(), plain.parameters(), strict=True):
        expected = before[name] - 0.01 * factors.get(name.split(".")[0], 1.0) * p.grad
        torch.testing.assert_close(after.detach(), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("amx", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_is_bf16_only_where_the_processor_multiplies_it(monkeypatch, amx, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": amx})
    cpu = torch.device("cpu")
    assert pick_precision("auto", cpu) == expected
    assert pick_precision("bf16", cpu) == "bf16"  # what is asked for by name is done


def test_bf16_training_resembles_fp32_but_is_another_run(tmp_path):
    rows = []
    for precision in ("fp32", "bf16"):
        run(str(tmp_path / precision), steps=4, log_every=1, precision=precision, on_log=rows.append)
    losses = [row.loss for row in rows]
    assert losses[4:] != losses[:4]
    assert losses[4:] == pytest.approx(losses[:4], rel=0.05)


def test_what_a_cpu_cannot_do_is_refused_or_said(tmp_path):
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert pick_precision("tf32", cpu) == "fp32"
    assert pick_precision("tf32", cuda) == "tf32"
    assert pick_precision("fp16", cuda) == "fp16"
    with pytest.raises(DataError, match="precision: fp16 needs a GPU; on a CPU use fp32, bf16 or auto"):
        run(str(tmp_path), precision="fp16")
    with pytest.raises(DataError, match="accumulate: 5 parts of the 4 samples that a process gets; lower it to 4"):
        run(str(tmp_path), accumulate=5)
    notes = []
    plain, rounded = (run(str(tmp_path / p), steps=2, precision=p, on_note=notes.append) for p in ("fp32", "tf32"))
    assert notes == ["precision: tf32 is fp32 on a CPU"]
    assert load_final(plain).identity == load_final(rounded).identity


def test_compiled_training_resembles_plain_and_keeps_names(tmp_path, monkeypatch):
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda net: real(net, backend="aot_eager"))  # no C++ compiler needed
    nets = {c: build("hrnet-tiny", 3, seed=1, **SMALLEST) for c in (False, True)}
    finals = [load_final(run(str(tmp_path / str(c)), net=net, steps=2, compile=c)) for c, net in nets.items()]
    assert finals[0].identity == finals[1].identity
    torch.testing.assert_close(finals[1].weights, finals[0].weights, rtol=1e-3, atol=1e-4)
