"""The fused kernels on a CPU: interpreted for their values, compiled for GPUs that need not be there."""

import os
import subprocess
import sys

import pytest
import torch

from tests.commands import ROOT

triton = pytest.importorskip("triton", reason="the fused loss needs triton, which comes with torch for CUDA")


def test_the_kernels_compute_the_loss():
    """In a process of its own: triton decides at import whether it interprets."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/model/interpreted.py"]
    env = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "8 passed" in done.stdout


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_on_a_gpu_they_compute_what_the_strips_do(dtype, monkeypatch):
    from segstream.model.losses import pixel_loss

    logits = torch.randn(2, 194, 60, 60, device="cuda", generator=torch.Generator("cuda").manual_seed(0)).to(dtype)
    logits = logits.to(memory_format=torch.channels_last).requires_grad_()
    labels = torch.randint(0, 194, (2, 237, 237), device="cuda").to(torch.uint8)
    labels[0, :50] = 255

    def loss_and_gradient():
        loss = pixel_loss.pixel_losses(logits, labels, (237, 237))
        return loss, *torch.autograd.grad(loss.sum(), logits)

    fused = loss_and_gradient()
    monkeypatch.setattr(pixel_loss, "fusable", lambda logits: False)
    torch.testing.assert_close(fused, loss_and_gradient(), rtol=1e-4, atol=1e-3 if dtype == torch.float32 else 2e-2)


POINTERS = dict.fromkeys(("left_y", "left_x", "first_y", "last_y", "first_x", "last_x"), "*i32") | {"labels": "*u8"}
NUMBERS = ("num_classes", "low_h", "low_w", "high_h", "high_w", "widest", "step_", "out_")


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("logits", ["*fp32", "*bf16"])
def test_the_kernels_compile_for_gpus(capability, logits):
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from segstream.model.losses import triton_kernel as loss_triton

    for kernel in (loss_triton._forward, loss_triton._backward):
        names = [n for n in kernel.arg_names if not n.startswith("TILE")]
        signature = {n: "i32" if n.startswith(NUMBERS) else POINTERS.get(n, "*fp32") for n in names}
        signature |= {"logits": logits, "TILE_K": "constexpr", "TILE_X": "constexpr"}
        source = ASTSource(kernel, signature, {"TILE_K": loss_triton.TILE_K, "TILE_X": loss_triton.TILE_X})
        compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32))
        assert f".target sm_{capability}" in compiled.asm["ptx"]
