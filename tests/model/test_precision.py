from pathlib import Path

import pytest
import torch

from model.image import pick_precision
from model.loss import pixel_losses
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
