"""Networks of several predictions in the training loop: the first step's loss, spelt out."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, interpolate, one_hot

from segstream.model.config import TrainConfig
from segstream.model.device import normalise
from segstream.model.losses.rmi import region_losses
from segstream.model.networks.build import build
from segstream.model.training.trainer import train
from tests.model.networks.test_weights import NETS
from tests.model.toy import META, ToySource

HEADS = {"pspnet-50": {"aux": 0.4}, "hrnet-ocr": {"aux": 0.4}, "hmsa": {"aux": 0.4, "lo": 0.05, "hi": 0.05}}


@pytest.mark.parametrize("loss", ["ce", "rmi"])
@pytest.mark.parametrize("arch", HEADS)
def test_the_first_loss_of_a_run(tmp_path: Path, arch: str, loss: str) -> None:
    options = NETS[arch] | ({"scale_weight": 0.05} if arch == "hmsa" else {})
    net = build(arch, 3, **options)
    for module in net.modules():
        if isinstance(module, torch.nn.Dropout2d):
            module.p = 0.0
    source = ToySource(weights=(0.2, 0.8), size=40)
    batch = next(source.batches(0, 1))
    output = deepcopy(net).train()(normalise(batch.images))
    labels, labelled = batch.labels.long(), batch.labels != 255

    def full(logits, align_corners):
        return interpolate(logits.double(), size=(40, 40), mode="bilinear", align_corners=align_corners)

    def plain(logits, align_corners):
        total, z = 0.0, full(logits, align_corners)
        truth = one_hot(torch.where(labelled, labels, 0), 3).permute(0, 3, 1, 2).double()
        for d, weight in enumerate(source.weights):
            mine = batch.dataset_ids == d
            if loss == "ce":
                total += weight * cross_entropy(z[mine], labels[mine], ignore_index=255)
            else:
                by_class = binary_cross_entropy_with_logits(z[mine], truth[mine], reduction="none")
                total += weight * (by_class.sum(dim=1) * labelled[mine]).sum() / (labelled[mine].sum() + 1)
        return total

    expected = plain(output.logits, output.align_corners)
    if loss == "rmi":
        regions = region_losses(full(output.logits, output.align_corners), labels, (40, 40))
        expected = 0.5 * expected + 0.5 * sum(
            weight * regions[batch.dataset_ids == d].mean() for d, weight in enumerate(source.weights)
        )
    assert {aux.name: aux.weight for aux in output.aux} == HEADS[arch]
    expected += sum(aux.weight * plain(aux.logits, aux.align_corners) for aux in output.aux)

    rows = []
    config = TrainConfig(steps=1, lr=0.01, loss=loss, log_every=1, device="cpu", channels_last=False)
    train(net, source, config, str(tmp_path), meta=META, seed=1, on_log=rows.append)
    assert rows[0].loss == pytest.approx(expected.item(), rel=1e-5)
