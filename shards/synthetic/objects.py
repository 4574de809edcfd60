"""Objects: parts of flat shapes and solids, read from `tables/objects.yaml`, drawn into a scene in perspective."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random

from segstream.shards.synthetic.canvas import Camera, Canvas, Point, Spot
from segstream.shards.synthetic.read_table import entry, table
from segstream.shards.synthetic.textures import Material, Paint

CAP = -1
_SUN = (-0.35, 0.8, -0.5)  # from the left, above, behind the camera
_CORNERS = 16  # of a polygon that stands for an ellipse
_FLATTEST = 1.2  # radians: what has no thickness is never seen edge on


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A shape with its paint; what the keys mean stands in `tables/objects.yaml`."""

    paint: str
    light: float = 1.0
    label: str = ""
    chance: float = 1.0
    box: tuple[float, float, float, float] | None = None
    poly: tuple[Point, ...] | None = None
    oval: tuple[float, ...] | None = None
    line: tuple[float, ...] | None = None
    clumps: tuple[float, float, float, float, int] | None = None
    fan: tuple[float, float, float, int, float] | None = None
    grid: tuple[int, int, float, float] = (1, 1, 0.0, 0.0)
    vary: bool = False
    wide: float = 0.0
    across: float = 0.0
    layer: int = 0
    faces: Mapping[int, str] = field(default_factory=dict)
    marks: tuple[Shape, ...] = ()
    edge: int = CAP

    def outlines(self, rng: Random) -> list[tuple[list[Point], float]]:
        """Corners and brightness of the polygons that make up the shape."""
        if self.clumps is not None:
            x, y, rx, ry, count = self.clumps
            spots = sorted((rng.uniform(-0.75, 0.75), rng.uniform(0, 2 * math.pi)) for _ in range(count))
            return [  # the lower ones first, and darker
                (_ragged(x + rx * 0.7 * math.cos(a), y + ry * up, 0.55 * min(rx, ry), rng), 0.9 + 0.25 * up)
                for up, a in spots
            ]
        if self.fan is not None:
            x, y, reach, count, width = self.fan
            angles = [math.pi * (0.08 + 0.84 * (i + rng.random()) / count) for i in range(count)]
            lengths = [reach * rng.uniform(0.75, 1.1) for _ in angles]
            tips = [(x + r * math.cos(a), y + r * math.sin(a)) for a, r in zip(angles, lengths, strict=True)]
            return [(_bar(x, y, *tip, width, 0.2 * width), rng.uniform(0.75, 1.2)) for tip in tips]
        corners = self.corners()
        columns, rows, dx, dy = self.grid
        cells = [(i * dx, j * dy) for j in range(rows) for i in range(columns)]
        return [([(x + a, y + b) for x, y in corners], 1.0) for a, b in cells]

    def corners(self) -> list[Point]:
        """The outline of a shape that is always the same."""
        if self.box is not None:
            x0, y0, x1, y1 = self.box
            return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
        if self.poly is not None:
            return list(self.poly)
        if self.oval is not None:
            return ellipse(*self.oval)
        assert self.line is not None, "a shape has a shape"
        return _bar(*self.line)


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """What may stand on an object: at a height, that far to the sides and to front and back."""

    top: tuple[float, float, float]
    count: tuple[int, int]
    what: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """An object of the tables."""

    parts: tuple[Shape, ...] = ()
    label: str = ""
    either: Mapping[str, float] | None = None
    """Other objects of which this is one -> weight."""
    under: str = ""
    """The object that is drawn first, as part of this one."""
    scale: tuple[float, float] = (1.0, 1.0)
    stretch: tuple[float, float] = (1.0, 1.0)
    """More of scale, along alone."""
    shadow: tuple[float, float] | None = None
    """Metres along and across on the ground."""
    forward: bool = False
    carries: Carried | None = None

    @property
    def solid(self) -> bool:
        """It has thickness."""
        return any(shape.wide for shape in self.parts)


def object_named(name: str) -> Item:
    """An object of the table."""
    return entry(Item, "objects", name)


def mixed(name: str, rng: Random, zoom: float = 1.0) -> Material:
    """A material of the named paint, of which there may be alternatives."""
    options = [entry(Paint, "paints", name, i) for i in range(len(table("paints")[name]))]
    return rng.choices(options, [option.share for option in options])[0].mix(rng, zoom)


def spread(weights: Mapping[str, float], place: float) -> tuple[str, float]:
    """The key in whose share of the weights `place` (0..1) falls, and how far into the share it is (0..1)."""
    left = place * sum(weights.values())
    for key, weight in weights.items():
        if left < weight:
            return key, left / weight
        left -= weight
    return key, 0.999


def chosen(name: str, rng: Random) -> str:
    """An object that is drawn by `name`, which may stand for several."""
    while (either := object_named(name).either) is not None:
        name = spread(either, rng.random())[0]
    return name


