import numpy as np
import pytest
import torch
from torch import nn

from segstream.model.config import CCSAConfig
from segstream.model.distributed import ProcessGroup
from segstream.model.losses.ccsa import ccsa_loss, contrastive_loss, draw_pairs, places
from segstream.model.networks.blocks import normalise
from segstream.shards.errors import DataError
from tests.model.toy import ToySource, run, toy_net

ALONE = ProcessGroup()


def batch(seed=0, num=5, size=(25, 33), low=(4, 5), channels=6):
    """Features at stride 8 and labels, of datasets 0, 1, 0, 2, 2."""
    generator = torch.Generator().manual_seed(seed)
    features = 0.3 * torch.randn(num, channels, *low, dtype=torch.float64, generator=generator)
    labels = torch.randint(0, 4, (num, *size), generator=generator).to(torch.uint8)
    labels[torch.rand(labels.shape, generator=generator) < 0.2] = 255
    return features, labels, torch.tensor([0, 1, 0, 2, 2])[:num]


def place(labels, at):
    """Image, row and column of a place, and its class."""
    b, y, x = at // 20, at % 20 // 5, at % 5
    return (b, y, x), int(labels[b, 8 * y, 8 * x])


def test_the_loss_is_the_formula_pair_by_pair():
    features, labels, ids = batch()
    config = CCSAConfig(positives=30, negatives_per_positive=2, margin=0.9)
    classes = torch.stack([labels[b, ::8, ::8] for b in range(5)]).flatten().long()
    pairs = draw_pairs(classes.numpy(), ids.repeat_interleave(20).numpy(), 30, 60, (7, 3))
    assert pairs.shape == (2, 90)
    plain, ours, terms = features.clone().requires_grad_(), features.clone().requires_grad_(), []
    for n, (i, j) in enumerate(pairs.T.tolist()):
        (b, y, x), class_i = place(labels, i)
        (b2, y2, x2), class_j = place(labels, j)
        assert ids[b] != ids[b2]
        assert 255 not in (class_i, class_j)
        assert (class_i == class_j) == (n < 30)
        squared = sum((plain[b, c, y, x] - plain[b2, c, y2, x2]) ** 2 for c in range(6))
        distance = torch.sqrt(torch.clamp(squared, min=1e-8))
        terms.append(distance**2 if class_i == class_j else torch.clamp(config.margin - distance, min=0) ** 2)
    expected = sum(terms) / 90
    got = ccsa_loss(ours, labels, ids, config, ALONE, (7, 3))
    torch.autograd.backward([expected, got])
    assert sum(t.item() > 0 for t in terms[30:]) > 10  # pairs of two classes nearer than the margin
    assert got.item() == pytest.approx(expected.item(), rel=1e-10)
    torch.testing.assert_close(ours.grad, plain.grad, rtol=1e-10, atol=1e-12)
    assert (ours.grad[labels[:, ::8, ::8].unsqueeze(1).expand_as(ours) == 255] == 0).all()


def test_pairs_are_drawn_as_by_rejection():
    """Dataset, image and place uniformly for each end; what does not fit is drawn again. By enumeration."""
    _, labels, ids = batch(seed=2)
    labels[1] = 255
    labels[1, 0, :17:8] = torch.tensor([1, 1, 2])  # a dataset with hardly a label
    classes, datasets = places(labels, (4, 5)).flatten(), ids.repeat_interleave(20)
    chance = 1 / (torch.bincount(ids)[datasets] * 20.0) * (classes != 255)
    both = torch.outer(chance, chance) * (datasets[:, None] != datasets)
    num = 40_000
    pairs = torch.from_numpy(draw_pairs(classes.numpy(), datasets.numpy(), num, num, (1, 2)))
    for drawn, fits in ((pairs[:, :num], classes[:, None] == classes), (pairs[:, num:], classes[:, None] != classes)):
        expected = num * both * fits / (both * fits).sum()
        got = torch.bincount(drawn[0] * 100 + drawn[1], minlength=10_000).view(100, 100)
        assert got[expected == 0].sum() == 0
        by_row = (got.sum(dim=1) - expected.sum(dim=1)).abs() / expected.sum(dim=1).clamp(min=1).sqrt()
        assert by_row.max() < 5
        assert ((got - expected) ** 2 / expected.clamp(min=1e-9))[expected > 0].mean() < 1.1  # 1 by chance


