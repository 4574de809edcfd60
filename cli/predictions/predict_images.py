"""Pictures through a predictor: read ahead in threads, grouped by size, written in threads."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from segstream.cli.predictions import output_folder, overlay
from segstream.cli.predictions.media import read_picture
from segstream.cli.predictions.output_folder import Item, OutputFolder, Row
from segstream.colors import Rgb
from segstream.model.inference.ensemble import LARGEST_16_BIT, as_uint16
from segstream.model.inference.infer import Ids, Views, by_scale, id_type, images_at_once, softmax
from segstream.model.inference.predictor import Predictor
from segstream.shards.errors import DataError
from segstream.shards.parallel import read_ahead
from segstream.shards.taxonomy import IGNORE_INDEX

T = TypeVar("T")
Scores = npt.NDArray[np.float32]
Segmented = tuple[Ids, Scores | None, Ids | None]
AHEAD = 8  # pictures read, and results not yet written, at most
THREADS = 2  # for either; decoding and packing leave Python's lock
WAITING = 32  # pictures that wait for others of their size, at most


def predict_images(predictor: Predictor, items: Iterable[Item], out: OutputFolder) -> Iterator[tuple[Item, Row]]:
    """Segment pictures and write their outputs.

    Returns:
        Each input with its row of `classes.json`, in no particular order; one that cannot be read or segmented has an
        error.

    Raises:
        DataError: an output cannot be written.
    """
    classes = predictor.taxonomy.classes
    written: deque[Future[tuple[Item, Row]]] = deque()
    with ThreadPoolExecutor(THREADS) as readers, ThreadPoolExecutor(THREADS) as writers:

        def failed(item: Item, error: DataError) -> None:
            written.append(writers.submit(lambda *pair: pair, item, {"file": str(item.path), "error": str(error)}))

        def readable() -> Iterator[tuple[Item, Rgb]]:
            for item, image in read_ahead(readers, _read, items, ahead=AHEAD):
                if isinstance(image, DataError):
                    failed(item, image)
                else:
                    yield item, image

        at_once = partial(images_at_once, config=predictor.config)
        for group in grouped(readable(), lambda pair: pair[1].shape[:2], at_once):
            try:
                for pair, result in zip(group, _segmented(predictor, [image for _, image in group], out), strict=True):
                    seen = (
                        by_scale(predictor.net, pair[1], predictor.projection, predictor.config) if out.scales else {}
                    )
                    written.append(writers.submit(_write, *pair, result, seen, out, classes))
            except DataError as error:  # before the first: they are of one size
                for item, _ in group:
                    failed(item, DataError(f"{item.path}: {error}"))
            while written and (len(written) > AHEAD or written[0].done()):
                yield written.popleft().result()
        for future in written:
            yield future.result()


def grouped(
    items: Iterable[T], size_of: Callable[[T], tuple[int, int]], at_once: Callable[[tuple[int, int]], int]
) -> Iterator[list[T]]:
    """Items of one size together, as many as are wanted at once; the size with most waiting goes when all are many."""
    waiting: dict[tuple[int, int], list[T]] = {}
    for item in items:
        size = size_of(item)
        waiting.setdefault(size, []).append(item)
        if len(waiting[size]) >= at_once(size):
            yield waiting.pop(size)
        elif sum(map(len, waiting.values())) >= WAITING:
            yield waiting.pop(max(waiting, key=lambda key: len(waiting[key])))
    yield from waiting.values()


def _segmented(predictor: Predictor, images: Sequence[Rgb], out: OutputFolder) -> Iterator[Segmented]:
    """Ids and, if they are asked for, scores and confidences of 16 bits, from the same forward passes."""
    unsure = out.with_confidences or out.threshold > 0
    if out.dump is None and not unsure:
        yield from ((ids, None, None) for ids in predictor(images))
        return
    for logits in predictor.logits(images):
        ids = logits.argmax(axis=0).astype(id_type(len(logits)))
        shares = softmax(logits) if unsure or out.dump == "probabilities" else None
        scores = {"logits": logits, "probabilities": shares, None: None}[out.dump]
        yield ids, scores, as_uint16(shares.max(axis=0)) if unsure and shares is not None else None


def _read(item: Item) -> tuple[Item, Rgb | DataError]:
    try:
        return item, item.read() if item.read else read_picture(Path(item.path))
    except DataError as error:
        return item, error


def _write(
    item: Item, image: Rgb, found: Segmented, seen: Views, out: OutputFolder, classes: Sequence[str]
) -> tuple[Item, Row]:
    ids, scores, confidences = found
    for scale, (of_scale, attention) in seen.items():
        grey, colored = out.at_scale(item.name, scale)
        output_folder.write_label(grey, (attention * 255).round().astype(np.uint8))
        output_folder.write_picture(colored, overlay.draw(image, of_scale, classes))
    if out.with_overlays:
        output_folder.write_picture(out.overlay(item.name), overlay.draw(image, ids, classes))
    if scores is not None and out.dump is not None:
        output_folder.write_scores(out.scores(item.name), scores, out.dump)
    if confidences is not None:
        if out.with_confidences:
            output_folder.write_label(out.confidence(item.name), confidences)
        ids[confidences / LARGEST_16_BIT < out.threshold] = IGNORE_INDEX  # as conversion reads them
    output_folder.write_label(out.label(item.name), ids)
    return item, output_folder.row_of_label(item, ids, classes)
