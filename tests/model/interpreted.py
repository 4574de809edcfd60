"""The fused kernels, run by Triton's interpreter: `TRITON_INTERPRET=1 python -m pytest tests/model/interpreted.py`."""

import pytest
import torch
from torch.nn.functional import cross_entropy, interpolate

from segstream.model.losses.triton_kernel import fused_pixel_losses
from segstream.model.types import Aux, TrainOutput
from tests.model.losses.mix import mix_loss


@pytest.mark.parametrize(
    ("low_hw", "size_hw", "classes", "align_corners", "dtype"),
    [
        ((2, 3), (4, 5), 5, True, torch.float32),
        ((2, 3), (4, 5), 5, False, torch.bfloat16),
        ((1, 65), (2, 66), 33, True, torch.float32),  # more than a tile of classes and of columns
        ((3, 2), (3, 2), 3, False, torch.float32),
        ((4, 5), (2, 3), 4, False, torch.float32),
        ((1, 1), (2, 2), 33, True, torch.float32),
    ],
)
def test_value_and_gradient_are_those_of_the_plain_composition(low_hw, size_hw, classes, align_corners, dtype):
    generator = torch.Generator().manual_seed(0)
    logits = (torch.randn(2, classes, *low_hw, generator=generator) * 5).to(dtype)
    labels = torch.randint(0, classes - 1, (2, *size_hw), generator=generator)  # the last class is absent
    labels[0, : size_hw[0] // 2] = 255
    by_class = torch.linspace(0.5, 2.0, classes)
    weights = torch.where(labels == 255, 0.0, by_class[labels.clamp(max=classes - 1)])
    scale = torch.tensor([0.5, -2.0])
    plain = logits.double().requires_grad_()
    upsampled = interpolate(plain, size=size_hw, mode="bilinear", align_corners=align_corners)
    loss = cross_entropy(upsampled, labels, by_class.double(), ignore_index=255, reduction="none").sum(dim=(1, 2))
    (loss * scale).sum().backward()
    fused = logits.to(memory_format=torch.channels_last).requires_grad_()
    got = fused_pixel_losses(fused, labels.to(torch.uint8), weights, size_hw, align_corners=align_corners)
    (got * scale).sum().backward()
    torch.testing.assert_close(got.double(), loss.detach(), rtol=1e-5, atol=1e-4)
    rounding = 1e-5 if dtype == torch.float32 else 1e-2
    torch.testing.assert_close(fused.grad.double(), plain.grad, rtol=rounding, atol=rounding)


def test_extreme_logits_stay_finite():
    logits = (torch.tensor([-1e4, 0.0, 1e4]).view(1, 3, 1, 1) * torch.ones(1, 3, 2, 2)).requires_grad_()
    loss = fused_pixel_losses(logits, torch.zeros(1, 3, 3, dtype=torch.int16), torch.ones(1, 3, 3), (3, 3))
    loss.sum().backward()
    assert loss.item() == pytest.approx(9 * 2e4)
    assert logits.grad.isfinite().all()


def test_the_loss_over_a_mix_is_the_same_with_and_without_them(monkeypatch):
    by_class = torch.tensor([0.5, 1.0, 2.0, 0.0])
    generator = torch.Generator().manual_seed(0)
    main, aux = (torch.randn(2, 4, *hw, generator=generator).requires_grad_() for hw in ((2, 3), (1, 2)))
    labels = torch.randint(0, 4, (2, 3, 4), generator=generator).to(torch.uint8)
    labels[1, 1:] = 255
    heads = (Aux(name="aux", logits=aux, weight=0.4, align_corners=False),)
    output, ids = TrainOutput(logits=main, size_hw=(3, 4), aux=heads), torch.tensor([1, 0])

    def loss_and_gradients():
        loss = mix_loss(output, labels, ids, (0.3, 0.7), class_weights=by_class)
        return loss.total, loss.means, *torch.autograd.grad(loss.total, (main, aux))

    lean = loss_and_gradients()
    monkeypatch.setattr("segstream.model.losses.pixel_loss.fusable", lambda logits: True)
    monkeypatch.setattr("segstream.model.losses.pixel_loss._PixelLosses", None)
    torch.testing.assert_close(loss_and_gradients(), lean)