def test_pairs_are_a_function_of_their_key_and_none_are_made_up():
    classes, datasets = np.repeat([0, 1, 0, 255], 10), np.repeat([0, 0, 1, 2], 10)
    one, again, other = (draw_pairs(classes, datasets, 3, 9, key) for key in ((1, 2), (1, 2), (2, 1)))
    assert one.shape == (2, 12)
    assert one.tolist() == again.tolist() != other.tolist()
    for values, positives, negatives in (([0, 1, 2, 255], 0, 9), ([0, 255, 0, 255], 3, 0), ([5, 255, 255, 300], 0, 9)):
        assert draw_pairs(np.repeat(values, 10), datasets, 3, 9, (1, 2)).shape == (2, positives + negatives)
    features, labels, ids = batch()
    features.requires_grad_()
    nothing = ccsa_loss(features, torch.full_like(labels, 255), ids, CCSAConfig(), ALONE, (0, 0))
    nothing.backward()
    assert nothing.item() == 0
    assert features.grad.abs().max() == 0


@pytest.mark.parametrize(
    ("size", "low", "stride"), [((713, 473), (90, 60), 8), ((24, 41), (6, 11), 4), ((5, 9), (1, 2), 8)]
)
def test_a_place_has_the_class_of_the_pixel_it_is_centred_at(size, low, stride):
    labels = torch.arange(size[0] * size[1]).view(1, *size)
    assert torch.equal(places(labels, low), labels[:, ::stride, ::stride].flatten(1))


def test_distances_are_float32_whatever_the_features_are():
    features, labels, ids = batch()
    half = (features * 100).to(torch.bfloat16)
    config = CCSAConfig(margin=500.0)
    got, expected = (ccsa_loss(x, labels, ids, config, ALONE, (0, 0)) for x in (half, half.float()))
    assert got.dtype == torch.float32
    assert got.item() == expected.item()


def test_a_step_is_the_published_sum(tmp_path):
    """(1 - alpha) x cross-entropies + alpha x contrast, where the network's stride is 4."""
    config, rows = CCSAConfig(alpha=0.6, positives=20), []
    run(str(tmp_path), steps=1, ccsa=config, on_log=rows.append, net=without_dropout())
    (first,) = ToySource().batches(0, 1)
    output = without_dropout().train()(normalise(first.images))
    datasets = first.dataset_ids.repeat_interleave(36)
    classes = first.labels[:, ::4, ::4].flatten().long()
    pairs = torch.from_numpy(draw_pairs(classes.numpy(), datasets.numpy(), 20, 60, (3, 0)))
    ends = output.features.permute(0, 2, 3, 1).reshape(-1, output.features.shape[1])[pairs]
    contrast = contrastive_loss(ends, classes[pairs[0]] == classes[pairs[1]], 1.0)
    plain = sum(0.5 * loss for loss in rows[0].losses.values())
    assert rows[0].loss == pytest.approx(0.4 * plain + 0.6 * contrast.item(), rel=1e-5)


def without_dropout():
    net = toy_net()
    net.last_layer[2][1].p = 0.0
    return net


class Featureless(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = toy_net()

    def forward(self, images):
        output = self.net(images)
        return type(output)(logits=output.logits, size_hw=output.size_hw)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"source": ToySource(datasets=("left",), weights=(1.0,))},
            "train.ccsa: left is alone in the mix; add a dataset",
        ),
        ({"net": Featureless()}, "train.ccsa: this network hands out no features"),
    ],
)
def test_what_it_cannot_compare_is_said(tmp_path, changes, text):
    with pytest.raises(DataError, match=text):
        run(str(tmp_path), ccsa=CCSAConfig(), **changes)
