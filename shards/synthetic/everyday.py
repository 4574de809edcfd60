"""Everyday pictures: one to three large subjects before a landscape."""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random

from segstream.shards.synthetic import craft, furniture, scenery, things, vehicles
from segstream.shards.synthetic.animals import SPECIES, animal, bird
from segstream.shards.synthetic.canvas import Camera, Canvas, Scene
from segstream.shards.synthetic.closeup import SUBJECTS, paint_closeup
from segstream.shards.synthetic.landscape import floor, land
from segstream.shards.synthetic.looks import Look, spread
from segstream.shards.synthetic.people import figure
from segstream.shards.synthetic.solids import box, shadow
from segstream.shards.synthetic.textures import flat, surface

_LENGTHS = {"car": 4.3, "bus": 10.0, "truck": 7.0, "bicycle": 1.8, "motorcycle": 2.0}
_TALL = {"cat": 0.35, "dog": 0.6, "bird": 0.4, "sheep": 0.9, "giraffe": 3.5}


def paint_everyday(look: Look, rng: Random, pick: float) -> Scene:
    """One picture; `pick` (0..1) chooses its subject."""
    width, height = rng.choice(look.sizes)
    canvas = Canvas(width, height, rng)
    camera = Camera(
        focal=rng.uniform(*look.focal) * min(height, width * 1.1),
        centre=width / 2,
        horizon=height * rng.uniform(*look.horizon),
        height=rng.uniform(*look.camera_height),
    )
    subject, rest = spread(look.subjects, pick)
    if subject in SUBJECTS or (subject in ("cat", "dog") and rest < 0.35):
        paint_closeup(canvas, look, rng, subject)
    elif subject == "bird" and rest < 0.5:
        _on_branch(canvas, rng)
    elif subject in SPECIES:
        _animals(canvas, camera, subject, rng)
    elif subject in _LENGTHS:
        _vehicle(canvas, camera, look, rng, subject)
    else:
        {"boat": _water, "airplane": _air, "train": _rails, "person": _people, "nature": _nature}[subject](
            canvas, camera, look, rng
        )
    return canvas.finish()


def _reach(canvas: Canvas, camera: Camera, z: float, share: float) -> float:
    """X at distance `z` of a place `share` of the width from the left."""
    return (share * canvas.width - camera.centre) * z / camera.focal


def _animals(canvas: Canvas, camera: Camera, species: str, rng: Random) -> None:
    tall = _TALL.get(species, 1.6)
    camera = replace(camera, height=min(camera.height, tall * rng.uniform(0.8, 1.6)))  # as one kneels for a cat
    land(canvas, camera, rng, ("grass", "grass", "dirt"))
    nearest = 1.02 * camera.focal * camera.height / max(canvas.height - camera.horizon, 1)
    nearest = max(nearest, camera.focal * tall * 1.6 / (1.05 * canvas.width))  # the whole animal, nose to tail
    sizes = sorted(rng.uniform(0.55, 0.95) for _ in range(rng.choice((1, 2, 2, 3))))
    for size in sizes:
        z = max(camera.focal * tall / (size * canvas.height), nearest)
        foot = camera.project((_reach(canvas, camera, z, rng.uniform(0.25, 0.75)), 0, z))
        animal(canvas, foot, camera.size(z), species, rng)


def _on_branch(canvas: Canvas, rng: Random) -> None:
    """A bird on a branch before the sky."""
    scenery.sky(canvas, canvas.height, rng)
    y, height = canvas.height * rng.uniform(0.55, 0.75), canvas.height
    if rng.random() < 0.5:
        scenery.ridge(canvas, height, height * 0.35, scenery.leaves(rng, 2.0), "vegetation", rng, 10)
    canvas.begin("vegetation")
    bark = surface(rng, (0.05, 0.09), (0.2, 0.4), (0.2, 0.4), "wood")
    canvas.line((0, y + 8), (canvas.width, y - 6), height * 0.05, bark)
    for i in range(rng.choice((1, 1, 2))):
        bird(canvas, (canvas.width * (rng.uniform(0.3, 0.7) - 0.3 * i), y), height * rng.uniform(1.2, 1.8), rng)


