"""Polygon annotations in Cityscapes' JSON format, as IDD uses it too: parsing, and pixels by Pillow's rules.

    {"imgHeight": 1080, "imgWidth": 1920, "objects": [
        {"label": "car", "id": 7, "deleted": 0, "polygon": [[x, y], ...]}, ...]}

Upstream draws with Pillow, so this does: vertices are cut to whole pixels, edges belong to the polygon.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from segstream.shards.codecs.images import check_size
from segstream.shards.errors import UnreadableError
from segstream.shards.schema import parse_json

_LEAST = 3  # vertices of an object that is drawn into a label map
_FAR = 1 << 20  # vertices beyond: Pillow walks outlines pixel by pixel, seen or not
_GROUP = "group"


@dataclass(frozen=True, slots=True)
class Polygon:
    """One object."""

    label: str
    points: npt.NDArray[np.float64]
    """(N, 2) x, y in pixels; N may be 0."""
    id: int | None
    deleted: bool


@dataclass(frozen=True, slots=True)
class Frame:
    """One annotated image."""

    size_hw: tuple[int, int]
    objects: tuple[Polygon, ...]
    """In drawing order: later ones lie on top."""


def parse_polygons(data: bytes) -> Frame:
    """Read a polygon JSON.

    Raises:
        UnreadableError: not such a file, or with sizes or vertices that cannot be.
    """
    try:
        content: Any = parse_json(data)
        size = (content["imgHeight"], content["imgWidth"])
        objects = tuple(_polygon(o, n) for n, o in enumerate(content["objects"]))
    except KeyError as error:
        raise UnreadableError(f"polygon JSON without {error}") from error
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise UnreadableError(f"not a polygon JSON ({error})") from error
    if not all(type(side) is int and side > 0 for side in size):
        raise UnreadableError(f"polygon JSON of a frame of {size[0]} x {size[1]} pixels")
    check_size(size)
    return Frame(size, objects)


def rasterise(frame: Frame, ids: Mapping[str, int], *, background: int) -> npt.NDArray[np.uint8]:
    """Draw all objects, in order, each over what is there.

    Deleted objects and those of fewer than 3 vertices are passed over; `cargroup` counts as `car` where no class has
    the longer name.

    Args:
        ids: id by label, 0 to 255.
        background: id of pixels without an object.

    Returns:
        (H, W) uint8.

    Raises:
        UnreadableError: labels without an id.
    """
    height, width = frame.size_hw
    canvas = Image.new("L", (width, height), background)
    draw = ImageDraw.Draw(canvas)
    unknown = set()
    for polygon in frame.objects:
        if polygon.deleted or len(polygon.points) < _LEAST:
            continue
        value = ids.get(polygon.label, ids.get(polygon.label.removesuffix(_GROUP)))
        if value is None:
            unknown.add(polygon.label)
        else:
            draw.polygon(polygon.points.ravel().tolist(), fill=value)
    if unknown:
        raise UnreadableError(f"polygons with labels {sorted(unknown)[:5]}, which no class has")
    return np.asarray(canvas)


def fill(frame: Frame, polygon: Polygon) -> npt.NDArray[np.bool_]:
    """Pixels of one object, whatever lies over it: filled, outline drawn; whether it is deleted is not looked at.

    Returns:
        (H, W) bool; nothing for an object without vertices.
    """
    height, width = frame.size_hw
    canvas = Image.new("1", (width, height))
    if len(polygon.points) > 1:
        draw, vertices = ImageDraw.Draw(canvas), polygon.points.ravel().tolist()
        draw.polygon(vertices, fill=1, outline=1)
        if len(set(polygon.points[:, 1].tolist())) == 1:  # flat: older Pillow draws nothing
            draw.line(vertices, fill=1)
    return np.asarray(canvas)


def object_masks(
    data: bytes, segments: Sequence[int], size_hw: tuple[int, int], *, by_id: bool
) -> Iterator[npt.NDArray[np.bool_]]:
    """Pixels of the objects that records of relabelling name.

    Args:
        segments: places in the file's list of objects; with `by_id` the objects' `id`, where they have one.

    Returns:
        (H, W) bool of the frame's size, which should be `size_hw`; nothing for an object that the file does not have.

    Raises:
        UnreadableError: not a polygon JSON.
    """
    frame = parse_polygons(data)
    objects: dict[int, Polygon] = {}
    for place, polygon in enumerate(frame.objects):
        objects.setdefault(polygon.id if by_id and polygon.id is not None else place, polygon)
    for segment in segments:
        found = objects.get(segment)
        yield np.zeros(frame.size_hw, np.bool_) if found is None else fill(frame, found)


def _polygon(raw: Any, index: int) -> Polygon:
    label, number, deleted = raw["label"], raw.get("id"), raw.get("deleted", 0)
    points = np.array(raw["polygon"] or np.empty((0, 2)), np.float64)
    if not isinstance(label, str) or not (number is None or type(number) is int) or deleted not in (0, 1):
        raise ValueError(f"object {index}: label {label!r}, id {number!r}, deleted {deleted!r}")
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"object {index}: vertices of shape {points.shape}, expected pairs of x and y")
    if not (np.abs(points) < _FAR).all():  # also false for NaN
        raise ValueError(f"object {index}: a vertex far outside the frame")
    return Polygon(label, points, number, bool(deleted))
