import math
from functools import partial

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, interpolate, one_hot

from segstream.model.losses.loss import balance_weights, count_labels
from segstream.model.losses.pixel_loss import pixel_losses
from segstream.model.networks import upsample
from segstream.model.types import Aux, TrainOutput
from tests.model.losses.mix import mix_loss

binary_losses, relaxed_losses = (partial(pixel_losses, loss=loss) for loss in ("rmi", "relaxed"))


def numpy_loss(logits, labels, dataset_ids, weights):
    """The definition, in float64 loops, with the gradient by the full-resolution logits."""
    num, _, height, width = logits.shape
    losses = {d: [] for d in range(len(weights))}
    where = []
    for b in range(num):
        for y in range(height):
            for x in range(width):
                target = int(labels[b, y, x])
                if target == 255:
                    continue
                z = logits[b, :, y, x]
                top = z.max()
                log_sum = top + math.log(sum(math.exp(v - top) for v in z))
                losses[int(dataset_ids[b])].append(log_sum - z[target])
                where.append((b, y, x, target, log_sum))
    total = sum(w * (sum(losses[d]) / len(losses[d]) if losses[d] else 0.0) for d, w in enumerate(weights))
    grad = np.zeros_like(logits)
    for b, y, x, target, log_sum in where:
        share = weights[int(dataset_ids[b])] / len(losses[int(dataset_ids[b])])
        grad[b, :, y, x] = share * np.exp(logits[b, :, y, x] - log_sum)
        grad[b, target, y, x] -= share
    return total, grad


def literal_terms(loss, logits, labels):
    """(loss, weight) of every labelled pixel of an image, (K, H, W) float64 and (H, W): the published formulas."""
    _, height, width = logits.shape
    rows, p = labels.tolist(), logits.softmax(dim=0)
    counts = [sum(row.count(k) for row in rows) for k in range(len(p))]
    for y, x in ((y, x) for y in range(height) for x in range(width) if rows[y][x] != 255):
        if loss == "relaxed":
            near = {
                rows[v][u]
                for v in range(max(y - 1, 0), y + 2)
                for u in range(max(x - 1, 0), x + 2)
                if v < height and u < width
            }
            yield -sum(p[k, y, x] for k in near - {255}).log(), 1.0
        else:
            yield -p[rows[y][x], y, x].log(), 1.0 + 1.0 * (1 - counts[rows[y][x]] / sum(counts))


@pytest.mark.parametrize("loss", ["relaxed", "image_weighted"])
@pytest.mark.parametrize(("low_hw", "aligned"), [((5, 4), True), ((3, 5), False), ((9, 8), True)])
def test_other_losses_are_the_published_formulas_over_the_mix(loss, low_hw, aligned, monkeypatch):
    monkeypatch.setitem(upsample.STRIP_BYTES, "cpu", 4 * 6 * 8 * 2)  # two rows: several strips
    labels, ids, weights = labels_like((4, 9, 8), 6, seed=3), torch.tensor([1, 0, 1, 1]), (0.75, 0.25)
    labels[0], labels[1, :4], labels[1, 4:] = 255, 3, 1  # no label, and two halves
    plain = 2 * torch.randn(4, 6, *low_hw, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    plain, ours = plain.requires_grad_(), plain.clone().detach().requires_grad_()
    full = interpolate(plain, size=(9, 8), mode="bilinear", align_corners=aligned)
    terms = [list(literal_terms(loss, *image)) for image in zip(full, labels, strict=True)]
    of = [[term for b in range(4) if ids[b] == d for term in terms[b]] for d in (0, 1)]
    means = [sum(w * value for value, w in each) / sum(w for _, w in each) for each in of]
    expected = weights[0] * means[0] + weights[1] * means[1]
    got = mix_loss(TrainOutput(logits=ours, size_hw=(9, 8), align_corners=aligned), labels, ids, weights, loss=loss)
    torch.autograd.backward([expected, got.total])
    assert got.total.item() == pytest.approx(expected.item(), rel=1e-10)
    torch.testing.assert_close(ours.grad, plain.grad, rtol=1e-10, atol=1e-12)
    assert got.means.tolist() == pytest.approx([mean.item() for mean in means], rel=1e-10)
    if low_hw == (9, 8):
        assert ours.grad.permute(0, 2, 3, 1)[labels == 255].abs().max() == 0


def labels_like(shape, num_classes, *, seed, ignored=0.3):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, num_classes, shape, generator=generator)
    labels[torch.rand(shape, generator=generator) < ignored] = 255
    return labels.to(torch.uint8)


