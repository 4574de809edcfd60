"""Several processes make the run of one."""

import os
import signal
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy, interpolate

from segstream.model.checkpoint import load_final
from segstream.model.config import CCSAConfig
from segstream.model.networks.blocks import normalise
from segstream.shards.errors import DataError
from tests.model.processes import together
from tests.model.toy import ToySource, frozen, run, toy_net

CASES = {
    "uneven": {"source": ToySource(batch=5)},
    "a dataset each": {"source": ToySource(batch=4, stride=1)},  # rank 0 has slots 0 and 2, both of the first dataset
    "datasets mixed": {"source": ToySource(batch=4, stride=2)},
    "balance": {"source": ToySource(batch=5), "class_balance": 0.5},
    "rmi": {"source": ToySource(batch=5), "loss": "rmi"},
    "relaxed": {"source": ToySource(batch=5), "loss": "relaxed"},
    "image weighted": {"source": ToySource(batch=5), "loss": "image_weighted"},
    "ccsa": {"source": ToySource(batch=5), "ccsa": CCSAConfig(alpha=0.5, positives=30, margin=4.0)},
    "accumulate": {"source": ToySource(batch=8), "accumulate": 2},
    "frozen": {"source": ToySource(batch=5), "freeze": ("stage2", "conv1"), "warmup_steps": 3, "schedule": "cosine"},
    "clip and average": {"source": ToySource(batch=5), "clip_norm": 0.05, "ema": 0.5},
    "mgda, a dataset each": {"source": ToySource(batch=4, stride=1), "mgda": True},
    "mgda, datasets mixed": {"source": ToySource(batch=4, stride=2), "mgda": True},
}
TOLERANCE = {"rtol": 1e-4, "atol": 2e-6}  # float32 sums in another order, through four updates


def frozen_run(folder, **changes):
    """Weights and log rows of four steps."""
    rows = []
    final = run(str(folder), net=frozen(toy_net()), steps=4, log_every=1, on_log=rows.append, **changes)
    return load_final(final).weights, [(row.loss, *row.losses.values()) for row in rows]


def _cases(group, folder):
    for name, changes in CASES.items():
        weights, rows = frozen_run(Path(folder) / name, group=group, **changes)
        if group.is_main:
            torch.save((weights, rows), Path(folder) / f"{name}.pt")


@pytest.fixture(scope="module")
def by_two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    together(_cases, str(folder))
    return folder


def assert_same_run(got, expected):
    torch.testing.assert_close(got[0], expected[0], **TOLERANCE)
    torch.testing.assert_close(torch.tensor(got[1]), torch.tensor(expected[1]), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_two_processes_make_the_updates_of_one(tmp_path, by_two, name):
    assert_same_run(torch.load(by_two / f"{name}.pt"), frozen_run(tmp_path, **CASES[name]))


@pytest.mark.parametrize("changes", [{"loss": "rmi"}, {"loss": "image_weighted"}, {"mgda": True}], ids=str)
def test_four_parts_make_the_updates_of_the_whole(tmp_path, changes):
    source = ToySource(batch=7)
    whole = frozen_run(tmp_path / "whole", source=source, **changes)
    assert_same_run(frozen_run(tmp_path / "parts", source=source, accumulate=4, **changes), whole)


def test_it_is_the_average_of_processes_with_a_dataset_each(tmp_path, by_two):
    """As the reference trains: plain cross-entropy on each GPU's own dataset, gradients averaged over GPUs."""
    source, nets = ToySource(batch=4), [frozen(toy_net()).train() for _ in range(2)]
    steps = torch.optim.SGD(nets[0].parameters(), momentum=0.9, weight_decay=1e-4)
    for batch in source.batches(0, 4):
        steps.param_groups[0]["lr"] = 0.05 * (1 - batch.step / 4) ** 0.9
        nets[1].load_state_dict(nets[0].state_dict())
        for dataset, net in enumerate(nets):
            mine = batch.dataset_ids == dataset
            logits = net(normalise(batch.images[mine])).logits
            logits = interpolate(logits, size=(24, 24), mode="bilinear", align_corners=True)
            net.zero_grad()
            cross_entropy(logits, batch.labels[mine].long(), ignore_index=255).backward()
        for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
            a.grad = (a.grad + b.grad) / 2
        steps.step()
    got, _ = torch.load(by_two / "a dataset each.pt")
    torch.testing.assert_close(got, dict(nets[0].state_dict()), rtol=1e-3, atol=1e-5)


def refused(**changes):
    with pytest.raises(DataError) as failure:
        run(**changes)
    return str(failure.value)


def _events(group, folder):
    """What one process meets, both know; then the run goes on."""
    bad = ToySource(label=7) if group.rank == 1 else ToySource()
    seen = {"bad": refused(run_dir=f"{folder}/bad", group=group, source=bad)}
    seen["other"] = refused(run_dir=f"{folder}/other", group=group, lr=0.05 + group.rank)

    def terminate(net, done):
        if done == 4 and group.rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    def note(net, done):
        sums.append((done, net.training, float(sum(b.sum() for b in net.buffers()))))

    calm, sums = run(f"{folder}/calm", group=group), []
    stopped = {"run_dir": f"{folder}/stopped", "group": group}
    seen["stopped"] = refused(**stopped, validate_every=1, on_validate=terminate)
    final = run(**stopped, validate_every=3, on_validate=note)
    seen["sums"] = sums
    if group.is_main:
        a, b = load_final(calm).weights, load_final(final).weights
        seen["same"] = all(torch.equal(a[name], b[name]) for name in a)
        seen["published"] = float(sum(b[name].sum() for name, _ in toy_net().named_buffers()))
    torch.save(seen, f"{folder}/{group.rank}.pt")


def test_what_happens_to_one_process_happens_to_all(tmp_path):
    together(_events, str(tmp_path))
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert first["bad"] == "step 0: another process of this run cannot go on; its own message says why"
    assert second["bad"].startswith("step 0: a label holds id 7, the network has 3 classes (samples 0/1; 0/3)")
    assert second["other"].startswith("processes of one run differ: train.lr is 1.05, this run has 0.05 on rank 0")
    assert first["other"].startswith("processes of one run differ: see what another process says")
    for seen in (first, second):
        assert "told to stop, 4 of 8 steps are kept" in seen["stopped"]
        assert [(done, training) for done, training, _ in seen["sums"]] == [(6, False), (8, False)]
    assert first["sums"] == second["sums"]  # rank 0's statistics on both
    assert first["sums"][-1][2] == pytest.approx(first["published"])
    assert first["same"]