@functools.cache
def extent(name: str) -> tuple[float, float]:
    """Metres along and up of an object, nominally."""
    item = object_named(chosen(name, Random(0)))
    parts = item.parts + (object_named(item.under).parts if item.under else ())
    xs, ys = zip(*(spot for part in parts for outline, _ in part.outlines(Random(0)) for spot in outline), strict=True)
    return max(xs) - min(xs), max(ys)


def draw_object(
    canvas: Canvas,
    camera: Camera,
    name: str,
    at: tuple[float, float],
    rng: Random,
    *,
    yaw: float | None = None,
    base: float = 0.0,
) -> None:
    """Draw an object and what stands on it.

    Args:
        name: as in the table.
        at: (X, Z) of its foot.
        yaw: radians that it is turned by from facing the camera; None: as it is, or mirrored if it is flat.
        base: metres above the ground.
    """
    name = chosen(name, rng)
    item = object_named(name)
    if yaw is None:
        yaw = 0.0 if item.solid or item.forward else rng.choice((0.0, math.pi))
    if item.forward:
        yaw -= math.pi / 2
    up = rng.uniform(*item.scale)
    along = up * rng.uniform(*item.stretch)
    pen = _Pen(canvas, camera, rng, at, math.cos(yaw), math.sin(yaw), base, (along, up))
    if item.shadow is not None and not base:
        pen.shadow(item.shadow)
    pen.draw(item, name)
    if item.carries is not None:
        _draw_carried(pen, item.carries, up, yaw)


def _draw_carried(pen: _Pen, carried: Carried, up: float, yaw: float) -> None:
    rng = pen.rng
    height, sides, deep = carried.top
    places = [(rng.uniform(-sides, sides), rng.uniform(-deep, deep)) for _ in range(rng.randint(*carried.count))]
    for along, across in sorted(places, key=lambda place: -pen.spot(place[0], 0, place[1])[2]):
        x, _, z = pen.spot(along, 0, across)
        what = spread(carried.what, rng.random())[0]
        draw_object(pen.canvas, pen.camera, what, (x, z), rng, base=pen.base + height * up)


