"""Contrastive semantic alignment: the same class looks alike in all datasets, different classes do not.

    loss = mean over pairs of  y d^2 + (1 - y) max(margin - d, 0)^2,    d = sqrt(max(sum of (a - b)^2, 1e-8))

a and b are the backbone's features at two places of the batch that lie in different datasets; y = 1 if both have the
same class. A place's class is that of the pixel that its features are centred at: of every s-th row and column of the
labels, where s is the network's stride, a power of 2.

Pairs are what drawing dataset, image and place uniformly, each end by itself, and rejecting what does not fit gives: so
many of one class, so many of two; none of what the batch does not hold. They are drawn with replacement, from the
global batch, as a function of (seed, step): two processes compare the pairs of one.

Two things differ from the code that MSeg's authors compared with. There, distances (N, 1) and classes (N,) are combined
to N x N terms, so that the loss depends only on how many pairs are of one class, not on which are; here a pair has its
own class, as the formula says. There, unlabelled places form pairs of one class with each other; here they form none.

Source: Motiian et al., "Unified Deep Supervised Domain Adaptation and Generalization", ICCV 2017.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from segstream.model.config import CCSAConfig
from segstream.model.distributed import ProcessGroup
from segstream.model.networks.upsample import at_least_float32
from segstream.shards.errors import DataError
from segstream.shards.taxonomy import IGNORE_INDEX

Ints = npt.NDArray[np.int64]
LEAST = 1e-8  # squared distance, so that its root has a gradient


def ccsa_loss(
    features: Tensor | None,
    labels: Tensor,
    dataset_ids: Tensor,
    config: CCSAConfig,
    group: ProcessGroup,
    key: tuple[int, int],
) -> Tensor:
    """This process' part of the contrastive loss of the global batch, a scalar to differentiate.

    Summed over processes, values and gradients are those of the whole; its value counts on rank 0 alone.

    Args:
        features: (B, C, h, w) of any float type; compared in float32 (float64 stays).
        labels: (B, H, W) integer class ids, 255 = ignored, on the CPU.
        dataset_ids: (B,) int64, on the CPU. Process r of R has the samples r, r + R, ... of the global batch.
        config: how many pairs, and the margin.
        group: the processes, all of which make this call.
        key: seed and step.

    Raises:
        DataError: there are no features.
    """
    if features is None:
        raise DataError("train.ccsa: this network hands out no features that could be compared; leave ccsa out")
    num_places = features.shape[2] * features.shape[3]
    classes = gathered(places(labels, (features.shape[2], features.shape[3])), group).flatten()
    datasets = gathered(dataset_ids, group).repeat_interleave(num_places)
    negatives = config.positives * config.negatives_per_positive
    pairs = draw_pairs(classes.numpy(), datasets.numpy(), config.positives, negatives, key)
    ends = embeddings(features, pairs.flatten(), group).view(*pairs.shape, features.shape[1])
    first, second = classes[torch.from_numpy(pairs)]
    value = contrastive_loss(ends, (first == second).to(features.device), config.margin)
    return value if group.is_main else value - value.detach()


def places(labels: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Classes (B, h * w) int64 of the places of features of size (h, w), from labels (B, H, W)."""
    rows, columns = (
        (torch.arange(low) << (-(-high // low) - 1).bit_length()).clamp(max=high - 1)
        for low, high in zip(size_hw, labels.shape[1:], strict=True)
    )
    return labels[:, rows][:, :, columns].long().flatten(1)


def gathered(rows: Tensor, group: ProcessGroup) -> Tensor:
    """All processes' rows of integers, on the CPU, in the order of the global batch."""
    whole = rows.new_zeros(int(group.sum_(torch.tensor(len(rows)))), *rows.shape[1:])
    whole[group.rank :: group.world_size] = rows
    return group.sum_(whole)


def draw_pairs(classes: Ints, datasets: Ints, positives: int, negatives: int, key: tuple[int, int]) -> Ints:
    """Places of different datasets, (2, N): so many pairs of one class, then so many of two.

    Args:
        classes: (P,) of all places of a batch, 255 = none. Every image has as many places as any other.
        datasets: (P,) which each place is of.
        positives: pairs of one class; none if there is none.
        negatives: pairs of two classes; likewise.
        key: of the random numbers.
    """
    sizes = np.maximum(np.bincount(datasets), 1)[:, None]
    num, last = len(sizes), int(classes.max(initial=0)) + 1
    code = datasets * (last + 1) + np.where(classes == IGNORE_INDEX, last, classes)
    code = code.astype(np.min_scalar_type(num * (last + 1)))  # small integers are sorted faster
    by_class = np.argsort(code, kind="stable")  # places by dataset, then class, unlabelled ones last
    counts = np.bincount(code, minlength=num * (last + 1)).reshape(num, -1)
    starts = np.cumsum(counts).reshape(num, -1) - counts
    counts[:, last] = 0
    others = 1.0 - np.eye(num)
    # Raw words of Philox are fixed by its definition, whatever the numpy version.
    words = np.random.Philox(np.random.SeedSequence(key)).random_raw((4, positives + negatives))
    uniform = np.split((words >> np.uint64(11)) * 2.0**-53, [positives], axis=1)
    drawn = [np.zeros((2, 0), np.int64)]
    for alike, (a, b, c, d) in zip((True, False), uniform, strict=True):
        fitting = counts if alike else counts.sum(axis=1, keepdims=True) - counts  # places for the second end
        upto = np.cumsum(counts / sizes * (others @ (fitting / sizes)))
        if not upto[-1] > 0:
            continue
        first = np.divmod(np.searchsorted(upto, a * upto[-1], side="right"), last + 1)
        upto = np.cumsum((fitting / sizes)[:, first[1]].T * others[first[0]], axis=1)  # (N, D)
        second = (upto <= (b * upto[:, -1])[:, None]).sum(axis=1), first[1]
        far = starts[second] if alike else starts[second[0], 0]
        far = far + (d * fitting[second]).astype(np.int64)
        far += 0 if alike else (far >= starts[second]) * counts[second]
        drawn.append(by_class[np.stack([starts[first] + (c * counts[first]).astype(np.int64), far])])
    return np.concatenate(drawn, axis=1)


def embeddings(features: Tensor, at: Ints, group: ProcessGroup) -> Tensor:
    """Features at places of the global batch, (N, C), on every process; gradients reach those that are its own."""
    _, channels, height, width = features.shape
    slot, place = np.divmod(at, height * width)
    mine = np.flatnonzero(slot % group.world_size == group.rank)
    own = torch.from_numpy(slot[mine] // group.world_size * (height * width) + place[mine]).to(features.device)
    rows = features.permute(0, 2, 3, 1).reshape(-1, channels)
    found = at_least_float32(rows.index_select(0, own))
    part = found.new_zeros(len(at), channels).index_copy(0, torch.from_numpy(mine).to(features.device), found)
    return group.sum_(part.detach().clone()) + (part - part.detach())


def contrastive_loss(ends: Tensor, alike: Tensor, margin: float) -> Tensor:
    """Mean over N pairs (2, N, C), of which `alike`, (N,) bool, are of one class; 0 without pairs."""
    squared = (ends[0] - ends[1]).square().sum(dim=1).clamp(min=LEAST)
    apart = (margin - squared.sqrt()).clamp(min=0).square()
    return torch.where(alike, squared, apart).sum() / max(len(alike), 1)
