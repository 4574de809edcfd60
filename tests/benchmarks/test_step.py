from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, interpolate

from segstream.benchmarks import infer as bench_infer
from segstream.benchmarks import step as bench
from segstream.benchmarks.step import BenchConfig, Work, check_equal, count_flop, peak_mib, prepare
from segstream.model.config import InferConfig
from segstream.model.networks.build import build
from segstream.shards.errors import DataError, UsageError
from tests.model.networks.test_blocks import NETS

SMALL = {"classes": 5, "crop": 33, "batch": 2, "device": "cpu", "precision": "fp32"}
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def config(task, arch="hrnet-tiny", **changes):
    return BenchConfig(task=task, arch=arch, options=NETS.get(arch, {}), **SMALL | changes)


@pytest.fixture(autouse=True)
def _needs(request):
    if request.node.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("arch", NETS)
@pytest.mark.parametrize("task", ["step", "infer"])
def test_both_variants_do_the_same_work(task, arch, device):
    """Further predictions and dropout included; `run` leaves the value where it was but for what it learnt."""
    ours, plain = (prepare(config(task, arch, device=device), name) for name in ("ours", "plain"))
    torch.testing.assert_close(ours.value(), plain.value(), rtol=1e-3, atol=1e-3)
    check_equal(config(task, arch, device=device), ours, plain)
    ours.run()
    assert ours.value().isfinite().all()


def test_a_plain_step_is_the_network_upsampled_and_cross_entropy():
    net = build("hrnet-tiny", 5, seed=0, **NETS["hrnet-tiny"]).train()
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, 33, 33, generator=generator)
    labels = torch.randint(0, 5, (2, 33, 33), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.2] = 255
    upsampled = interpolate(net(images).logits, size=(33, 33), mode="bilinear", align_corners=True)
    expected = cross_entropy(upsampled, labels, ignore_index=255)
    torch.testing.assert_close(prepare(config("step"), "plain").value(), expected.detach())


def test_the_loss_alone():
    ours, plain = (prepare(config("loss"), name) for name in ("ours", "plain"))
    torch.testing.assert_close(ours.value(), plain.value())
    ours.run()
    assert count_flop(config("loss")) == 0


def test_different_work_is_not_compared():
    def work(value):
        return Work(run=lambda: None, value=lambda: torch.tensor(value))

    check_equal(config("loss"), work([1.0, 2.0]), work([1.0, 2.001]))
    with pytest.raises(DataError, match=r"differ by 0.25 of the largest value"):
        check_equal(config("loss"), work([1.0, 2.5]), work([1.0, 2.0]))
    with pytest.raises(DataError, match="differ by nan"):
        check_equal(config("loss"), work([1.0, float("nan")]), work([1.0, 2.0]))
    check_equal(config("loss", precision="bf16"), work([1.0, 2.1]), work([1.0, 2.0]))


def test_operations_are_those_of_the_convolutions():
    net = build("hrnet-tiny", 5, **NETS["hrnet-tiny"])
    counted = []
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(
                lambda m, inputs, out: counted.append(2 * out.numel() * m.in_channels * m.kernel_size[0] ** 2)
            )
    net(torch.zeros(2, 3, 33, 33))
    assert count_flop(config("infer")) == sum(counted)
    assert count_flop(config("step")) == 3 * sum(counted) - counted[0]  # images need no gradient


def test_memory_is_counted_in_a_process_of_its_own():
    """194 x 200 x 200 floats are 30 MiB an image; the plain loss holds several such arrays."""
    case = config("loss", classes=194, crop=200, batch=2)
    ours, plain = peak_mib(case, "ours"), peak_mib(case, "plain")
    if ours is None:
        pytest.skip("counted on Linux only")
    assert plain > 2 * 30
    assert ours < plain / 2


class Pool(ThreadPoolExecutor):
    def __init__(self, workers, mp_context):
        super().__init__(workers)


class Dying(Pool):
    def submit(self, *_):
        future: Future = Future()
        future.set_exception(BrokenProcessPool("gone"))
        return future


def test_what_does_not_fit_is_said_with_what_to_do(monkeypatch):
    monkeypatch.setattr(bench, "ProcessPoolExecutor", Pool)
    with pytest.raises(DataError, match=r"hrnet-tiny, plain at crop 16, batch 1: .*use a larger --batch"):
        peak_mib(config("step", crop=16, batch=1), "plain")
    with pytest.raises(UsageError, match="did you mean"):
        peak_mib(config("step", "hrnet-w49"), "ours")
    monkeypatch.setattr(bench, "ProcessPoolExecutor", Dying)
    with pytest.raises(DataError, match="its process died"):
        peak_mib(config("step"), "ours")


@pytest.mark.parametrize(("size_hw", "scales"), [((30, 41), (1.0,)), ((30, 41), (0.5, 1.0))])
def test_whole_images_ours_and_literal_give_the_same_labels(size_hw, scales):
    small = InferConfig(crop=33, short_side=40, scales=scales, batch=4, device="cpu")
    both = bench_infer.prepare("hrnet-tiny", 70, size_hw, 3, small)  # more classes than OpenCV takes channels at once
    assert [ids.shape for ids in both.literal()] == [size_hw] * 3
    assert both.agreement() >= 0.995
