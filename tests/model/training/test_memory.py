import pytest
import torch

from segstream.benchmarks.step import BenchConfig, prepare
from segstream.model.config import ModelConfig, TrainConfig
from segstream.model.networks.build import build
from segstream.model.training.memory import estimate_step, needed

TRAIN = TrainConfig(steps=1, lr=0.1)
SMALL = {"widths": [8, 8, 8, 8], "stem": 16, "stage1_width": 8}


def allocated(arch, options, **config):
    """The most that torch's allocator had given out at one moment of a real step; weights and momentum not among it."""
    sizes = {name: value for name, value in options.items() if name != "checkpointing"}
    checkpointing = options.get("checkpointing", False)
    config |= {"task": "step", "device": "cpu", "options": sizes, "checkpointing": checkpointing}
    config = BenchConfig(arch=arch, **config)
    work = prepare(config, "ours")
    work.run()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        work.run()
    now = most = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    return most


@pytest.mark.parametrize(
    ("arch", "options", "precision"),
    [
        ("hrnet-tiny", {}, "fp32"),
        ("hrnet-tiny", {}, "bf16"),
        ("hrnet-tiny", {"checkpointing": True}, "fp32"),
        ("pspnet-50", {"width": 8, "blocks": 1}, "fp32"),
    ],
)
def test_the_estimate_is_what_a_real_step_allocates(arch, options, precision):
    model = ModelConfig(arch=arch, options=options)
    found = estimate_step(model, 194, TRAIN, images=8, crop_hw=(129, 129), precision=precision)
    real = allocated(arch, options, crop=129, batch=8, precision=precision)
    assert real / 1.25 < found.activations + found.gradients < real * 1.25


def test_weights_are_counted_exactly():
    net = build("hrnet-tiny", 11, **SMALL)
    numbers, model = sum(p.numel() for p in net.parameters()), ModelConfig(arch="hrnet-tiny", options=SMALL)
    found = estimate_step(model, 11, TRAIN, images=2, crop_hw=(33, 33), precision="fp32")
    state = sum(t.numel() * t.element_size() for t in net.state_dict().values())
    assert (found.parameters, found.weights) == (numbers, state)
    assert found.gradients == found.optimizer == 4 * numbers
    assert found.total == state + 8 * numbers + found.activations
    assert found.checkpoint == state + 4 * numbers


def test_what_makes_a_step_larger():
    def of(images=8, precision="fp32", **settings):
        train = TrainConfig(steps=1, lr=0.1, **settings)
        model = ModelConfig(arch="hrnet-tiny", options=SMALL)
        return estimate_step(model, 11, train, images=images, crop_hw=(257, 257), precision=precision, datasets=7)

    plain = of()
    assert of(images=16).activations == pytest.approx(2 * plain.activations, rel=0.1)
    assert of(precision="bf16").activations < 0.75 * plain.activations
    assert of(optimizer="adamw").optimizer == 2 * plain.optimizer
    assert of(ema=0.9).weights == 2 * plain.weights
    assert of(mgda=True).gradients == 8 * plain.gradients
    assert needed(plain, "cpu") > plain.total
    assert needed(plain, "cuda") > plain.total


def test_the_published_network_is_measured_but_not_made():
    """66 million parameters, and activations beyond any one machine that this runs on."""
    model, step = ModelConfig(arch="hrnet-w48"), {"images": 35, "crop_hw": (713, 713), "precision": "fp32"}
    found = estimate_step(model, 194, TRAIN, **step, datasets=7)
    assert (found.parameters, found.gradients) == (65_985_554, 4 * 65_985_554)
    # The authors trained it with 5 crops on a GPU of 24 GB.
    assert 8e9 < found.activations * 5 / 35 < 24e9
