"""What only a GPU can show; run there with `pytest -m gpu`."""

import pytest
import torch
from torch import nn

from segstream.model.checkpoint import load_final
from tests.model.processes import together
from tests.model.toy import StopError, ToySource, run, stop_at, toy_net

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
two_gpus = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")


def without_dropout():
    net = toy_net()
    for module in net.modules():
        if isinstance(module, nn.Dropout2d):
            module.p = 0.0
    return net


def _train(group, folder):
    run(f"{folder}/two", group=group, net=without_dropout(), source=ToySource(batch=5), steps=3, device="cuda")


@two_gpus
def test_shared_statistics_are_those_of_the_large_batch(tmp_path):
    together(_train, str(tmp_path))
    one = run(str(tmp_path / "one"), net=without_dropout(), source=ToySource(batch=5), steps=3, device="cuda")
    two = load_final(tmp_path / "two" / "final.pt").weights
    torch.testing.assert_close(two, load_final(one).weights, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("precision", ["tf32", "bf16", "fp16"])
def test_lower_precisions_resemble_fp32(tmp_path, precision):
    losses = {}
    for kind in ("fp32", precision):
        rows = []
        run(str(tmp_path / kind), steps=4, log_every=1, precision=kind, device="cuda", on_log=rows.append)
        losses[kind] = [row.loss for row in rows]
    assert losses[precision] == pytest.approx(losses["fp32"], rel=0.05)


def test_fp16_goes_on_with_its_scale(tmp_path):

    torch.use_deterministic_algorithms(True, warn_only=True)
    changes = {"precision": "fp16", "device": "cuda"}
    calm = load_final(run(str(tmp_path / "calm"), **changes)).weights
    with pytest.raises(StopError):
        run(str(tmp_path / "cut"), on_log=stop_at(6), **changes)
    got = load_final(run(str(tmp_path / "cut"), **changes)).weights
    torch.testing.assert_close(got, calm, rtol=1e-2, atol=1e-3)


def test_a_step_makes_no_gpu_wait(tmp_path):
    """torch raises at every synchronisation; the ends of the run, where files are written, are left out."""
    seen = []

    class Watched(ToySource):
        def batches(self, start, stop):
            for batch in super().batches(start, stop):
                torch.cuda.set_sync_debug_mode("error" if 0 < batch.step < 7 else "default")
                seen.append(batch.step)
                yield batch

    try:
        run(str(tmp_path), source=Watched(), device="cuda", log_every=99, checkpoint_every=99)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert seen == list(range(8))


def test_the_peak_of_the_device_is_reported(tmp_path):
    rows = []
    run(str(tmp_path), device="cuda", on_log=rows.append)
    assert rows[-1].memory_mib == pytest.approx(torch.cuda.max_memory_allocated() / 2**20)
