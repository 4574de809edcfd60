from pathlib import Path

import pytest
import torch

from segstream.model.checkpoint import load_final
from segstream.model.device import pick_precision
from segstream.model.losses.loss import pixel_losses
from segstream.shards.errors import DataError
from tests.model.toy import run


@pytest.mark.parametrize(("amx", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_is_bf16_only_where_the_processor_multiplies_it(
    monkeypatch: pytest.MonkeyPatch, amx: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": amx})
    cpu = torch.device("cpu")
    assert pick_precision("auto", cpu) == expected
    assert pick_precision("bf16", cpu) == "bf16"  # what is asked for by name is done


def test_the_loss_of_bf16_logits_is_computed_in_float32() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 5, 4, 4, generator=generator).bfloat16().requires_grad_()
    labels = torch.randint(0, 5, (1, 9, 9), generator=generator)
    sums = pixel_losses(logits, labels, (9, 9))
    up = torch.nn.functional.interpolate(logits.detach().double(), (9, 9), mode="bilinear", align_corners=True)
    expected = torch.nn.functional.cross_entropy(up, labels, reduction="sum")
    assert sums.dtype == torch.float32
    torch.testing.assert_close(sums.double().sum(), expected, rtol=1e-6, atol=0)


def test_bf16_training_resembles_fp32_but_is_another_run(tmp_path: Path) -> None:
    losses = {}
    for precision in ("fp32", "bf16"):
        rows = []
        run(str(tmp_path / precision), steps=4, log_every=1, precision=precision, on_log=rows.append)
        losses[precision] = [row.loss for row in rows]
    assert losses["bf16"] != losses["fp32"]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.05)


def test_what_a_cpu_cannot_do_is_refused_or_said(tmp_path: Path) -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert pick_precision("tf32", cpu) == "fp32"
    assert pick_precision("tf32", cuda) == "tf32"
    assert pick_precision("fp16", cuda) == "fp16"
    with pytest.raises(DataError, match="precision: fp16 needs a GPU; on a CPU use fp32, bf16 or auto"):
        run(str(tmp_path), precision="fp16")
    notes: list[str] = []
    plain, rounded = (run(str(tmp_path / p), steps=2, precision=p, on_note=notes.append) for p in ("fp32", "tf32"))
    assert notes == ["precision: tf32 is fp32 on a CPU"]
    assert load_final(plain).identity == load_final(rounded).identity


def test_compiled_training_resembles_plain_and_keeps_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda net: real(net, backend="aot_eager"))  # no C++ compiler needed
    finals = [load_final(run(str(tmp_path / str(c)), steps=2, compile=c)) for c in (False, True)]
    assert finals[0].identity == finals[1].identity
    torch.testing.assert_close(finals[1].weights, finals[0].weights, rtol=1e-3, atol=1e-4)
