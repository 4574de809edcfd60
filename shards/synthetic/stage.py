"""A scene in the making: ground, sky and horizon, and the objects that are put into it."""

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random

from segstream.shards.synthetic.canvas import Camera, Canvas, Point
from segstream.shards.synthetic.domains import Domain
from segstream.shards.synthetic.objects import chosen, draw_object, extent, mixed, object_named
from segstream.shards.synthetic.read_table import entry
from segstream.shards.synthetic.textures import Colour, Material, blend

FAR = 140.0  # metres to where the ground ends
NONE = "none"
Weights = Mapping[str, float]
Haze = tuple[Colour, float]
"""A colour, and how much of it lies before something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """A surface to stand on."""

    label: str
    paint: str
    grain: float
    """Pixels of the tile a metre."""


@dataclass(slots=True)
class Stage:
    """A scene in the making: what is put into it is drawn from far to near."""

    canvas: Canvas
    camera: Camera
    domain: Domain
    rng: Random
    queue: list[tuple[float, Callable[[], None]]] = field(default_factory=list)

    def put(
        self, what: str, x: float, z: float, *, heading: float | None = None, turn: float = 0.0, base: float = 0.0
    ) -> None:
        """Have an object stand at (`x`, `z`) metres, headed that way, or turned from the camera (radians)."""
        if what == NONE:
            return
        name = chosen(what, self.rng)
        yaw = turn or None
        if heading is not None:
            yaw = heading + math.pi / 2 if object_named(name).forward else heading
        near = z - 0.45 * extent(name)[0] * abs(math.sin(heading or 0.0))  # a long thing is as near as its near end
        draw = functools.partial(draw_object, self.canvas, self.camera, name, (x, z), self.rng, yaw=yaw, base=base)
        self.queue.append((near, draw))

    def draw(self, haze: Callable[[float], Haze] | None = None) -> None:
        """Draw what was put, in the haze of its distance."""
        for z, draw in sorted(self.queue, key=lambda item: -item[0]):
            if haze is not None:
                self.canvas.haze = haze(z)
            draw()
        self.canvas.haze = ((0.0, 0.0, 0.0), 0.0)

    def across(self, share: float, z: float) -> float:
        """X at distance `z` of a place `share` of the width from the left."""
        return (share * self.canvas.width - self.camera.centre) * z / self.camera.focal

    def nearest(self, base: float = 0.0) -> float:
        """Metres at which what stands `base` metres high is just above the lower edge of the picture."""
        camera = self.camera
        return 1.04 * camera.focal * (camera.height - base) / max(self.canvas.height - camera.horizon, 1)

    def below(self, y: float) -> list[Point]:
        """The part of the picture below a row."""
        width, height = self.canvas.width, self.canvas.height
        return [(0, y), (width, y), (width, height), (0, height)]

    def rectangle(self, x0: float, x1: float, z0: float = 0.4, z1: float = FAR) -> list[Point]:
        """A rectangle on the ground."""
        return [self.camera.project(spot) for spot in ((x0, 0, z0), (x0, 0, z1), (x1, 0, z1), (x1, 0, z0))]

    def ground(self, name: str, points: list[Point] | None = None) -> None:
        """A surface lying on the ground within a polygon of the picture, or all of it below the horizon."""
        ground, points = entry(Ground, "scenes", "grounds", name), points or self.below(self.camera.horizon)
        self.canvas.begin(ground.label)
        self.canvas.ground(self.camera, points, mixed(ground.paint, self.rng), ground.grain)

    def sky(self, horizon: float) -> Colour:
        """Paint the sky down to a row; returns its colour there, which distant things fade to."""
        rng, width = self.rng, self.canvas.width
        top = mixed("sky", rng).a
        low = blend(top, (244, 240, 232), rng.uniform(0.55, 0.85))
        tone = rng.uniform(0, 60)
        clouds = Material((0, 0, 0), (tone, tone, tone), "cloud", rng.uniform(1.0, 2.5))
        self.canvas.begin("sky")
        self.canvas.gradient([(0, 0), (width, 0), (width, horizon + 1), (0, horizon + 1)], top, low, clouds)
        return low

    def horizon(self, low: Colour) -> None:
        """Hills, and woods or a town, along the horizon."""
        rng, y, height = self.rng, self.camera.horizon, self.canvas.height
        if rng.random() < 0.35:
            label = rng.choice(("mountain_hill", "mountain_hill/hill"))
            self.ridge(label, "hill", y, height * rng.uniform(0.1, 0.28), 20, (low, 0.25))
        roll = rng.random()
        if roll < 0.5:
            self.ridge("vegetation", "leaf", y, height * rng.uniform(0.08, 0.2), 7, (low, 0.15))
        elif roll < 0.75:
            self.ridge("building", "town", y, height * 0.17, 14, (low, 0.1))

    def ridge(self, label: str, paint: str, base: float, height: float, step: float, haze: Haze) -> None:
        """A jagged band upwards from a row: mountains, woods, a far town."""
        rng, end = self.rng, self.canvas.width + 2
        points: list[Point] = [(-2, base + 1)]
        x, level = -2.0, rng.uniform(0.3, 0.9)
        while x < end:
            points.append((x, base - height * level))
            x += rng.uniform(0.4, 1.6) * step
            level = min(max(level + rng.uniform(-0.4, 0.4), 0.1), 1.0)
        self.canvas.begin(label)
        self.canvas.poly([*points, (end, base - height * level), (end, base + 1)], mixed(paint, rng).mixed(*haze))