def test_the_mix_is_the_definition_in_value_and_gradient():
    logits = torch.randn(4, 5, 6, 7, generator=torch.Generator().manual_seed(0))
    labels = labels_like((4, 6, 7), 5, seed=1)
    labels[3, 1:] = 255  # few pixels of one image: its dataset keeps its weight
    ids, weights = torch.tensor([0, 1, 0, 1]), (0.75, 0.25)
    expected, expected_grad = numpy_loss(logits.double().numpy(), labels.numpy(), ids.numpy(), weights)
    logits.requires_grad_()
    got = mix_loss(TrainOutput(logits=logits, size_hw=(6, 7)), labels, ids, weights)
    got.total.backward()
    assert got.total.item() == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(logits.grad.numpy(), expected_grad, atol=1e-7)


BY_CLASS = torch.linspace(0.1, 3.0, 11)


@pytest.mark.parametrize("size_hw", [(33, 25), (30, 27), (9, 7), (9, 9), (5, 8), (1, 1), (1, 40)])
@pytest.mark.parametrize(
    ("losses", "spread", "by_class"),
    [*((pixel_losses, s, w) for s in (1.0, 300.0) for w in (None, BY_CLASS)), (binary_losses, 1.0, None)],
)
@pytest.mark.parametrize("align_corners", [True, False])
def test_pixel_losses_equal_the_plain_composition(losses, size_hw, spread, by_class, align_corners, monkeypatch):
    monkeypatch.setitem(upsample.STRIP_BYTES, "cpu", 4 * 11 * size_hw[1] * 4)  # four rows: several strips
    logits = torch.randn(3, 11, 9, 7, generator=torch.Generator().manual_seed(0)) * spread
    labels, scale = labels_like((3, *size_hw), 11, seed=2), torch.tensor([0.5, 2.0, -1.0])
    plain, lean, targets = logits.double().requires_grad_(), logits.clone().requires_grad_(), labels.long()
    upsampled = interpolate(plain, size=size_hw, mode="bilinear", align_corners=align_corners)
    if losses is pixel_losses:
        weight = None if by_class is None else by_class.double()
        expected = cross_entropy(upsampled, targets, weight, ignore_index=255, reduction="none").sum(dim=(1, 2))
        got = pixel_losses(lean, labels, size_hw, by_class, align_corners=align_corners)
    else:
        truth = one_hot(torch.where(targets == 255, 0, targets), 11).permute(0, 3, 1, 2).double()
        each = -(truth * upsampled.sigmoid().log() + (1 - truth) * (1 - upsampled.sigmoid()).log())
        expected = (each.sum(dim=1) * (targets != 255)).sum(dim=(1, 2))
        got = binary_losses(lean, labels, size_hw, align_corners=align_corners)
    torch.autograd.backward([(expected * scale).sum(), (got * scale).sum()])
    torch.testing.assert_close(got.double(), expected.detach(), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(lean.grad.double(), plain.grad, rtol=1e-5, atol=1e-5 * spread)


@pytest.mark.parametrize("losses", [pixel_losses, relaxed_losses])
def test_logits_far_apart_stay_finite(losses):
    logits = torch.zeros(1, 2, 2, 2)
    logits[0, 0, :, 0], logits[0, 1, :, 1] = 1e4, 1e4  # between them, both maxima are far above the values
    labels = torch.zeros(1, 5, 5, dtype=torch.uint8)
    logits.requires_grad_()
    sums = losses(logits, labels, (5, 5))
    sums.sum().backward()
    assert sums.item() == pytest.approx(5 * (math.log(2) + 5e3 + 1e4), rel=1e-6)
    assert logits.grad.isfinite().all()


def test_a_dataset_without_labels_contributes_nothing_and_the_others_keep_their_weight():
    logits = torch.randn(2, 3, 4, 4)
    labels = labels_like((2, 8, 8), 3, seed=4)
    labels[1] = 255
    output = TrainOutput(logits=logits, size_hw=(8, 8))
    alone = mix_loss(output, labels, torch.tensor([0, 1]), (1.0, 0.0)).total
    got = mix_loss(output, labels, torch.tensor([0, 1]), (0.25, 0.75))
    assert got.total.item() == pytest.approx(0.25 * alone.item(), rel=1e-6)
    assert math.isnan(got.means[1].item())


def test_balance_goes_by_the_share_of_a_class_and_keeps_the_average_pixel():
    shares = (0.64, 0.35999, 0.00001, 0.0)
    assert balance_weights(shares, 0, device=torch.device("cpu")) is None
    got = balance_weights(shares, 0.5, device=torch.device("cpu"))
    raw = [0.64**-0.5, 0.35999**-0.5, 100.0, 100.0]  # rarer than one pixel in 10,000 counts as that
    scale = sum(p * w for p, w in zip(shares, raw, strict=True))
    assert got.tolist() == pytest.approx([w / scale for w in raw])
    assert sum(p * w for p, w in zip(shares, got.tolist(), strict=True)) == pytest.approx(1.0)


@pytest.mark.parametrize("by_class", [None, torch.ones(3)])
def test_an_ignored_batch_has_zero_loss_and_zero_gradient(by_class):
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    labels = torch.full((2, 8, 8), 255, dtype=torch.uint8)
    output, ids = TrainOutput(logits=logits, size_hw=(8, 8)), torch.tensor([0, 0])
    got = mix_loss(output, labels, ids, (1.0,), class_weights=by_class)
    got.total.backward()
    assert got.total.item() == 0.0
    assert logits.grad.abs().max() == 0.0


def test_counts_add_up_over_parts_of_a_batch():
    labels, ids, by_class = labels_like((4, 8, 8), 3, seed=5), torch.tensor([0, 1, 1, 0]), torch.tensor([1.0, 2.0, 0.5])
    for weights in (None, by_class):
        parts = [count_labels(labels[h], ids[h], 3, weights) for h in (slice(None), [0, 1], [2, 3])]
        whole, *halves = (part.pixels for part in parts)
        each = torch.ones(3) if weights is None else weights
        expected = [sum(float(each[v]) for v in labels[ids == d].flatten().tolist() if v != 255) for d in range(3)]
        assert whole.tolist() == pytest.approx(expected)
        assert sum(halves).tolist() == whole.tolist()
        assert parts[0].images.tolist() == [2, 2, 0]


def test_ids_above_255_are_classes():
    """The naive taxonomy has 316 classes in int16 labels; 255 stays the ignored one."""
    logits = torch.randn(1, 316, 2, 2)
    labels = torch.tensor([[[300, 255], [256, 0]]], dtype=torch.int16)
    log_p = logits.double().log_softmax(dim=1)[0]
    expected = -(log_p[300, 0, 0] + log_p[256, 1, 0] + log_p[0, 1, 1])
    assert pixel_losses(logits, labels, (2, 2)).item() == pytest.approx(expected.item(), rel=1e-6)


def test_the_loss_stays_float32_under_autocast():
    logits = torch.randn(1, 8, 5, 5)
    labels = labels_like((1, 17, 17), 8, seed=6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = pixel_losses(logits, labels, (17, 17))
    assert got.item() == pytest.approx(pixel_losses(logits, labels, (17, 17)).item(), rel=1e-6)


@pytest.mark.parametrize("losses", [pixel_losses, binary_losses, relaxed_losses])
def test_gradients_are_those_of_finite_differences(losses):
    logits = torch.randn(2, 4, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3
    labels = labels_like((2, 7, 9), 3, seed=8)  # the fourth class is absent
    labels[1] = 255
    assert torch.autograd.gradcheck(lambda z: losses(z, labels, (7, 9)), logits.requires_grad_())


@pytest.mark.parametrize("by_class", [None, torch.tensor([0.2, 1.0, 3.0, 1.0, 0.5])])
def test_further_predictions_add_their_share(by_class):
    """Heads of the same labels at resolutions of their own, against plain cross-entropies summed by dataset."""
    generator = torch.Generator().manual_seed(1)
    main, aux, low, high = (torch.randn(3, 5, *hw, generator=generator) for hw in ((5, 6), (3, 4), (17, 19), (17, 19)))
    labels, ids, weights = labels_like((3, 17, 19), 5, seed=9), torch.tensor([1, 0, 1]), (0.25, 0.75)
    labels[0, 3:] = 255

    def plain(logits, align_corners=True):
        up = interpolate(logits.double(), size=(17, 19), mode="bilinear", align_corners=align_corners)
        weight = None if by_class is None else by_class.double()
        means = [cross_entropy(up[ids == d], labels[ids == d].long(), weight, ignore_index=255) for d in (0, 1)]
        return sum(w * mean for w, mean in zip(weights, means, strict=True))

    expected = plain(main, align_corners=False) + 0.4 * plain(aux) + 0.05 * (plain(low) + plain(high))
    low_high = [Aux(name=n, logits=x, weight=0.05, align_corners=False) for n, x in (("lo", low), ("hi", high))]
    heads = (Aux(name="aux", logits=aux, weight=0.4), *low_high)
    output = TrainOutput(logits=main, size_hw=(17, 19), aux=heads, align_corners=False)
    got = mix_loss(output, labels, ids, weights, class_weights=by_class)
    assert got.total.item() == pytest.approx(expected.item(), rel=1e-6)
    alone = TrainOutput(logits=main, size_hw=(17, 19), align_corners=False)
    assert got.means.tolist() == mix_loss(alone, labels, ids, weights, class_weights=by_class).means.tolist()
