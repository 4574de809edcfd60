"""A video through a predictor: every frame once, in order, at the source's rate."""

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from segstream.cli.console import Advance
from segstream.cli.predictions import overlay
from segstream.cli.predictions.media import Video, write_video
from segstream.cli.predictions.output_folder import IDENTITY, Item, OutputFolder, Row, newer, row_of, write_label
from segstream.cli.predictions.predict_images import AHEAD, THREADS
from segstream.colors import Rgb
from segstream.model.inference.infer import Ids, images_at_once
from segstream.model.inference.predictor import Predictor
from segstream.shards.errors import DataError
from segstream.shards.parallel import read_ahead

DIGITS = 6  # of a frame's number in its label's name


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
    partial = out.overlay(item.name, ".partial.mp4")
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
                        write_label(out.label(f"{item.name}/{done:0{DIGITS}d}"), ids)
                    yield image, ids
                    done += 1
                    report(done, max(video.count or 0, done))

    if out.with_overlays:
        factor = overlay.enlargement(video.size_hw)
        drawn_hw = (video.size_hw[0] * factor, video.size_hw[1] * factor)
        with write_video(partial, drawn_hw, video.rate) as write, ThreadPoolExecutor(THREADS) as pool:
            for drawn in read_ahead(pool, lambda pair: overlay.draw(*pair, classes), segmented(), ahead=AHEAD):
                write(drawn)
        if error is None:
            partial.replace(out.overlay(item.name, ".mp4"))
    else:
        for _ in segmented():
            pass
    row = row_of(item, video.size_hw, counts, classes) | {"frames": done}
    return row if error is None else row | {"error": error}


def finished(item: Item, out: OutputFolder, row: Row, *, frame_labels: bool) -> bool:
    """Whether a video whose row of `classes.json` is known has all outputs, none older than itself."""
    if "error" in row or "frames" not in row:
        return False
    paths = [out.overlay(item.name, ".mp4")] if out.with_overlays else []
    paths += [out.label(f"{item.name}/{i:0{DIGITS}d}") for i in range(row["frames"])] if frame_labels else []
    return bool(paths) and newer(paths, Path(item.path), out.root / IDENTITY)