def _vehicle(canvas: Canvas, camera: Camera, look: Look, rng: Random, kind: str) -> None:
    """A vehicle seen large, from the side or at an angle."""
    if kind in ("bicycle", "motorcycle", "car"):
        camera = replace(camera, height=min(camera.height, rng.uniform(0.7, 1.3)))
    land(canvas, camera, rng)
    size = _LENGTHS[kind]
    yaw = rng.choice((0.0, math.pi)) + rng.uniform(-0.6, 0.6)
    z = camera.focal * size * (0.35 + 0.65 * abs(math.cos(yaw))) / (rng.uniform(0.75, 1.1) * canvas.width)
    lowest = camera.focal * camera.height / (0.95 * canvas.height - camera.horizon)
    z = max(z, 1.0 + size * abs(math.sin(yaw)) / 2, lowest)
    if rng.random() < 0.7:
        y = camera.project((0, 0, z + rng.uniform(1.5, 4)))[1]
        paving = surface(rng, (0.55, 0.7), (0.0, 0.08), (0.28, 0.5), "rough", depth=0.22)
        canvas.begin("road")
        canvas.ground(camera, _below(canvas, y, y), paving, 30)
    at = (_reach(canvas, camera, z, rng.uniform(0.38, 0.62)), z)
    if kind in ("bicycle", "motorcycle"):
        vehicles.two_wheeler(canvas, camera, at, yaw, look, rng, kind)
    else:
        {"car": vehicles.car, "bus": vehicles.bus, "truck": vehicles.truck}[kind](canvas, camera, at, yaw, look, rng)
    if rng.random() < 0.4:
        near = max(z * rng.uniform(0.7, 0.95), 1.5)
        _person(canvas, camera, (_reach(canvas, camera, near, rng.choice((0.15, 0.85))), near), look, rng)


def _below(canvas: Canvas, left: float, right: float) -> list[tuple[float, float]]:
    return [(0, left), (canvas.width, right), (canvas.width, canvas.height), (0, canvas.height)]


def _person(canvas: Canvas, camera: Camera, at: tuple[float, float], look: Look, rng: Random) -> None:
    shadow(canvas, camera, at, (0.6, 0.5), 0, 0.35)
    canvas.begin("person")
    pose, facing = rng.choice(("stand", "walk")), rng.choice((-1.0, 1.0))
    foot = camera.project((at[0], 0, at[1]))
    figure(canvas, foot, camera.size(at[1]), look, rng, pose=pose, facing=facing)


def _people(canvas: Canvas, camera: Camera, look: Look, rng: Random) -> None:
    land(canvas, camera, rng)
    if rng.random() < 0.3:
        _bench(canvas, camera, rng)
    for _ in range(rng.choice((1, 1, 2, 3))):
        z = camera.focal * 1.75 / (rng.uniform(0.75, 1.2) * canvas.height)
        at = (_reach(canvas, camera, z, rng.uniform(0.2, 0.8)), z)
        _person(canvas, camera, at, look, rng)
        foot, scale = camera.project((at[0] + 0.45, 0, z)), camera.size(z)
        roll = rng.random()
        if roll < 0.2:
            things.bag(canvas, foot, scale, rng, rng.choice(("bag", "backpack", "suitcase")))
        elif roll < 0.4:
            things.umbrella(canvas, camera.project((at[0] + 0.25, 2.0, z)), scale, rng)
        elif roll < 0.5 and "dog" in look.subjects:
            animal(canvas, foot, scale, "dog", rng)


def _bench(canvas: Canvas, camera: Camera, rng: Random) -> None:
    z = rng.uniform(4, 7)
    at = (_reach(canvas, camera, z, rng.uniform(0.2, 0.8)), z)
    wood = furniture.timber(rng)
    shadow(canvas, camera, at, (1.6, 0.5), 0, 0.4)
    canvas.begin("bench")
    for side in (-0.6, 0.6):
        box(canvas, camera, (at[0] + side, z), (0.08, 0.42, 0.4), scenery.METAL)
    box(canvas, camera, (at[0], z + 0.2), (1.6, 0.35, 0.05), wood, base=0.5)
    box(canvas, camera, at, (1.6, 0.06, 0.45), wood, base=0.4)


def _water(canvas: Canvas, camera: Camera, look: Look, rng: Random) -> None:
    low = scenery.sky(canvas, camera.horizon, rng)
    if rng.random() < 0.6:
        woods = rng.random() < 0.5
        far = scenery.leaves(rng) if woods else surface(rng, (0.3, 0.65), (0.1, 0.3), (0.4, 0.7), "rough")
        height = canvas.height * rng.uniform(0.05, 0.2)
        concept = "vegetation" if woods else "mountain_hill"
        scenery.ridge(canvas, camera.horizon, height, far.mixed(low, 0.3), concept, rng, 18)
    floor(canvas, camera, rng, rng.choice(("sea", "sea", "lake")))
    for size in sorted(rng.uniform(0.55, 0.95) for _ in range(rng.choice((1, 1, 2)))):
        y = camera.horizon + (canvas.height - camera.horizon) * min(size, 0.6) * rng.uniform(0.5, 1.0)
        craft.boat(canvas, (canvas.width * rng.uniform(0.3, 0.7), y), size * canvas.width, look, rng)
    if rng.random() < 0.3:
        y = canvas.height * rng.uniform(0.82, 0.95)
        _shore(canvas, camera, y, rng)
        if "bird" in look.subjects and rng.random() < 0.5:
            size = canvas.height * rng.uniform(0.3, 0.7)
            bird(canvas, (canvas.width * rng.uniform(0.2, 0.8), canvas.height * 0.95), size, rng)


def _shore(canvas: Canvas, camera: Camera, y: float, rng: Random) -> None:
    sand = surface(rng, (0.09, 0.13), (0.15, 0.4), (0.7, 0.9), "fine", depth=0.15)
    canvas.begin("terrain/sand")
    canvas.ground(camera, _below(canvas, y, y + rng.uniform(-8, 8)), sand, 45)


