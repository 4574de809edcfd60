"""Confusion matrices as files: JSON with every count, and a picture of which class is taken for which."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from segstream.model.evaluation.metrics import Confusion, EvalResult
from segstream.shards.files import replacing, write_text

Font = ImageFont.ImageFont | ImageFont.FreeTypeFont
OTHERS = "(others)"
LARGEST, SIDE = 28, 1400  # pixels of a square, and of the whole matrix where there are many classes
WITH_NAMES, WITH_VALUES = 9, 20  # pixels of a square from which on names and values can be read
FAINT, FULL = np.array([255.0, 255.0, 255.0]), np.array([8.0, 48.0, 107.0])  # 0 % and 100 % of a row


def write_confusion(folder: Path, result: EvalResult) -> Path:
    """Write `DATASET_TAXONOMY_SIDE_SCALES.json` and `.png`; returns the path of the JSON.

    Of another split than val and test it is `DATASET-SPLIT_...`.

    The JSON holds `classes`, `counted` (ids), `rows` = label, `columns` = prediction, and `pixels`, the matrix; with
    relabelled labels it has one column more, for predictions that stand for no class.

    Raises:
        DataError: a file cannot be written.
    """
    assert result.protocol is not None
    assert result.confusion is not None
    classes, counted = result.protocol.taxonomy.classes, result.protocol.counted
    taxonomy = result.taxonomy + ("-relabeled" if result.relabeled else "")
    scales = "ss" if len(result.scales) == 1 else "ms"
    dataset = result.dataset + ("" if result.split in (None, "val", "test") else f"-{result.split}")
    path = folder / f"{dataset}_{taxonomy}_{result.side.replace(' ', '-')}_{scales}.json"
    about = ("dataset", "split", "taxonomy", "relabeled", "short_side", "side", "scales")
    content = {name: getattr(result, name) for name in about} | {
        "classes": classes,
        "counted": counted,
        "rows": "label",
        "columns": "prediction",
        "pixels": result.confusion.tolist(),
    }
    write_text(path, json.dumps(content) + "\n")
    with replacing(path.with_suffix(".png"), ending=".part.png") as part:
        Image.fromarray(plot(*shares(result.confusion, classes, counted))).save(part)
    return path


def shares(
    pixels: Confusion, classes: Sequence[str], counted: Sequence[int]
) -> tuple[npt.NDArray[np.float64], tuple[str, ...], tuple[str, ...]]:
    """What each counted class was taken for.

    Returns:
        (n, n) or (n, n + 1) shares of a row's labelled pixels in 0..1 (0 in rows without any), row names, column
        names; the last column holds predictions that do not count, if there are any.
    """
    names = tuple(classes[i] for i in counted)
    chosen = pixels[list(counted)]
    totals = chosen.sum(axis=1, keepdims=True)
    columns = chosen[:, list(counted)]
    others = totals - columns.sum(axis=1, keepdims=True)
    heads = names
    if others.any():
        columns, heads = np.hstack([columns, others]), (*names, OTHERS)
    return columns / np.maximum(totals, 1), names, heads


def plot(values: npt.NDArray[np.float64], rows: Sequence[str], columns: Sequence[str]) -> npt.NDArray[np.uint8]:
    """A heat map: dark where much of a row's class (left) was taken for a column's (top); percent where there is room.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    cell = max(4, min(LARGEST, SIDE // len(columns)))
    font = ImageFont.load_default(size=max(8, min(13, cell - 1)))
    left = top = 8
    if cell >= WITH_NAMES:
        left += int(max(font.getlength(name) for name in rows)) + 6
        top += int(max(font.getlength(name) for name in columns)) + 6
    shade = FAINT + np.sqrt(values)[..., None] * (FULL - FAINT)  # the root shows small shares
    cells = shade.round().astype(np.uint8).repeat(cell, axis=0).repeat(cell, axis=1)
    canvas = np.full((top + cells.shape[0] + 8, left + cells.shape[1] + 8, 3), 255, np.uint8)
    canvas[top : top + cells.shape[0], left : left + cells.shape[1]] = cells
    picture = Image.fromarray(canvas)
    pen = ImageDraw.Draw(picture)
    pen.rectangle((left - 1, top - 1, left + cells.shape[1], top + cells.shape[0]), outline="grey")
    if cell >= WITH_NAMES:
        for i, name in enumerate(rows):
            pen.text((left - 6, top + (i + 0.5) * cell), name, fill="black", font=font, anchor="rm")
        _upright(picture, columns, (left, top), cell, font)
    if cell >= WITH_VALUES:
        small = ImageFont.load_default(size=9)
        for i, j in zip(*np.nonzero(values >= 0.005), strict=True):
            fill = "white" if values[i, j] > 0.3 else "black"
            at = (left + (j + 0.5) * cell, top + (i + 0.5) * cell)
            pen.text(at, f"{100 * values[i, j]:.0f}", fill=fill, font=small, anchor="mm")
    return np.asarray(picture)


def _upright(picture: Image.Image, names: Sequence[str], corner: tuple[int, int], cell: int, font: Font) -> None:
    """Column names above the matrix, read from below."""
    left, top = corner
    strip = Image.new("RGB", (top - 6, cell * len(names)), "white")
    pen = ImageDraw.Draw(strip)
    for j, name in enumerate(names):
        pen.text((0, (j + 0.5) * cell), name, fill="black", font=font, anchor="lm")
    picture.paste(strip.transpose(Image.Transpose.ROTATE_90), (left, 0))
