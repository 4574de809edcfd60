"""A segmentation laid over its picture, for people: colours, names on the regions, a legend."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from segstream.colors import Rgb, class_colors

OPACITY = 0.55  # of the colours over the picture
DRAWN_SIDE = 720  # shorter side from which names are easy to read; smaller pictures are drawn enlarged,
ENLARGED = 4  # at most so many times
NAMED_SHARE = 0.01  # of the picture: smaller regions get no name, only their place in the legend
LEGEND_SHARE = 0.6  # of the picture's height
EDGE = (255, 255, 255)
Font = ImageFont.ImageFont | ImageFont.FreeTypeFont
Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


@dataclass(frozen=True, slots=True)
class Present:
    """A class that a label shows."""

    id: int
    name: str
    share: float
    """Of the pixels, 0..1."""


def present(label: npt.NDArray[np.integer], classes: Sequence[str]) -> tuple[Present, ...]:
    """The classes of a (H, W) label, the largest first."""
    return shares(np.bincount(label.ravel(), minlength=len(classes)), classes)


def shares(counts: npt.NDArray[np.integer], classes: Sequence[str]) -> tuple[Present, ...]:
    """The classes that occur, from the number of pixels by id, the largest first."""
    order = sorted(np.flatnonzero(counts).tolist(), key=lambda i: (-counts[i], i))
    return tuple(Present(i, classes[i], float(counts[i] / counts.sum())) for i in order)


def enlargement(size_hw: tuple[int, int]) -> int:
    """By how much a picture is enlarged to be drawn on."""
    return min(max(1, round(DRAWN_SIDE / min(size_hw))), ENLARGED)


def draw(image: Rgb, label: npt.NDArray[np.integer], classes: Sequence[str]) -> Rgb:
    """The picture with colours of its classes, their borders and names, and a legend.

    Args:
        image: (H, W, 3) uint8 RGB.
        label: (H, W) ids below the number of classes.

    Returns:
        (H * e, W * e, 3) uint8 RGB, e = `enlargement` of the size.
    """
    factor = enlargement((image.shape[0], image.shape[1]))
    if factor > 1:
        image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC).astype(np.uint8)
        label = label.repeat(factor, axis=0).repeat(factor, axis=1)
    colors = class_colors(classes)
    mixed = cv2.addWeighted(colors[label], OPACITY, image, 1 - OPACITY, 0).astype(np.uint8)
    mixed[_borders(label)] = EDGE
    shown = present(label, classes)
    picture = Image.fromarray(mixed)
    pen = ImageDraw.Draw(picture, "RGBA")
    font = ImageFont.load_default(size=min(max(image.shape[0] // 48, 11), 34))
    legend = _legend(pen, font, shown, colors, picture.size)
    for name, at in _places(label, shown):
        if not _overlap(pen.textbbox(at, name, font=font, anchor="mm"), legend):
            pen.text(at, name, font=font, fill="white", anchor="mm", stroke_width=2, stroke_fill="black")
    return np.asarray(picture)


def _borders(label: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
    """Pixels whose right or lower neighbour has another class."""
    edge = np.zeros(label.shape, bool)
    edge[:, :-1] |= label[:, :-1] != label[:, 1:]
    edge[:-1] |= label[:-1] != label[1:]
    return edge


def _places(label: npt.NDArray[np.integer], shown: Sequence[Present]) -> list[tuple[str, tuple[int, int]]]:
    """For each large region its name, and the (x, y) that is farthest from its border."""
    places = []
    least = NAMED_SHARE * label.size
    for item in shown:
        mask = (label == item.id).astype(np.uint8)
        if mask.sum() < least:
            continue
        count, regions, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
        for i in range(1, count):
            if stats[i, cv2.CC_STAT_AREA] >= least:
                padded = np.pad((regions == i).astype(np.uint8), 1)
                depth = cv2.distanceTransform(padded, cv2.DIST_L2, 3)
                y, x = np.unravel_index(int(depth.argmax()), depth.shape)
                places.append((item.name, (int(x) - 1, int(y) - 1)))
    return places


def _legend(pen: ImageDraw.ImageDraw, font: Font, shown: Sequence[Present], colors: Rgb, size: tuple[int, int]) -> Box:
    """A panel at the lower left: swatch, name and share, the largest class first. Gives its rectangle."""
    text_h = font.getbbox("Ag")[3]
    line, margin = round(text_h * 1.35), round(text_h * 0.5)
    room = max(1, int((LEGEND_SHARE * size[1] - 2 * margin) // line))
    rows: list[tuple[str, tuple[int, ...] | None]]
    rows = [(f"{item.name}  {_percent(item.share)}", tuple(colors[item.id].tolist())) for item in shown]
    if len(rows) > room:
        rows = [*rows[: room - 1], (f"and {len(rows) - room + 1} more", None)]
    width = 3 * margin + text_h + max(pen.textlength(text, font=font) for text, _ in rows)
    top = size[1] - margin - 2 * margin - line * len(rows)
    box = (margin, top, margin + width, size[1] - margin)
    pen.rounded_rectangle(box, radius=margin, fill=(0, 0, 0, 170))
    for i, (text, color) in enumerate(rows):
        y = top + margin + i * line
        if color is not None:
            pen.rectangle((2 * margin, y, 2 * margin + text_h, y + text_h), fill=color, outline="white")
        pen.text((3 * margin + text_h, y), text, font=font, fill="white")
    return box


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.1 else f"{share:.1%}" if share >= 0.001 else "<0.1%"


def _overlap(a: Box, b: Box) -> bool:
    return a[0] <= b[2] and b[0] <= a[2] and a[1] <= b[3] and b[1] <= a[3]