def _air(canvas: Canvas, camera: Camera, look: Look, rng: Random) -> None:
    """An airliner on the ground or in the air."""
    width, height = canvas.width, canvas.height
    if rng.random() < 0.4:
        land(canvas, camera, rng, ("grass", "road", "road"))
        y = camera.horizon + (height - camera.horizon) * rng.uniform(0.1, 0.35)
        craft.airplane(canvas, (width * rng.uniform(0.4, 0.6), y), rng.uniform(0.85, 1.1) * width, look, rng)
        return
    scenery.sky(canvas, height, rng)
    if rng.random() < 0.5:
        scenery.ridge(canvas, height, height * rng.uniform(0.05, 0.25), scenery.leaves(rng), "vegetation", rng, 8)
    for _ in range(rng.choice((1, 1, 1, 2))):
        spot = (width * rng.uniform(0.3, 0.7), height * rng.uniform(0.25, 0.65))
        craft.airplane(canvas, spot, width * rng.uniform(0.75, 1.1), look, rng)


def _rails(canvas: Canvas, camera: Camera, look: Look, rng: Random) -> None:
    """A train in the country, along the picture or coming round towards it."""
    land(canvas, camera, rng, ("grass", "dirt"))
    slant = rng.choice((0.25, -0.25, math.pi / 2 - 0.25, math.pi / 2 + 0.25, 0.6, -0.6))
    yaw = slant + rng.uniform(-0.12, 0.12)
    z = rng.uniform(6, 10)
    at = (_reach(canvas, camera, z, rng.uniform(0.4, 0.6)), z + 8 * abs(math.sin(yaw)))
    cos, sin = math.cos(yaw), math.sin(yaw)
    ballast = surface(rng, (0.05, 0.1), (0.05, 0.2), (0.35, 0.55), "gravel", depth=0.4)
    ends = ((-40, -1.8), (40, -1.8), (40, 1.8), (-40, 1.8))
    corners = [(at[0] + u * cos - w * sin, 0.0, max(at[1] + u * sin + w * cos, 1.0)) for u, w in ends]
    canvas.begin("railroad")
    canvas.ground(camera, [camera.project(p) for p in corners], ballast, 40)
    vehicles.train(canvas, camera, at, yaw, look, rng)
    if rng.random() < 0.4:
        y = canvas.height * rng.uniform(0.86, 0.93)
        slab = surface(rng, (0.02, 0.12), (0.0, 0.12), (0.55, 0.75), "tiles")
        canvas.begin("platform")
        canvas.ground(camera, _below(canvas, y, y), slab, 40)


def _nature(canvas: Canvas, camera: Camera, look: Look, rng: Random) -> None:
    ground = land(canvas, camera, rng, ("grass", "sand", "snow", "dirt", "sea", "lake"))
    if ground in ("sea", "lake"):
        _shore(canvas, camera, canvas.height * rng.uniform(0.65, 0.85), rng)
    for _ in range(rng.randint(1, 4)):
        z = rng.uniform(2.5, 12) if ground not in ("sea", "lake") else rng.uniform(2.2, 3.2)
        foot, scale = camera.project((_reach(canvas, camera, z, rng.random()), 0, z)), camera.size(z)
        roll = rng.random()
        if roll < 0.45:
            kind = rng.choice(("vegetation", "vegetation", "vegetation/palm"))
            scenery.tree(canvas, foot, rng.uniform(2.5, 6) * scale, rng, kind)
        elif roll < 0.8:
            canvas.begin("rock")
            stone = surface(rng, (0.03, 0.6), (0.0, 0.2), (0.4, 0.7), "rough", depth=0.5)
            size = rng.uniform(0.5, 1.4) * scale
            canvas.poly(scenery.ragged(foot[0], foot[1] - size * 0.4, size * 0.7, rng), stone)
        else:
            scenery.bush(canvas, foot, rng.uniform(1, 2) * scale, rng.uniform(0.5, 1.0) * scale, rng)
    if rng.random() < 0.2:
        z = rng.uniform(3, 6)
        canvas.begin("tent")
        cloth = surface(rng, (0, 1), look.vivid, (0.5, 0.9), "folds", depth=0.2)
        x = _reach(canvas, camera, z, rng.uniform(0.25, 0.75))
        ridge = [camera.project(p) for p in ((x - 1.2, 0, z), (x + 0.2, 0, z), (x - 0.5, 1.5, z))]
        flap = [
            camera.project(p) for p in ((x + 0.2, 0, z), (x + 1.5, 0, z + 1), (x + 0.7, 1.5, z + 1), (x - 0.5, 1.5, z))
        ]
        canvas.poly(flap, cloth.lit(0.75))
        canvas.poly(ridge, cloth)
        canvas.poly(
            [camera.project(p) for p in ((x - 0.8, 0, z), (x - 0.3, 0, z), (x - 0.5, 0.9, z))], flat((40, 35, 30))
        )
