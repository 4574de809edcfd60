"""Streets: a road in perspective between fronts, trees and whatever moves or stands on it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from shards.world import buildings, scenery, vehicles
from shards.world.canvas import Camera, Canvas, Point, Scene
from shards.world.looks import Look
from shards.world.people import figure
from shards.world.solids import shadow
from shards.world.textures import Colour, Material, surface

FAR = 140.0  # metres to where the street ends
Item = tuple[float, Callable[[], None]]
"""Distance and how to paint it."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """Cross-section of the street, metres from the camera: kerbs and building lines, left and right."""

    kerbs: tuple[float, float]
    fronts: tuple[float, float]
    verge: tuple[bool, bool]


def paint_street(look: Look, rng: Random) -> Scene:
    """One street scene."""
    width, height = rng.choice(look.sizes)
    canvas = Canvas(width, height, rng)
    camera = Camera(
        focal=rng.uniform(*look.focal) * height,
        centre=width * rng.uniform(0.4, 0.6),
        horizon=height * rng.uniform(*look.horizon),
        height=rng.uniform(*look.camera_height),
    )
    density = rng.uniform(*look.haze)
    low = scenery.sky(canvas, camera.horizon, rng)
    left, right = rng.uniform(3.0, 7.5), rng.uniform(3.5, 7.5)
    walk = (rng.uniform(1.8, 4.5), rng.uniform(1.8, 4.5))
    plan = _Plan(
        kerbs=(-left, right),
        fronts=(-left - walk[0] - rng.uniform(0, 2), right + walk[1] + rng.uniform(0, 2)),
        verge=(rng.random() < 0.35, rng.random() < 0.35),
    )
    _background(canvas, camera, look, rng)
    _ground(canvas, camera, plan, low, density, rng)
    items = [*_sides(canvas, camera, plan, look, rng), *_roadside(canvas, camera, plan, look, rng)]
    items += _traffic(canvas, camera, plan, look, rng)
    for z, paint in sorted(items, key=lambda item: -item[0]):
        canvas.haze = (low, 1 - math.exp(-density * z))
        paint()
    canvas.haze = (low, 0.0)
    _shadows(canvas, camera, plan, look, rng)
    if look.hood:
        _hood(canvas, rng)
    return canvas.finish()


def _background(canvas: Canvas, camera: Camera, look: Look, rng: Random) -> None:
    height = canvas.height
    if rng.random() < 0.35:
        hill = surface(rng, (0.25, 0.6), (0.08, 0.3), (0.45, 0.7), "rough", depth=0.2)
        scenery.ridge(canvas, camera.horizon, height * 0.18, hill, "mountain_hill", rng, 22)
    if rng.random() < 0.6:
        wood = scenery.leaves(rng, 0.6).mixed((190, 200, 205), 0.25)
        scenery.ridge(canvas, camera.horizon, height * 0.1, wood, "vegetation", rng, 7)
    else:
        town = surface(rng, (0.05, 0.6), (0.03, 0.2), (0.5, 0.75), "checks", depth=0.25, zoom=0.5)
        scenery.ridge(canvas, camera.horizon, height * 0.12, town, "building", rng, 9)


def _ground(canvas: Canvas, camera: Camera, plan: _Plan, low: Colour, density: float, rng: Random) -> None:
    canvas.haze = (low, density)  # a ground fades pixel by pixel, so it takes the density itself
    width, height = canvas.width, canvas.height
    grass = surface(rng, (0.18, 0.3), (0.3, 0.55), (0.4, 0.6), "grass", depth=0.35)
    canvas.begin("terrain")
    y = camera.horizon
    canvas.ground(camera, [(0, y), (width, y), (width, height), (0, height)], grass, 40)
    paving = surface(rng, (0.02, 0.12), (0.02, 0.15), (0.55, 0.78), rng.choice(("tiles", "rough", "tiles")), depth=0.22)
    asphalt = surface(rng, (0.55, 0.7), (0.0, 0.08), (0.28, 0.46), "rough", depth=0.22)
    for side in (0, 1):
        kerb, front = plan.kerbs[side], plan.fronts[side]
        if plan.verge[side]:
            kerb += (front - kerb) * 0.35
        canvas.begin("sidewalk_pavement")
        canvas.ground(camera, _strip(camera, kerb, front), paving, 50)
    canvas.begin("road")
    canvas.ground(camera, _strip(camera, *plan.kerbs), asphalt, 30)
    paint = Material((225, 225, 218), (190, 190, 182), "rough")
    canvas.begin("road/marking")
    lanes = (0.0 if rng.random() < 0.5 else (plan.kerbs[0] + plan.kerbs[1]) / 2,)
    for lane in lanes:
        z = rng.uniform(1, 4)
        while z < 60:
            canvas.ground(camera, _strip(camera, lane - 0.08, lane + 0.08, z, z + 2.5), paint, 30)
            z += 6
    if rng.random() < 0.2:
        z = rng.uniform(6, 14)
        x = plan.kerbs[0] + 0.3
        while x < plan.kerbs[1] - 0.5:
            canvas.ground(camera, _strip(camera, x, x + 0.5, z, z + 3), paint, 30)
            x += 1.0
    kerbstone = paving.lit(1.15)
    for side in (0, 1):
        canvas.begin("sidewalk_pavement")
        edge = plan.kerbs[side]
        canvas.ground(camera, _strip(camera, edge, edge + math.copysign(0.2, edge)), kerbstone, 30)
    canvas.haze = (low, 0.0)


def _strip(camera: Camera, x0: float, x1: float, z0: float = 0.4, z1: float = FAR) -> list[Point]:
    return [camera.project(p) for p in ((x0, 0, z0), (x0, 0, z1), (x1, 0, z1), (x1, 0, z0))]


def _sides(canvas: Canvas, camera: Camera, plan: _Plan, look: Look, rng: Random) -> list[Item]:
    items: list[Item] = []
    for index, side in ((0, -1), (1, 1)):
        x = plan.fronts[index]
        z, crowded = rng.uniform(-3, 6), rng.uniform(0.35, 0.95)
        while z < 90:
            near = max(z, 0.6)
            if rng.random() < crowded:
                kind = rng.choice(look.town)
                length = rng.uniform(7, 12) if kind == "house" else rng.uniform(9, 18)
                tall = {"house": rng.uniform(4, 6.5), "block": rng.uniform(8, 16), "tower": rng.uniform(16, 34)}[kind]
                back = rng.uniform(0, 3) if kind == "house" else 0.0

                def put(
                    n: float = near,
                    f: float = z + length,
                    k: str = kind,
                    h: float = tall,
                    b: float = back,
                    s: int = side,
                    at: float = x,
                ) -> None:
                    buildings.building(canvas, camera, s, at + s * b, n, f, h, k, rng)

                items.append((near + 0.5, put))
            else:
                length = rng.uniform(6, 14)
                items += _gap(canvas, camera, side, x, near, z + length, rng)
            z += length + rng.choice((0.0, 0.0, rng.uniform(0.5, 3)))
    return items


def _gap(canvas: Canvas, camera: Camera, side: int, x: float, z0: float, z1: float, rng: Random) -> list[Item]:
    """A garden or a park between buildings: trees behind a fence, a wall or a hedge."""
    items: list[Item] = []
    for _ in range(rng.randint(1, 4)):
        z, far = rng.uniform(z0 + 1, z1 + 1), rng.uniform(2.0, 9.0)
        tall = rng.uniform(4, 10)

        def plant(z: float = z, far: float = far, tall: float = tall) -> None:
            scenery.tree(canvas, camera.project((x + side * far, 0, z)), tall * camera.size(z), rng)

        items.append((z + 0.5, plant))
    edge = rng.random()
    if edge < 0.45:
        items.append((z0, lambda: scenery.fence(canvas, camera, (x, z0), (x, z1), rng)))
    elif edge < 0.8:
        tall = rng.uniform(0.9, 2.2)
        items.append((z0, lambda: scenery.wall(canvas, camera, (x, z0), (x, z1), tall, rng)))
    return items


def _roadside(canvas: Canvas, camera: Camera, plan: _Plan, look: Look, rng: Random) -> list[Item]:
    items: list[Item] = []
    for index, side in ((0, -1), (1, 1)):
        kerb, front = plan.kerbs[index], plan.fronts[index]
        line = kerb + side * 0.5
        spacing = rng.uniform(5, 14)
        trees = rng.random() < 0.5
        z = rng.uniform(3, 9)
        while z < 60:
            roll = rng.random()
            if trees and roll < 0.6:
                tall = rng.uniform(3.5, 7.5)
                items.append(
                    (
                        z,
                        lambda z=z, x=line, t=tall: scenery.tree(
                            canvas, camera.project((x, 0, z)), t * camera.size(z), rng
                        ),
                    )
                )  # type: ignore[misc]
            elif roll < 0.3:
                items.append(
                    (z, lambda z=z, x=line: scenery.traffic_sign(canvas, camera, x, z, rng, rng.random() < 0.4))
                )  # type: ignore[misc]
            elif roll < 0.5:
                items.append((z, lambda z=z, x=line: scenery.traffic_light(canvas, camera, x, z, rng)))  # type: ignore[misc]
            elif roll < 0.58:
                items.append((z, lambda z=z, x=line: scenery.streetlight(canvas, camera, x, z, rng)))  # type: ignore[misc]
            elif roll < 0.85:
                items.append((z, lambda z=z, x=line: scenery.pole(canvas, camera, x, z, rng.uniform(3, 7), rng)))  # type: ignore[misc]
            z += spacing * rng.uniform(0.6, 1.4)
        for _ in range(rng.choice((0, 1, 2, 3, 4))):
            z, x = rng.uniform(4, 26), rng.uniform(kerb + side * 0.6, front - side * 0.3)
            items.append((z, lambda z=z, x=x: _walker(canvas, camera, x, z, look, rng)))  # type: ignore[misc]
    return items


def _walker(canvas: Canvas, camera: Camera, x: float, z: float, look: Look, rng: Random) -> None:
    shadow(canvas, camera, (x, z), (0.6, 0.5), 0, 0.4)
    canvas.begin("person")
    facing = rng.choice((-1.0, 1.0))
    figure(
        canvas, camera.project((x, 0, z)), camera.size(z), look, rng, pose=rng.choice(("walk", "stand")), facing=facing
    )


def _traffic(canvas: Canvas, camera: Camera, plan: _Plan, look: Look, rng: Random) -> list[Item]:
    items: list[Item] = []
    away, towards = math.pi / 2, -math.pi / 2
    for index, side in ((0, -1), (1, 1)):
        if rng.random() < 0.65:  # parked along the kerb
            x, z = plan.kerbs[index] - side * 1.1, rng.uniform(4, 9)
            while z < 50:
                if rng.random() < 0.7:
                    items.append(_put(canvas, camera, "car", (x, z), away if side > 0 else towards, look, rng))
                z += rng.uniform(5.2, 8)
        lane = plan.kerbs[index] * 0.45
        z = rng.uniform(7, 20)
        while z < 70:
            roll = rng.random()
            yaw = away if side > 0 else towards
            if roll < look.tram:
                items.append(_put(canvas, camera, "train", (lane, z + 11), yaw, look, rng))
                z += 22
            else:
                kind = rng.choices(("car", "bus", "truck", "two", "none"), (0.36, 0.1, 0.12, 0.2, 0.22))[0]
                if kind == "two":
                    x = lane + rng.uniform(0, 1.2) * side
                    items.append(_put(canvas, camera, "two", (x, z), yaw + rng.uniform(-0.6, 0.6), look, rng))
                elif kind != "none":
                    reach = {"car": 0.0, "bus": 5.0, "truck": 3.5}[kind]
                    items.append(_put(canvas, camera, kind, (lane, z + reach), yaw, look, rng))
                    z += 2 * reach
            z += rng.uniform(7, 20)
    if rng.random() < 0.3:  # something crosses the street
        kind = rng.choice(("car", "bus", "truck", "two", "two", "two"))
        z, x = rng.uniform(7, 22), rng.uniform(*plan.kerbs)
        items.append(_put(canvas, camera, kind, (x, z), rng.choice((0.0, math.pi)) + rng.uniform(-0.3, 0.3), look, rng))
    return items


def _put(
    canvas: Canvas, camera: Camera, kind: str, at: tuple[float, float], yaw: float, look: Look, rng: Random
) -> Item:
    def paint() -> None:
        if kind == "two":
            machine = rng.choice(("bicycle", "bicycle", "motorcycle"))
            ridden = rng.random() < look.riders
            rider = ("bicyclist" if machine == "bicycle" else "motorcyclist") if ridden else None
            vehicles.two_wheeler(canvas, camera, at, yaw, look, rng, machine, rider)
        else:
            {"car": vehicles.car, "bus": vehicles.bus, "truck": vehicles.truck, "train": vehicles.train}[kind](
                canvas, camera, at, yaw, look, rng
            )

    return (at[1], paint)


def _shadows(canvas: Canvas, camera: Camera, plan: _Plan, look: Look, rng: Random) -> None:
    """Shade of houses across the road, from one side."""
    strength = rng.uniform(*look.sun)
    side = rng.choice((0, 1))
    reach = plan.kerbs[side] * rng.uniform(-0.3, 0.8)
    z0 = rng.uniform(0.5, 12)
    z1 = z0 + rng.uniform(5, 40)
    edge = plan.fronts[side]
    canvas.shade(
        [camera.project(p) for p in ((edge, 0, z0), (edge, 0, z1), (reach, 0, z1), (reach, 0, z0))],
        1 - strength * 0.8,
        0.8,
    )


def _hood(canvas: Canvas, rng: Random) -> None:
    width, height = canvas.width, canvas.height
    top = height * rng.uniform(0.9, 0.94)
    arc = [(width * i / 12, top + (height - top) * ((i - 6) / 6) ** 2 * 0.8) for i in range(13)]
    canvas.begin("ego")
    canvas.poly(
        [*arc, (width, height + 1), (0, height + 1)],
        surface(rng, (0.55, 0.65), (0.0, 0.1), (0.1, 0.3), "water", depth=-0.5, zoom=3),
    )