@dataclass(slots=True)
class _Pen:
    """Draws the parts of one object that stands somewhere."""

    canvas: Canvas
    camera: Camera
    rng: Random
    at: tuple[float, float]
    cos: float
    sin: float
    base: float
    size: tuple[float, float]
    label: str = ""
    numbers: dict[str, int] = field(default_factory=dict)
    materials: dict[str, Material] = field(default_factory=dict)

    def spot(self, along: float, up: float, across: float) -> Spot:
        """A place in space of a point of the object."""
        along, up = along * self.size[0], up * self.size[1]
        x, z = self.at
        return (x + along * self.cos - across * self.sin, self.base + up, z + along * self.sin + across * self.cos)

    def shadow(self, size: tuple[float, float]) -> None:
        """Darken the ground under and beside the object."""
        half, deep = size[0] * 0.54, size[1] * 0.54
        around = ((-half, -deep), (half, -deep), (half, deep), (-half, deep))
        corners = [self.spot(u, 0, w + 0.1 * deep) for u, w in around]
        softness = min(1.5, 0.05 * self.camera.size(self.at[1]))
        self.canvas.shade([self.camera.project(c) for c in corners], self.rng.uniform(0.45, 0.65), softness)

    def draw(self, item: Item, name: str) -> None:
        """Draw an object's parts, the farther and lower solids first."""
        if item.under:
            self.draw(object_named(item.under), item.under)
        if not item.solid and abs(self.cos) < math.cos(_FLATTEST) and not self.base:
            self.cos = math.copysign(math.cos(_FLATTEST), self.cos)
            self.sin = math.copysign(math.sin(_FLATTEST), self.sin)

        def order(shape: Shape) -> tuple[int, float]:
            corners = shape.corners() if shape.wide else [(0.0, 0.0)]
            middle = sum(x for x, _ in corners) / len(corners)
            return shape.layer, -round(self.spot(middle, 0, shape.across)[2], 1)

        for shape in sorted(item.parts, key=order) if item.solid else item.parts:
            if self.rng.random() < shape.chance:
                self._begin(shape.label or item.label or name)
                if not shape.wide:
                    self._flat(shape, shape.across)
                    continue
                for profile, _ in shape.outlines(self.rng):
                    self._extrude(shape, profile, item.label or name)

    def _begin(self, label: str) -> None:
        """Have the next shapes belong to the object, or to the thing of another class that is part of it."""
        if label != self.label:
            self.label = label
            self.canvas.begin(label, self.numbers.get(label.partition("/")[0]))
            self.numbers[label.partition("/")[0]] = self.canvas.objects[-1]

    def _material(self, name: str, fresh: bool = False) -> Material:
        if fresh or name not in self.materials:
            zoom = min(max(self.camera.size(self.at[1]) / 60, 0.5), 4.0)
            self.materials[name] = mixed(name, self.rng, zoom)
        return self.materials[name]

    def _flat(self, shape: Shape, across: float, light: float = 1.0) -> None:
        project, spot = self.camera.project, self.spot
        for corners, gain in shape.outlines(self.rng):
            material = self._material(shape.paint, shape.vary).lit(shape.light * light * gain)
            self.canvas.poly([project(spot(x, y, across)) for x, y in corners], material)

    def _extrude(self, shape: Shape, profile: list[Point], label: str) -> None:
        """Draw a solid: its visible sides, lit by their direction, with what is on them."""
        project, spot = self.camera.project, self.spot
        near, far = shape.across - shape.wide / 2, shape.across + shape.wide / 2
        found: list[tuple[float, int, list[Spot], float]] = []
        for across, side in ((near, -1), (far, 1)):
            normal = (-self.sin * side, 0.0, self.cos * side)
            found.append(self._face(CAP, [spot(x, y, across) for x, y in profile], normal))
        for i, (a, b) in enumerate(zip(profile, (*profile[1:], profile[0]), strict=True)):
            length = math.hypot(b[0] - a[0], b[1] - a[1]) or 1.0
            out, up = (b[1] - a[1]) / length, -(b[0] - a[0]) / length
            normal = (out * self.cos, up, out * self.sin)
            found.append(self._face(i, [spot(*a, near), spot(*b, near), spot(*b, far), spot(*a, far)], normal))
        for distance, number, corners, gain in sorted(found, key=lambda face: -face[0]):
            if distance < 0:
                continue
            paint = shape.faces.get(number, shape.paint)
            self._begin(shape.label or label)
            self.canvas.poly([project(c) for c in corners], self._material(paint).lit(shape.light * gain))
            if self.camera.size(self.at[1]) > 3:  # pixels a metre: nothing is seen on what is smaller
                self._marks(shape, number, profile, corners, gain, label)

    def _marks(
        self, shape: Shape, number: int, profile: list[Point], corners: list[Spot], gain: float, label: str
    ) -> None:
        """Draw what is on a side that was just drawn."""
        for mark in shape.marks:
            if mark.edge != number:
                continue
            self._begin(mark.label or shape.label or label)
            if number == CAP:  # which lies parallel to the profile
                first = self.spot(*profile[0], 0.0)
                across = (corners[0][2] - first[2]) * self.cos - (corners[0][0] - first[0]) * self.sin
                self._flat(mark, across, gain)
                continue
            a, b, c, d = corners
            for points, _ in mark.outlines(self.rng):
                material = self._material(mark.paint, mark.vary).lit(mark.light * gain)
                self.canvas.poly([self.camera.project(_between(a, b, c, d, s, t)) for s, t in points], material)

    def _face(self, number: int, corners: list[Spot], normal: Spot) -> tuple[float, int, list[Spot], float]:
        """(distance from the camera, number, corners, light) of a side; a negative distance if it is turned away."""
        n = len(corners)
        x, y, z = sum(c[0] for c in corners) / n, sum(c[1] for c in corners) / n, sum(c[2] for c in corners) / n
        height = self.camera.height
        seen = -x * normal[0] + (height - y) * normal[1] - z * normal[2] > 0
        light = 0.78 + 0.34 * (normal[0] * _SUN[0] + normal[1] * _SUN[1] + normal[2] * _SUN[2])
        return math.hypot(x, y - height, z) if seen else -1.0, number, corners, light


def ellipse(x: float, y: float, rx: float, ry: float, tilt: float = 0.0) -> list[Point]:
    """Corners of a polygon close to an ellipse, turned `tilt` radians."""
    cos, sin = math.cos(tilt), math.sin(tilt)
    angles = [2 * math.pi * i / _CORNERS for i in range(_CORNERS)]
    rim = [(rx * math.cos(a), ry * math.sin(a)) for a in angles]
    return [(x + u * cos - v * sin, y + u * sin + v * cos) for u, v in rim]


def _ragged(x: float, y: float, radius: float, rng: Random) -> list[Point]:
    rim = ellipse(0.0, 0.0, radius, 0.92 * radius)
    return [(x + px * k, y + py * k) for px, py in rim for k in (rng.uniform(0.8, 1.15),)]


def _bar(x0: float, y0: float, x1: float, y1: float, width: float, end: float | None = None) -> list[Point]:
    """A line with a width, and another at its end."""
    dx, dy = x1 - x0, y1 - y0
    length = math.hypot(dx, dy) or 1.0
    nx, ny = -dy / length / 2, dx / length / 2
    far = width if end is None else end
    return [
        (x0 + nx * width, y0 + ny * width),
        (x1 + nx * far, y1 + ny * far),
        (x1 - nx * far, y1 - ny * far),
        (x0 - nx * width, y0 - ny * width),
    ]


def _between(a: Spot, b: Spot, c: Spot, d: Spot, s: float, t: float) -> Spot:
    """The point at shares `s` across and `t` along a quadrilateral."""
    x, y, z = (
        (1 - s) * ((1 - t) * p + t * q) + s * ((1 - t) * v + t * u) for p, q, u, v in zip(a, b, c, d, strict=True)
    )
    return (x, y, z)
