"""Pictures through a predictor: read ahead in threads, grouped by size, written in threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from segstream.cli.predictions import overlay
from segstream.cli.predictions.media import read_picture
from segstream.cli.predictions.output_folder import (
    Dump,
    Item,
    Predictions,
    read_label,
    write_label,
    write_picture,
    write_scores,
)
from segstream.colors import Rgb
from segstream.model.inference.infer import id_type
from segstream.model.inference.predictor import Predictor
from segstream.shards.errors import DataError
from segstream.shards.parallel import read_ahead

T = TypeVar("T")
AHEAD = 8  # pictures read, and results not yet written, at most
THREADS = 2  # for either; decoding and packing leave Python's lock
WAITING = 32  # pictures that wait for others of their size, at most
Ids = npt.NDArray[np.integer]


@dataclass(frozen=True, slots=True)
class Done:
    """What became of one input."""

    item: Item
    size_hw: tuple[int, int] | None = None
    shares: tuple[overlay.Present, ...] = ()
    frames: int | None = None
    """Of a video."""
    error: str | None = None
    skipped: bool = False

    def row(self) -> dict[str, Any]:
        """The JSON of `classes.json`."""
        row: dict[str, Any] = {"file": str(self.item.path)}
        if self.size_hw is not None:
            shares = {item.name: round(item.share, 6) for item in self.shares}
            row |= {"size_hw": list(self.size_hw), "classes": shares}
        row |= {} if self.frames is None else {"frames": self.frames}
        return row | ({} if self.error is None else {"error": self.error})


def pictures(
    predictor: Predictor, items: Sequence[Item], out: Predictions, *, resume: bool, done: Callable[[Done], None]
) -> None:
    """Segment pictures and write their outputs; finished ones are only counted.

    Args:
        resume: outputs in the folder are of this predictor.
        done: called for each input, in no particular order, from this thread; one that cannot be read has an error.

    Raises:
        DataError: an output cannot be written.
    """
    classes = predictor.taxonomy.classes
    left = []
    for item in items:
        if resume and out.finished(item):
            done(_recounted(item, out, classes))
        else:
            left.append(item)
    with ThreadPoolExecutor(THREADS) as readers, ThreadPoolExecutor(THREADS) as writers:
        readable = _readable(read_ahead(readers, _read, left, ahead=AHEAD), done)
        written: deque[Future[Done]] = deque()
        for group in grouped(readable, lambda pair: pair[1].shape[:2], predictor.at_once):
            images = [image for _, image in group]
            for (item, image), (ids, scores) in zip(group, segmented(predictor, images, out.wanted.dump), strict=True):
                written.append(writers.submit(_write, item, image, ids, scores, out, classes))
            while written and (len(written) > AHEAD or written[0].done()):
                done(written.popleft().result())
        for future in written:
            done(future.result())


def segmented(
    predictor: Predictor, images: Sequence[Rgb], dump: Dump | None
) -> list[tuple[Ids, npt.NDArray[np.float32] | None]]:
    """Ids and, if they are asked for, scores, from the same forward passes."""
    if dump is None:
        return [(ids, None) for ids in predictor(images)]
    results: list[tuple[Ids, npt.NDArray[np.float32] | None]] = []
    for logits in predictor.logits(images):
        ids = logits.argmax(axis=0).astype(id_type(len(logits)))
        results.append((ids, logits if dump == "logits" else _softmax(logits)))
    return results


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


def _read(item: Item) -> tuple[Item, Rgb | DataError]:
    try:
        return item, read_picture(item.path)
    except DataError as error:
        return item, error


def _readable(read: Iterable[tuple[Item, Rgb | DataError]], done: Callable[[Done], None]) -> Iterator[tuple[Item, Rgb]]:
    for item, image in read:
        if isinstance(image, DataError):
            done(Done(item, error=str(image)))
        else:
            yield item, image


def _write(
    item: Item,
    image: Rgb,
    ids: Ids,
    scores: npt.NDArray[np.float32] | None,
    out: Predictions,
    classes: Sequence[str],
) -> Done:
    if out.wanted.overlay:
        write_picture(out.overlay(item.name), overlay.draw(image, ids, classes))
    if scores is not None and out.wanted.dump is not None:
        write_scores(out.dump(item.name), scores, out.wanted.dump)
    write_label(out.label(item.name), ids)
    return Done(item, (ids.shape[0], ids.shape[1]), overlay.present(ids, classes))


def _recounted(item: Item, out: Predictions, classes: Sequence[str]) -> Done:
    ids = read_label(out.label(item.name))
    return Done(item, (ids.shape[0], ids.shape[1]), overlay.present(ids, classes), skipped=True)


def _softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    e: npt.NDArray[np.float32] = np.exp(logits - logits.max(axis=0))
    e /= e.sum(axis=0)
    return e
