"""What scenes are painted on: an image and, under the same brush, a map of what is where.

Coordinates are output pixels, x right and y down; space is in metres, X right, Y up from the ground, Z ahead.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from segstream.shards.synthetic.textures import TILE, Colour, Material, blend, render, render_at

SUPERSAMPLE = 2  # drawn this much larger, then averaged: soft edges at the price of one resize
NEAR = 0.3  # metres; nothing is projected from nearer
_FARTHEST = 2**24  # sixteenths of a pixel: corners beyond are pulled in, OpenCV's integers end there
VOID = "void"  # what no class names: the rest of the car, a dataset's missing classes

Point = tuple[float, float]
Spot = tuple[float, float, float]
"""A place in space, (X, Y, Z) metres."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A finished picture with its truth."""

    image: npt.NDArray[np.uint8]
    """(H, W, 3) RGB."""
    segments: npt.NDArray[np.int32]
    """(H, W) segment numbers, positions in `concepts`."""
    concepts: tuple[str, ...]
    """By segment: `universal class` or `universal class/variant`, or VOID."""
    objects: tuple[int, ...]
    """By segment: number of the object it is a part of."""


@dataclass(frozen=True, slots=True)
class Camera:
    """A level pinhole camera; looking up or down is a shift of the horizon."""

    focal: float
    centre: float
    horizon: float
    height: float

    def project(self, spot: Spot) -> Point:
        """Pixel of a place in space; what lies behind the camera is pulled to just before it."""
        z = max(spot[2], NEAR)
        return (self.centre + self.focal * spot[0] / z, self.horizon + self.focal * (self.height - spot[1]) / z)

    def size(self, z: float) -> float:
        """Pixels per metre at distance `z`."""
        return self.focal / max(z, NEAR)


