import math

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from segstream.model.losses.loss import count_labels
from segstream.model.losses.rmi import region_losses
from segstream.model.types import Aux, TrainOutput
from segstream.shards.errors import DataError
from tests.model.losses.mix import mix_loss


def pooled(plane):
    """Means over 4 x 4 cells of a plane with two zeros around it; what does not fill a cell is left out."""
    height, width = plane.shape
    wide = np.zeros((height + 4, width + 4))
    wide[2:-2, 2:-2] = plane
    rows, columns = range(height // 4 + 1), range(width // 4 + 1)
    return np.array([[wide[4 * y : 4 * y + 4, 4 * x : 4 * x + 4].mean() for x in columns] for y in rows])


def neighbourhoods(cells):
    rows, columns = (range(side - 2) for side in cells.shape)
    points = np.array([cells[y : y + 3, x : x + 3].ravel() for y in rows for x in columns])
    return points - points.mean(axis=0)


def slow_region_loss(logits_KHW, labels_HW):
    total = 0.0
    for c, z in enumerate(logits_KHW):
        truth = neighbourhoods(pooled((labels_HW == c) & (labels_HW != 255)))
        belief = neighbourhoods(pooled(np.where(labels_HW != 255, 1 / (1 + np.exp(-z)), 0.0) + 1e-6))
        ridge = 5e-4 * np.eye(9)
        cross = truth.T @ belief
        left = truth.T @ truth - cross @ np.linalg.inv(belief.T @ belief + ridge) @ cross.T
        factors = np.diag(np.linalg.cholesky(left + ridge)) + 1e-8
        total += 0.5 * 2 * sum(math.log(f) for f in factors) / 9
    return total


def slow_binary_loss(logits_KHW, labels_HW):
    """Sum over labelled pixels and classes."""
    total = 0.0
    for y, x in np.argwhere(labels_HW != 255):
        for c, z in enumerate(logits_KHW[:, y, x]):
            total += math.log1p(math.exp(-abs(z))) + max(z, 0.0) - (z if c == labels_HW[y, x] else 0.0)
    return total


def sample(size_hw=(21, 30), low_hw=(6, 8), *, num=3, classes=5, dtype=torch.float32):
    """Patches of 4 classes (the last is absent) with an ignored corner, and logits that half know them."""
    generator = torch.Generator().manual_seed(0)
    height, width = size_hw
    patches = torch.randint(0, classes - 1, (num, height // 5 + 1, width // 5 + 1), generator=generator)
    labels = patches.repeat_interleave(5, 1).repeat_interleave(5, 2)[:, :height, :width].clone()
    labels[:, : height // 3, : width // 4] = 255
    logits = torch.randn(num, classes, *low_hw, generator=generator).to(dtype)
    return logits, labels.to(torch.uint8)


def full(logits, size_hw, align_corners=True):
    return interpolate(logits.double(), size=size_hw, mode="bilinear", align_corners=align_corners).numpy()


@pytest.mark.parametrize("align_corners", [True, False])
def test_regions_equal_the_definition(align_corners):
    logits, labels = sample()
    planes = full(logits, (21, 30), align_corners)
    expected = [slow_region_loss(z, y) for z, y in zip(planes, labels.numpy(), strict=True)]
    got = region_losses(logits, labels, (21, 30), align_corners=align_corners)
    assert got.tolist() == pytest.approx(expected, rel=1e-5)


def test_the_gradient_is_that_of_finite_differences():
    logits, labels = sample((13, 17), (4, 5), num=2, classes=3, dtype=torch.float64)
    regions = lambda z: region_losses(z, labels, (13, 17))  # noqa: E731
    assert torch.autograd.gradcheck(regions, logits.requires_grad_(), eps=1e-6, atol=1e-5, fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_changes_nothing(dtype):
    logits, labels = sample()
    expected = region_losses(logits, labels, (21, 30))
    with torch.autocast("cpu", dtype=dtype):
        got = region_losses(logits, labels, (21, 30))
    assert got.dtype == torch.float32
    assert got.tolist() == expected.tolist()
    logits[1, 2, 3, 3] = torch.nan
    assert region_losses(logits, labels, (21, 30)).isnan().tolist() == [False, True, False]  # and no exception


@pytest.mark.parametrize("aux_rmi", [False, True])
def test_the_loss_over_a_mix_is_the_definition(aux_rmi):
    """By dataset: half the regions' mean over images, half the binary loss by pixel; further predictions the latter,
    auxiliary heads as the main one if asked."""
    logits, labels = sample(num=4)
    further, _ = sample(num=4, low_hw=(21, 30))
    further = further.flip(0)
    labels[3] = 255  # an image without a label, of a dataset that has labels
    labels[2, 5:] = 255
    ids, weights = torch.tensor([0, 1, 1, 0]), (0.7, 0.3)
    expected = 0.0
    for d, weight in enumerate(weights):
        mine = [b for b in range(4) if ids[b] == d]
        pixels = int((labels[mine] != 255).sum())
        main, aux = (
            sum(slow_binary_loss(z[b], labels[b].numpy()) for b in mine) / (pixels + 1)
            for z in (full(logits, (21, 30)), further.double().numpy())
        )
        regions = sum(slow_region_loss(full(logits, (21, 30))[b], labels[b].numpy()) for b in mine) / len(mine)
        expected += weight * (0.5 * main + 0.5 * regions + 0.05 * aux)
        if aux_rmi:
            of = (slow_region_loss(further.double().numpy()[b], labels[b].numpy()) for b in mine)
            aux = 0.5 * aux + 0.5 * sum(of) / len(mine)
        expected += weight * 0.4 * aux
    heads = (Aux(name="aux", logits=further, weight=0.4), Aux(name="hi", logits=further, weight=0.05))
    output = TrainOutput(logits=logits, size_hw=(21, 30), aux=heads)
    got = mix_loss(output, labels, ids, weights, loss="rmi", aux_rmi=aux_rmi)
    assert got.total.item() == pytest.approx(expected, rel=1e-5)
    assert got.means.isfinite().all()


def test_halves_of_a_batch_add_up_to_it():
    logits, labels = sample(num=4)
    ids, weights = torch.tensor([0, 1, 1, 0]), (0.4, 0.6)

    def loss(part):
        output = TrainOutput(logits=logits[part], size_hw=(21, 30))
        global_counts = count_labels(labels, ids, 2)
        return mix_loss(output, labels[part], ids[part], weights, loss="rmi", global_counts=global_counts)

    halves = [loss(slice(0, 2)), loss(slice(2, 4))]
    whole = loss(slice(None))
    torch.testing.assert_close(halves[0].means + halves[1].means, whole.means)
    assert sum(half.total.item() for half in halves) == pytest.approx(whole.total.item(), rel=1e-5)


def test_a_batch_without_labels_has_no_loss_and_no_gradient():
    logits, labels = sample()
    logits.requires_grad_()
    output = TrainOutput(logits=logits, size_hw=(21, 30), aux=(Aux(name="lo", logits=logits, weight=0.05),))
    got = mix_loss(output, torch.full_like(labels, 255), torch.zeros(3, dtype=torch.int64), (1.0,), loss="rmi")
    got.total.backward()
    assert got.total.item() == 0.0
    assert logits.grad.abs().max().item() == 0.0
    assert math.isnan(got.means.item())


def test_what_it_cannot_do_is_said():
    logits, labels = sample((7, 30))
    with pytest.raises(DataError, match="7 x 30 pixels; its regions have 8"):
        region_losses(logits, labels, (7, 30))
    output = TrainOutput(logits=logits, size_hw=(7, 30))
    with pytest.raises(ValueError, match="no class weights"):
        mix_loss(output, labels, torch.zeros(3).long(), (1.0,), loss="rmi", class_weights=torch.ones(5))
