"""Streets: a road in perspective between fronts, trees and whatever moves or stands on it."""

from __future__ import annotations

import math
from random import Random

from segstream.shards.synthetic import scenery
from segstream.shards.synthetic.canvas import Camera, Canvas, Depth, Point, Scene
from segstream.shards.synthetic.looks import Look, spread
from segstream.shards.synthetic.textures import Colour, flat, surface
from segstream.shards.synthetic.traffic import FEATURES, Plan, Street

FAR = 140.0  # metres to where the street ends


def paint_street(look: Look, rng: Random, pick: float) -> Scene:
    """One street; `pick` (0..1) chooses what is seen up close."""
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
    left, right = rng.uniform(2.6, 5.5), rng.uniform(2.8, 5.5)
    plan = Plan(
        kerbs=(-left, right),
        fronts=(-left - rng.uniform(2.0, 6.0), right + rng.uniform(2.0, 6.0)),
        verge=(rng.random() < 0.35, rng.random() < 0.35),
    )
    _background(canvas, camera, rng)
    _ground(canvas, camera, plan, low, density, rng)
    street = Street(canvas, camera, plan, look, rng, Depth())
    street.fronts()
    street.roadside()
    street.traffic()
    street.feature(spread(FEATURES, pick)[0])

    def haze(z: float) -> None:
        canvas.haze = (low, 1 - math.exp(-density * z))

    street.queue.paint(haze)
    haze(0.0)
    _shade(canvas, camera, plan, look, rng)
    if look.hood:
        _hood(canvas, rng)
    return canvas.finish()


def _background(canvas: Canvas, camera: Camera, rng: Random) -> None:
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


def _ground(canvas: Canvas, camera: Camera, plan: Plan, low: Colour, density: float, rng: Random) -> None:
    width, height, y = canvas.width, canvas.height, camera.horizon
    canvas.haze = (low, density)  # the ground fades row by row, so it takes the density itself
    grass = surface(rng, (0.18, 0.3), (0.3, 0.55), (0.4, 0.6), "grass", depth=0.35)
    canvas.begin("terrain")
    canvas.ground(camera, [(0, y), (width, y), (width, height), (0, height)], grass, 40)
    paving = surface(rng, (0.02, 0.12), (0.02, 0.2), (0.55, 0.8), rng.choice(("tiles", "rough", "tiles")), depth=0.22)
    asphalt = surface(rng, (0.55, 0.7), (0.0, 0.08), (0.26, 0.46), "rough", depth=0.22)
    for kerb, front, verge in zip(plan.kerbs, plan.fronts, plan.verge, strict=True):
        canvas.begin("sidewalk_pavement")
        canvas.ground(camera, _strip(camera, kerb + (front - kerb) * 0.35 * verge, front), paving, 50)
    canvas.begin("road")
    canvas.ground(camera, _strip(camera, *plan.kerbs), asphalt, 30)
    canvas.haze = (low, 0.0)
    _markings(canvas, camera, plan, rng)
    canvas.begin("sidewalk_pavement")
    for edge in plan.kerbs:
        canvas.poly(_strip(camera, edge, edge + math.copysign(0.2, edge)), paving.lit(1.15))


def _markings(canvas: Canvas, camera: Camera, plan: Plan, rng: Random) -> None:
    paint = flat((218, 218, 210))
    canvas.begin("road/marking")
    lane = (plan.kerbs[0] + plan.kerbs[1]) / 2
    z = rng.uniform(1, 4)
    while z < 60:
        canvas.poly(_strip(camera, lane - 0.08, lane + 0.08, z, z + 2.5), paint)
        z += 6
    if rng.random() < 0.2:
        z, x = rng.uniform(6, 14), plan.kerbs[0] + 0.3
        while x < plan.kerbs[1] - 0.5:
            canvas.poly(_strip(camera, x, x + 0.5, z, z + 3), paint)
            x += 1.0


def _strip(camera: Camera, x0: float, x1: float, z0: float = 0.4, z1: float = FAR) -> list[Point]:
    return [camera.project(p) for p in ((x0, 0, z0), (x0, 0, z1), (x1, 0, z1), (x1, 0, z0))]


def _shade(canvas: Canvas, camera: Camera, plan: Plan, look: Look, rng: Random) -> None:
    """The shadow of houses across the road, from one side."""
    strength = 0.8 * rng.uniform(*look.sun)
    side = rng.choice((0, 1))
    reach, edge = plan.kerbs[side] * rng.uniform(-0.3, 0.8), plan.fronts[side]
    z0 = rng.uniform(0.5, 12)
    canvas.shade(_strip(camera, edge, reach, z0, z0 + rng.uniform(5, 40)), 1 - strength, 0.8)


def _hood(canvas: Canvas, rng: Random) -> None:
    width, height = canvas.width, canvas.height
    top = height * rng.uniform(0.9, 0.94)
    arc = [(width * i / 12, top + (height - top) * ((i - 6) / 6) ** 2 * 0.8) for i in range(13)]
    coat = surface(rng, (0.55, 0.65), (0.0, 0.1), (0.1, 0.3), "water", depth=-0.5, zoom=3)
    canvas.begin("ego")
    canvas.poly([*arc, (width, height + 1), (0, height + 1)], coat)