class Canvas:
    """Image and segment map of one scene in the making; later strokes cover earlier ones."""

    def __init__(self, width: int, height: int, rng: Random) -> None:
        self.width, self.height, self.rng = width, height, rng
        self.haze: tuple[Colour, float] = ((0.0, 0.0, 0.0), 0.0)
        self.image = np.zeros((height * SUPERSAMPLE, width * SUPERSAMPLE, 3), np.uint8)
        self.segments = np.zeros((height * SUPERSAMPLE, width * SUPERSAMPLE), np.int32)
        self.concepts: list[str] = [VOID]
        self.objects: list[int] = [0]

    def begin(self, concept: str, *, part: bool = False) -> None:
        """Start an object, or another `part` of the one just painted: strokes until the next call belong to it."""
        self.concepts.append(concept)
        self.objects.append(self.objects[-1] if part else len(self.objects))

    def finish(self) -> Scene:
        """The picture at its output size."""
        size = (self.width, self.height)
        image = cv2.resize(self.image, size, interpolation=cv2.INTER_AREA)
        segments = np.ascontiguousarray(self.segments[SUPERSAMPLE // 2 :: SUPERSAMPLE, SUPERSAMPLE // 2 :: SUPERSAMPLE])
        photo = np.asarray(image, np.uint8)
        return Scene(image=photo, segments=segments, concepts=tuple(self.concepts), objects=tuple(self.objects))

    def poly(self, points: Sequence[Point], material: Material) -> None:
        """Fill a polygon."""
        colour, share = self.haze
        if share > 0:
            material = material.mixed(colour, share)
        if material.tile == "plain" or _tiny(points):
            self._fill(points, blend(material.a, material.b, 0.0 if material.tile == "plain" else 0.5))
            return
        found = self._stencil(points)
        if found is None:
            return
        rows, columns, stencil = found
        offset = (self.rng.randrange(TILE), self.rng.randrange(TILE))
        self._stamp(rows, columns, stencil, render(material, stencil.shape[0], stencil.shape[1], offset))

    def rect(self, x0: float, y0: float, x1: float, y1: float, material: Material) -> None:
        """Fill an upright rectangle."""
        self.poly([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], material)

    def ellipse(self, x: float, y: float, rx: float, ry: float, material: Material, tilt: float = 0.0) -> None:
        """Fill an ellipse, `tilt` radians clockwise."""
        self.poly(ellipse_points(x, y, rx, ry, tilt), material)

    def line(self, start: Point, end: Point, thickness: float, material: Material, taper: float = 1.0) -> None:
        """Fill a bar; at its end it is `taper` times as thick."""
        dx, dy = end[0] - start[0], end[1] - start[1]
        length = math.hypot(dx, dy) or 1.0
        nx, ny = -dy / length * thickness / 2, dx / length * thickness / 2
        self.poly(
            [
                (start[0] + nx, start[1] + ny),
                (end[0] + nx * taper, end[1] + ny * taper),
                (end[0] - nx * taper, end[1] - ny * taper),
                (start[0] - nx, start[1] - ny),
            ],
            material,
        )

    def face(self, points: Sequence[Point], patch: npt.NDArray[np.uint8]) -> None:
        """Paste a flat picture (h, w, 3) into a quadrilateral given from its top left corner, clockwise."""
        found = self._stencil(points)
        if found is None:
            return
        rows, columns, stencil = found
        height, width = patch.shape[:2]
        source = np.asarray([(0, 0), (width, 0), (width, height), (0, height)], np.float32)
        corner = np.asarray([columns.start, rows.start], np.float32)
        target = np.asarray(points, np.float32) * SUPERSAMPLE - corner
        matrix = cv2.getPerspectiveTransform(source, target)
        size = (stencil.shape[1], stencil.shape[0])
        pasted = cv2.warpPerspective(patch, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        if self.haze[1] > 0:
            pasted = _mix(pasted, self.haze)
        self._stamp(rows, columns, stencil, pasted)

    def ground(self, camera: Camera, points: Sequence[Point], material: Material, grain: float) -> None:
        """Fill a polygon below the horizon with a surface lying on the ground, `grain` tile pixels per metre."""
        found = self._stencil(points)
        if found is None:
            return
        rows, columns, stencil = found
        y = (np.arange(rows.start, rows.stop, dtype=np.float32) / SUPERSAMPLE - camera.horizon)[:, None]
        x = (np.arange(columns.start, columns.stop, dtype=np.float32) / SUPERSAMPLE - camera.centre)[None, :]
        z = np.minimum(camera.focal * camera.height / np.maximum(y, 0.25), 300.0)
        u, v = x * z / camera.focal * grain, np.broadcast_to(z * grain, stencil.shape)
        painted = render_at(material, u + 8 * TILE * 64, v)
        # far rows fall between the tile's pixels: fade to the mean instead of glittering
        fade = np.minimum(z * z * (grain / (camera.focal * camera.height * SUPERSAMPLE * 3.0)), 1)[..., None]
        colour, density = self.haze
        far = (1 - np.exp(-density * z))[..., None]
        mean = np.clip((np.asarray(material.a) + np.asarray(material.b)) / 2, 0, 255).astype(np.float32)
        added = mean * fade * (1 - far) + np.asarray(colour, np.float32) * far
        self._stamp(rows, columns, stencil, (painted * ((1 - fade) * (1 - far)) + added).astype(np.uint8))

    def backdrop(self, points: Sequence[Point], top: Colour, bottom: Colour, texture: Material | None = None) -> None:
        """Fill a polygon with a vertical gradient; `texture` (a grey-on-black tile) is added to it: clouds, glare."""
        found = self._stencil(points)
        if found is None:
            return
        rows, columns, stencil = found
        share = np.linspace(0, 1, stencil.shape[0], dtype=np.float32)[:, None, None]
        patch = np.asarray(top, np.float32) * (1 - share) + np.asarray(bottom, np.float32) * share
        patch = np.broadcast_to(patch, (*stencil.shape, 3))
        if texture is not None:
            offset = (self.rng.randrange(TILE), self.rng.randrange(TILE))
            patch = patch + render(texture, stencil.shape[0], stencil.shape[1], offset)
        self._stamp(rows, columns, stencil, np.clip(patch, 0, 255).astype(np.uint8))

    def shade(self, points: Sequence[Point], gain: float, softness: float = 0.0) -> None:
        """Multiply the picture inside a polygon by `gain` without touching the truth; `softness` pixels of blur."""
        found = self._stencil(points)
        if found is None:
            return
        rows, columns, stencil = found
        weight = stencil.astype(np.float32)
        if softness > 0:
            weight = np.asarray(cv2.GaussianBlur(weight, (0, 0), softness * SUPERSAMPLE))
        part = self.image[rows, columns]
        part[:] = np.clip(part * (1 + (gain - 1) * weight[..., None]), 0, 255).astype(np.uint8)

    def _fill(self, points: Sequence[Point], colour: Colour) -> None:
        """`poly` in one colour, which OpenCV paints and clips by itself."""
        corners = np.rint((np.asarray(points, np.float64) * SUPERSAMPLE - 0.5) * 16)
        fixed = [np.minimum(np.maximum(corners, -_FARTHEST), _FARTHEST).astype(np.int32)]
        red, green, blue = (min(max(int(c), 0), 255) for c in colour)
        cv2.fillPoly(self.image, fixed, (red, green, blue), shift=4)
        cv2.fillPoly(self.segments, fixed, len(self.concepts) - 1, shift=4)

    def _stencil(self, points: Sequence[Point]) -> tuple[slice, slice, npt.NDArray[np.uint8]] | None:
        corners = np.asarray(points, np.float64) * SUPERSAMPLE
        limit_y, limit_x = self.segments.shape
        x0, y0 = np.floor(np.maximum(corners.min(0), -1e6)).astype(int)
        x1, y1 = np.ceil(np.minimum(corners.max(0), 1e6)).astype(int) + 1
        x0, y0, x1, y1 = max(int(x0), 0), max(int(y0), 0), min(int(x1), limit_x), min(int(y1), limit_y)
        if x0 >= x1 or y0 >= y1:
            return None
        stencil = np.zeros((y1 - y0, x1 - x0), np.uint8)
        fixed = np.rint((corners - (x0, y0) - 0.5) * 16)
        fixed = np.minimum(np.maximum(fixed, -_FARTHEST), _FARTHEST).astype(np.int32)
        cv2.fillPoly(stencil, [fixed], 1, shift=4)
        return slice(y0, y1), slice(x0, x1), stencil

    def _stamp(self, rows: slice, columns: slice, stencil: npt.NDArray[np.uint8], patch: npt.NDArray[Any]) -> None:
        cv2.copyTo(patch, stencil, self.image[rows, columns])  # into the view
        np.copyto(self.segments[rows, columns], len(self.concepts) - 1, where=stencil.view(bool))


class Depth:
    """Things to paint, collected in any order and painted from far to near."""

    def __init__(self) -> None:
        self._items: list[tuple[float, Callable[[], object]]] = []

    def add(self, z: float, paint: Callable[..., object], *args: object) -> None:
        """Have `paint(*args)` called when everything farther than `z` metres is done."""
        self._items.append((z, functools.partial(paint, *args)))

    def paint(self, before: Callable[[float], None] | None = None) -> None:
        """Paint; `before` is told each thing's distance."""
        for z, paint in sorted(self._items, key=lambda item: -item[0]):
            if before is not None:
                before(z)
            paint()


def ellipse_points(x: float, y: float, rx: float, ry: float, tilt: float = 0.0, count: int = 20) -> list[Point]:
    """Corners of a polygon close to an ellipse."""
    cos, sin = math.cos(tilt), math.sin(tilt)
    angles = [2 * math.pi * i / count for i in range(count)]
    return [
        (x + rx * math.cos(a) * cos - ry * math.sin(a) * sin, y + rx * math.cos(a) * sin + ry * math.sin(a) * cos)
        for a in angles
    ]


def _tiny(points: Sequence[Point]) -> bool:
    """Too small for its texture to be seen."""
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    return (max(xs) - min(xs)) * (max(ys) - min(ys)) < 20.0


def _mix(picture: npt.NDArray[Any], haze: tuple[Colour, float]) -> npt.NDArray[np.uint8]:
    colour, share = haze
    return np.asarray(picture * (1 - share) + np.asarray(colour, np.float32) * share).astype(np.uint8)
