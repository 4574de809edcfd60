"""What scenes are drawn on: an image and, shape by shape beside it, a map of what is where.

Coordinates are output pixels, x right and y down; space is in metres, X right, Y up from the ground, Z ahead.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from segstream.shards.synthetic.textures import TILE, Colour, Material, blend, render, render_at

SUPERSAMPLE = 2  # drawn this much larger, then averaged: soft edges at the price of one resize
NEAR = 0.3  # metres; nothing is projected from nearer
_SHIFT = 4  # binary digits of a pixel that OpenCV takes corners with
_PART = 2**_SHIFT
_TINY = 20.0  # square pixels: on what is smaller, a texture would not be seen
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
    """Image and segment map of one scene in the making; later shapes cover earlier ones."""

    def __init__(self, width: int, height: int, rng: Random) -> None:
        self.width, self.height, self.rng = width, height, rng
        self.haze: tuple[Colour, float] = ((0.0, 0.0, 0.0), 0.0)
        self.image = np.zeros((height * SUPERSAMPLE, width * SUPERSAMPLE, 3), np.uint8)
        self.segments = np.zeros((height * SUPERSAMPLE, width * SUPERSAMPLE), np.int32)
        self.concepts: list[str] = [VOID]
        self.objects: list[int] = [0]

    def begin(self, concept: str, number: int | None = None) -> None:
        """Start an object, or go on with that of a `number`: what is drawn until the next call belongs to it."""
        self.concepts.append(concept)
        self.objects.append(len(self.objects) if number is None else number)

    def finish(self) -> Scene:
        """The picture at its output size."""
        image = np.asarray(cv2.resize(self.image, (self.width, self.height), interpolation=cv2.INTER_AREA), np.uint8)
        segments = np.ascontiguousarray(self.segments[SUPERSAMPLE // 2 :: SUPERSAMPLE, SUPERSAMPLE // 2 :: SUPERSAMPLE])
        return Scene(image=image, segments=segments, concepts=tuple(self.concepts), objects=tuple(self.objects))

    def poly(self, points: Sequence[Point], material: Material) -> None:
        """Fill a polygon."""
        xs, ys = [p[0] for p in points], [p[1] for p in points]
        left, right, top, bottom = min(xs), max(xs), min(ys), max(ys)
        if right < 0 or bottom < 0 or left > self.width or top > self.height:
            return
        if self.haze[1] > 0:
            material = material.mixed(*self.haze)
        if material.tile == "plain" or (right - left) * (bottom - top) < _TINY:
            self._fill(points, blend(material.a, material.b, 0.0 if material.tile == "plain" else 0.5))
        elif (found := self._stencil(points)) is not None:
            self._stamp(*found, render(material, found[2].shape, self.rng))

    def ground(self, camera: Camera, points: Sequence[Point], material: Material, grain: float) -> None:
        """Fill a polygon below the horizon with a surface lying on the ground, `grain` tile pixels per metre."""
        if (found := self._stencil(points)) is None:
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

    def gradient(self, points: Sequence[Point], top: Colour, bottom: Colour, texture: Material) -> None:
        """Fill a polygon with a vertical gradient; `texture`, grey on black, is added to it."""
        if (found := self._stencil(points)) is None:
            return
        rows, columns, stencil = found
        share = np.linspace(0, 1, stencil.shape[0], dtype=np.float32)[:, None, None]
        patch = np.asarray(top, np.float32) * (1 - share) + np.asarray(bottom, np.float32) * share
        patch = patch + render(texture, stencil.shape, self.rng)
        self._stamp(rows, columns, stencil, np.clip(patch, 0, 255).astype(np.uint8))

    def shade(self, points: Sequence[Point], gain: float, softness: float = 0.0) -> None:
        """Multiply the picture inside a polygon by `gain` without touching the truth; `softness` pixels of blur."""
        if (found := self._stencil(points)) is None:
            return
        rows, columns, stencil = found
        weight = stencil.astype(np.float32)
        if softness > 0:
            weight = np.asarray(cv2.GaussianBlur(weight, (0, 0), softness * SUPERSAMPLE))
        part = self.image[rows, columns]
        part[:] = np.clip(part * (1 + (gain - 1) * weight[..., None]), 0, 255).astype(np.uint8)

    def _fill(self, points: Sequence[Point], colour: Colour) -> None:
        """`poly` in one colour, which OpenCV paints and clips by itself."""
        scale = SUPERSAMPLE * _PART
        fixed = [np.rint(np.array(points) * scale).astype(np.int32) - _PART // 2]
        red, green, blue = (min(max(int(c), 0), 255) for c in colour)
        cv2.fillPoly(self.image, fixed, (red, green, blue), shift=_SHIFT)
        cv2.fillPoly(self.segments, fixed, len(self.concepts) - 1, shift=_SHIFT)

    def _stencil(self, points: Sequence[Point]) -> tuple[slice, slice, npt.NDArray[np.uint8]] | None:
        corners = np.asarray(points, np.float64) * SUPERSAMPLE
        limits = self.segments.shape[::-1]
        x0, y0 = np.clip(np.floor(corners.min(0)), 0, limits).astype(int).tolist()
        x1, y1 = np.clip(np.ceil(corners.max(0)) + 1, 0, limits).astype(int).tolist()
        if x0 >= x1 or y0 >= y1:
            return None
        stencil = np.zeros((y1 - y0, x1 - x0), np.uint8)
        fixed = np.rint((corners - (x0, y0) - 0.5) * _PART).astype(np.int32)
        cv2.fillPoly(stencil, [fixed], 1, shift=_SHIFT)
        return slice(y0, y1), slice(x0, x1), stencil

    def _stamp(self, rows: slice, columns: slice, stencil: npt.NDArray[np.uint8], patch: npt.NDArray[Any]) -> None:
        cv2.copyTo(patch, stencil, self.image[rows, columns])  # into the view
        np.copyto(self.segments[rows, columns], len(self.concepts) - 1, where=stencil.view(bool))
