"""Every image is segmented once for all the ways in which it is evaluated, compared with its labels, counted."""

import dataclasses
import time
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from segstream.model.config import InferConfig
from segstream.model.distributed import ProcessGroup
from segstream.model.evaluation.metrics import Confusion, EvalResult, confusion, measure, unrelabel
from segstream.model.evaluation.protocol import RELABELED, Protocol
from segstream.model.evaluation.resume_log import SetLog, dense
from segstream.model.inference.infer import segment
from segstream.shards.errors import DataError
from segstream.shards.taxonomy import IGNORE_INDEX

Labels = Mapping[str, npt.NDArray[Any]]
"""An image's label maps by member, each (H, W) integers with 255 = ignored."""


class LabelledImages(typing.Protocol):
    """A data set; `pipeline.eval_images.EvalImages` is one."""

    url: str
    dataset: str
    split: str
    digest: str
    """Of all that it holds."""

    def __len__(self) -> int: ...

    def read(
        self, numbers: Iterable[int], members: Collection[str]
    ) -> Iterator[tuple[str, npt.NDArray[np.uint8], Labels]]:
        """Samples by number, in order: where each lies, for errors; its image (H, W, 3) RGB; labels of `members`."""


def evaluate(
    net: nn.Module,
    images: LabelledImages,
    protocols: Sequence[Protocol],
    configs: Sequence[InferConfig],
    *,
    samples: Sequence[int] | None = None,
    ranks: ProcessGroup | None = None,
    log: SetLog | None = None,
    report: Callable[[int, int], None] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> list[EvalResult]:
    """Evaluate a network on a data set. Each process of a run takes its share of the images; all get the same results.

    Args:
        net: in eval mode, on its device; maps normalised images to logits.
        protocols: how to evaluate.
        configs: how to segment, for each of which there is a result.
        samples: numbers of the images; None: all.
        log: images that are finished already, and where finished ones are noted.
        report: called with the number of images done, and of all.
        facts: fields of the results that tell about the model: `model`, `checkpoint`, `seed`.

    Returns:
        By protocol, by configuration.

    Raises:
        DataError: an image or label cannot be read or does not fit the protocol (names it), or no pixel is labelled and
            the rule leaves absent classes out.
    """
    ranks, report, start = ranks or ProcessGroup(), report or (lambda done, total: None), time.perf_counter()
    ways = [(protocol, config) for config in configs for protocol in protocols]
    samples, done = range(len(images)) if samples is None else samples, {} if log is None else log.done
    sizes = [(p.taxonomy.num_classes, p.taxonomy.num_classes + p.relabeled) for p, _ in ways]
    totals: list[Confusion] = [np.zeros(size, np.int64) for size in sizes]
    ious = np.zeros((len(ways), len(samples)))

    def count(sample: int, counts: Iterable[Confusion]) -> None:
        for n, (total, of_image, (protocol, _)) in enumerate(zip(totals, counts, ways, strict=True)):
            total += of_image
            ious[n, samples.index(sample)] = measure(of_image, protocol.counted, rule="hmsa")[0]["miou"]

    for i, noted in done.items() if ranks.is_main else ():
        count(i, map(dense, noted, sizes))
    left = [i for i in samples if i not in done]
    mine = left[ranks.rank :: ranks.world_size]
    members = dict.fromkeys(member for protocol in protocols for member in protocol.members)
    report(len(done), len(samples))
    for n, (i, sample) in enumerate(zip(mine, images.read(mine, members), strict=True), start=1):
        counts_of_image = [c for config in configs for c in image_confusion(net, *sample, protocols, config)]
        if log is not None:
            log.add(i, counts_of_image)
        count(i, counts_of_image)
        report(min(len(done) + n * ranks.world_size, len(samples)), len(samples))
    totals = [ranks.sum_(torch.from_numpy(total)).numpy() for total in totals]
    ious = ranks.sum_(torch.from_numpy(ious)).numpy()
    speed = len(left) / (time.perf_counter() - start) if left else None
    known = {name: getattr(images, name) for name in ("dataset", "split", "url")}
    known |= {"manifest": images.digest, "images": len(samples), "images_per_s": speed}
    try:
        found = [
            EvalResult.of(total, protocol, config, image_ious=of_images, **known, **(facts or {}))
            for (protocol, config), total, of_images in zip(ways, totals, ious, strict=True)
        ]
    except DataError as error:
        raise DataError(f"{images.url}: {error}") from error
    results = []
    for n in range(len(protocols)):
        of_sides = found[n :: len(protocols)]
        best = max(of_sides, key=lambda result: result.miou)
        results += [dataclasses.replace(result, max=result is best) for result in of_sides]
    return results


def image_confusion(
    net: nn.Module,
    where: str,
    image: npt.NDArray[np.uint8],
    labels: Labels,
    protocols: Sequence[Protocol],
    config: InferConfig,
) -> list[Confusion]:
    """Pixel counts of one image by every protocol, from the same forward passes.

    Args:
        net: in eval mode, on its device.
        where: names the sample in errors.
        image: (H, W, 3) RGB.
        labels: at least those that the protocols name.

    Raises:
        DataError: a label has another size than its image or an id that the taxonomy lacks, or the network's classes
            are not those that the protocol's projection leads from.
    """
    for protocol in protocols:
        num_classes, matrix = protocol.taxonomy.num_classes, protocol.projection
        if matrix is not None and len(matrix) != num_classes:
            raise DataError(f"the projection gives {len(matrix)} classes, the labels have {num_classes}")
        for name in protocol.members:
            check_label(where, image, labels[name], num_classes)
    counts = []
    try:
        (preds,) = segment(net, [image], [protocol.projection for protocol in protocols], config)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    for protocol, pred in zip(protocols, preds, strict=True):
        num_classes = protocol.taxonomy.num_classes
        if pred.max() >= num_classes:
            raise DataError(f"the network knows a class {pred.max()}, the labels have {num_classes}; give a projection")
        counts.append(confusion(*compared(protocol, labels, pred), num_classes, no_class=protocol.relabeled))
    return counts


def compared(protocol: Protocol, labels: Labels, pred: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """The (H, W) label and prediction that a protocol compares; where they differ and there is a label, it is wrong."""
    label = labels[protocol.label]
    return unrelabel(pred, label, labels[RELABELED])[::-1] if protocol.relabeled else (label, pred)


def check_label(where: str, image: npt.NDArray[Any], label: npt.NDArray[Any], num_classes: int) -> None:
    """Refuse a label map of another size than its image, or with ids other than 0 .. num_classes - 1 and 255.

    Raises:
        DataError: names `where`.
    """
    if image.shape[:2] != label.shape:
        (h, w), (label_h, label_w) = image.shape[:2], label.shape
        raise DataError(f"{where}: image is {h} x {w}, label {label_h} x {label_w}; convert the dataset again")
    wrong = (label != IGNORE_INDEX) & ((label < 0) | (label >= num_classes))
    if wrong.any():
        ids = np.unique(label[wrong])[:8].tolist()
        raise DataError(f"{where}: label holds ids {ids}, the taxonomy has {num_classes} classes; check which it is in")
