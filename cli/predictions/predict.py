"""Through a predictor: pictures, read ahead in threads, grouped by size, written in threads; and videos.

A video goes through frame by frame, each once, in order, at the source's rate.
"""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from segstream.cli.console import Advance
from segstream.cli.predictions import output_folder, overlay
from segstream.cli.predictions.media import Video, read_picture, write_video
from segstream.cli.predictions.output_folder import IDENTITY, Item, OutputFolder, Row
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
DIGITS = 6  # of a frame's number in its label's name


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


def predict_video(
    predictor: Predictor, video: Video, item: Item, out: OutputFolder, *, frame_labels: bool, report: Advance
) -> Row:
    """Segment a video whole; what an interrupted call left is made again.

    Args:
        frame_labels: also `labels/NAME/000000.png`, one for each frame, counted from 0.

    Returns:
        Its row of `classes.json`: shares of classes over all frames. Of a video that is cut short or damaged also the
        error, which says at which frame; what came before it is in `overlays/NAME.partial.mp4`.

    Raises:
        DataError: an output cannot be written.
    """
    classes = predictor.taxonomy.classes
    counts = np.zeros(len(classes), np.int64)
    unfinished = out.overlay(item.name, ".partial.mp4")
    done, error = 0, None

    def frames() -> Iterator[Rgb]:
        """Up to the first that is missing; what is wrong with it is kept, so that the result can be finished."""
        nonlocal error
        try:
            yield from video.frames()
        except DataError as found:
            error = str(found)

    def segmented() -> Iterator[tuple[Rgb, Ids]]:
        """Frames with their ids; the next group is decoded while one is on the device."""
        nonlocal done
        source, at_once = frames(), images_at_once(video.size_hw, predictor.config)
        with ThreadPoolExecutor(1) as pool:
            groups = read_ahead(pool, lambda _: list(itertools.islice(source, at_once)), itertools.count(), ahead=1)
            for group in itertools.takewhile(bool, groups):
                for image, ids in zip(group, predictor(group), strict=True):
                    counts[:] += np.bincount(ids.ravel(), minlength=len(classes))
                    if frame_labels:
                        output_folder.write_label(out.label(f"{item.name}/{done:0{DIGITS}d}"), ids)
                    yield image, ids
                    done += 1
                    report(done, max(video.count or 0, done))

    if out.with_overlays:
        factor = overlay.enlargement(video.size_hw)
        drawn_hw = (video.size_hw[0] * factor, video.size_hw[1] * factor)
        with write_video(unfinished, drawn_hw, video.rate) as write, ThreadPoolExecutor(THREADS) as pool:
            for drawn in read_ahead(pool, lambda pair: overlay.draw(*pair, classes), segmented(), ahead=AHEAD):
                write(drawn)
        if error is None:
            unfinished.replace(out.overlay(item.name, ".mp4"))
    else:
        for _ in segmented():
            pass
    row = output_folder.row_of(item, video.size_hw, counts, classes) | {"frames": done}
    return row if error is None else row | {"error": error}


def finished(item: Item, out: OutputFolder, row: Row, *, frame_labels: bool) -> bool:
    """Whether a video whose row of `classes.json` is known has all outputs, none older than itself."""
    if "error" in row or "frames" not in row:
        return False
    paths = [out.overlay(item.name, ".mp4")] if out.with_overlays else []
    paths += [out.label(f"{item.name}/{i:0{DIGITS}d}") for i in range(row["frames"])] if frame_labels else []
    return bool(paths) and output_folder.newer(paths, Path(item.path), out.root / IDENTITY)
