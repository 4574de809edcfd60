"""Everyday pictures: one to three large subjects before a landscape, on a table, or at home."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

from shards.world import craft, furniture, indoor, scenery, things, vehicles
from shards.world.animals import animal, bird
from shards.world.canvas import Camera, Canvas, Scene
from shards.world.looks import Look
from shards.world.people import figure
from shards.world.solids import box, shadow
from shards.world.textures import Material, surface

Painter = Callable[[Canvas, Camera, Look, Random], None]


def paint_everyday(look: Look, rng: Random) -> Scene:
    """One picture."""
    width, height = rng.choice(look.sizes)
    themes: dict[Painter, float] = {
        _road_trip: 0.2,
        _water: 0.12,
        _air: 0.12,
        _rails: 0.08,
        _people: 0.13,
        _nature: 0.06,
    }
    if look.animals:
        themes[_animals] = 0.28 if len(look.animals) > 1 else 0.1
    if rng.random() < 0.24:
        return _close_up(Canvas(width, height, rng), look, rng)
    canvas = Canvas(width, height, rng)
    camera = Camera(
        focal=rng.uniform(*look.focal) * height,
        centre=width / 2,
        horizon=height * rng.uniform(*look.horizon),
        height=rng.uniform(*look.camera_height),
    )
    rng.choices(list(themes), list(themes.values()))[0](canvas, camera, look, rng)
    return canvas.finish()


def _land(
    canvas: Canvas, camera: Camera, rng: Random, kinds: tuple[str, ...] = ("grass", "grass", "dirt", "pavement", "sand")
) -> None:
    """Sky, something along the horizon, and a ground."""
    low = scenery.sky(canvas, camera.horizon, rng)
    height = canvas.height
    if rng.random() < 0.4:
        rocks = surface(rng, (0.05, 0.65), (0.05, 0.3), (0.4, 0.7), "rough", depth=0.3).mixed(low, 0.25)
        scenery.ridge(
            canvas,
            camera.horizon,
            height * rng.uniform(0.1, 0.3),
            rocks,
            rng.choice(("mountain_hill", "mountain_hill/hill")),
            rng,
            20,
        )
    roll = rng.random()
    if roll < 0.55:
        scenery.ridge(
            canvas,
            camera.horizon,
            height * rng.uniform(0.08, 0.22),
            scenery.leaves(rng).mixed(low, 0.12),
            "vegetation",
            rng,
            7,
        )
    elif roll < 0.75:
        town = surface(rng, (0.02, 0.6), (0.05, 0.4), (0.45, 0.85), "checks", depth=0.3, zoom=0.7)
        scenery.ridge(canvas, camera.horizon, height * 0.2, town, "building", rng, 16)
    _floor(canvas, camera, rng, rng.choice(kinds))
    for _ in range(rng.choice((0, 0, 1, 2, 3))):
        z = rng.uniform(9, 25)
        x = rng.uniform(-0.6, 0.6) * z * canvas.width / camera.focal
        foot, scale = camera.project((x, 0, z)), camera.size(z)
        if rng.random() < 0.7:
            scenery.tree(canvas, foot, rng.uniform(3, 7) * scale, rng)
        else:
            scenery.bush(canvas, foot, rng.uniform(1, 5) * scale, rng.uniform(0.6, 1.2) * scale, rng)
    if rng.random() < 0.25:
        z = rng.uniform(7, 12)
        reach = 0.7 * z * canvas.width / camera.focal
        scenery.fence(canvas, camera, (-reach, z), (reach, z), rng)


def _floor(canvas: Canvas, camera: Camera, rng: Random, kind: str) -> None:
    concept, material = {
        "grass": ("terrain", surface(rng, (0.18, 0.32), (0.3, 0.6), (0.35, 0.62), "grass", depth=0.4)),
        "dirt": ("terrain/dirt", surface(rng, (0.06, 0.1), (0.25, 0.5), (0.4, 0.6), "rough", depth=0.35)),
        "sand": ("terrain/sand", surface(rng, (0.09, 0.13), (0.15, 0.4), (0.7, 0.9), "fine", depth=0.15)),
        "snow": ("snow", surface(rng, (0.55, 0.6), (0.0, 0.05), (0.9, 0.98), "rough", depth=0.08)),
        "pavement": ("sidewalk_pavement", surface(rng, (0.02, 0.12), (0.02, 0.15), (0.5, 0.75), "tiles", depth=0.2)),
        "road": ("road", surface(rng, (0.55, 0.7), (0.0, 0.08), (0.28, 0.48), "rough", depth=0.22)),
        "sea": ("sea", surface(rng, (0.5, 0.6), (0.3, 0.6), (0.4, 0.7), "water", depth=-0.4)),
        "lake": ("river_lake", surface(rng, (0.35, 0.55), (0.2, 0.45), (0.3, 0.55), "water", depth=-0.35)),
    }[kind]
    canvas.begin(concept)
    w, h, y = canvas.width, canvas.height, camera.horizon
    canvas.ground(camera, [(0, y), (w, y), (w, h), (0, h)], material, 12 if kind in ("sea", "lake") else 45)


def _reach(canvas: Canvas, camera: Camera, z: float, share: float) -> float:
    """X at distance `z` of a place `share` of the width from the left."""
    return (share * canvas.width - camera.centre) * z / camera.focal


def _animals(canvas: Canvas, camera: Camera, look: Look, rng: Random) -> None:
    species = rng.choice(look.animals)
    _land(canvas, camera, rng, ("grass", "grass", "dirt"))
    tall = {"cat": 0.35, "dog": 0.6, "bird": 0.4, "sheep": 0.9}.get(species, 1.6 if species != "giraffe" else 3.5)
    count = rng.choice((1, 1, 2, 3))
    spots = sorted(
        ((camera.focal * tall / (rng.uniform(0.3, 0.6) * canvas.height), rng.uniform(0.2, 0.8)) for _ in range(count)),
        reverse=True,
    )
    for z, share in spots:
        z = max(z, 1.02 * camera.focal * camera.height / max(canvas.height - camera.horizon, 1))
        foot = camera.project((_reach(canvas, camera, z, share), 0, z))
        animal(canvas, foot, camera.size(z), species, rng)


def _road_trip(canvas: Canvas, camera: Camera, look: Look, rng: Random) -> None:
    """A vehicle seen large, from the side or at an angle."""
    _land(canvas, camera, rng)
    kind = rng.choices(("car", "bus", "truck", "bicycle", "motorcycle"), (0.25, 0.2, 0.12, 0.24, 0.24))[0]
    canvas.begin("road")
    paving = surface(rng, (0.55, 0.7), (0.0, 0.08), (0.28, 0.5), "rough", depth=0.22)
    size = {"car": 4.3, "bus": 10.0, "truck": 7.0, "bicycle": 1.8, "motorcycle": 2.0}[kind]
    yaw = rng.choice((0.0, math.pi)) + rng.uniform(-0.6, 0.6)
    z = camera.focal * size * (0.35 + 0.65 * abs(math.cos(yaw))) / (rng.uniform(0.5, 0.85) * canvas.width)
    z = max(
        z, 1.0 + size * abs(math.sin(yaw)) / 2, camera.focal * camera.height / (0.95 * canvas.height - camera.horizon)
    )
    if rng.random() < 0.8:
        far = z + rng.uniform(1.5, 4)
        canvas.ground(
            camera,
            [
                (0, camera.project((0, 0, far))[1]),
                (canvas.width, camera.project((0, 0, far))[1]),
                (canvas.width, canvas.height),
                (0, canvas.height),
            ],
            paving,
            30,
        )
    at = (_reach(canvas, camera, z, rng.uniform(0.38, 0.62)), z)
    if kind in ("bicycle", "motorcycle"):
        vehicles.two_wheeler(canvas, camera, at, yaw, look, rng, kind)
    else:
        {"car": vehicles.car, "bus": vehicles.bus, "truck": vehicles.truck}[kind](canvas, camera, at, yaw, look, rng)
    if rng.random() < 0.5:
        near = max(z * rng.uniform(0.7, 0.95), 1.5)
        _person(canvas, camera, (_reach(canvas, camera, near, rng.choice((0.15, 0.85))), near), look, rng)


def _person(canvas: Canvas, camera: Camera, at: tuple[float, float], look: Look, rng: Random) -> None:
    shadow(canvas, camera, at, (0.6, 0.5), 0, 0.35)
    canvas.begin("person")
    pose = rng.choice(("stand", "walk"))
    figure(
        canvas,
        camera.project((at[0], 0, at[1])),
        camera.size(at[1]),
        look,
        rng,
        pose=pose,
        facing=rng.choice((-1.0, 1.0)),
    )


def _people(canvas: Canvas, camera: Camera, look: Look, rng: Random) -> None:
    _land(canvas, camera, rng)
    for _ in range(rng.choice((1, 1, 2, 3))):
        z = camera.focal * 1.75 / (rng.uniform(0.45, 0.8) * canvas.height)
        at = (_reach(canvas, camera, z, rng.uniform(0.2, 0.8)), z)
        _person(canvas, camera, at, look, rng)
        foot, scale = camera.project((at[0] + 0.45, 0, z)), camera.size(z)
        roll = rng.random()
        if roll < 0.2:
            things.bag(canvas, foot, scale, rng, rng.choice(("bag", "backpack", "suitcase")))
        elif roll < 0.4:
            canvas.begin("umbrella")
            cloth = surface(rng, (0, 1), look.vivid, (0.4, 0.95), "stripes", depth=0.3)
            x, y = camera.project((at[0] + 0.25, 2.0, z))
            dome = [
                (
                    x + math.cos(math.pi + math.pi * i / 10) * 0.6 * scale,
                    y + math.sin(math.pi + math.pi * i / 10) * 0.4 * scale,
                )
                for i in range(11)
            ]
            canvas.line((x, y), (x, y + 0.9 * scale), max(0.03 * scale, 0.8), Material((60, 60, 60), (60, 60, 60)))
            canvas.poly(dome, cloth)
        elif roll < 0.5 and look.animals and "dog" in look.animals:
            animal(canvas, foot, scale, "dog", rng)
    if rng.random() < 0.3:
        _bench(canvas, camera, rng)


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
        far = (
            scenery.leaves(rng).mixed(low, 0.3)
            if rng.random() < 0.5
            else surface(rng, (0.3, 0.65), (0.1, 0.3), (0.4, 0.7), "rough").mixed(low, 0.3)
        )
        scenery.ridge(canvas, camera.horizon, canvas.height * rng.uniform(0.05, 0.2), far, "mountain_hill", rng, 18)
    _floor(canvas, camera, rng, rng.choice(("sea", "sea", "lake")))
    sizes = sorted(rng.uniform(0.12, 0.65) for _ in range(rng.choice((1, 1, 2, 3))))
    for size in sizes:
        y = camera.horizon + (canvas.height - camera.horizon) * min(size, 0.6) * rng.uniform(0.5, 1.0)
        craft.boat(canvas, (canvas.width * rng.uniform(0.25, 0.75), y), size * canvas.width, look, rng)
    if rng.random() < 0.4:
        y = canvas.height * rng.uniform(0.82, 0.95)
        sand = surface(rng, (0.09, 0.13), (0.15, 0.4), (0.7, 0.9), "fine", depth=0.15)
        canvas.begin("terrain/sand")
        canvas.ground(
            camera,
            [(0, y), (canvas.width, y + rng.uniform(-8, 8)), (canvas.width, canvas.height), (0, canvas.height)],
            sand,
            45,
        )
        if "bird" in look.animals and rng.random() < 0.6:
            bird(
                canvas,
                (canvas.width * rng.uniform(0.2, 0.8), canvas.height * 0.95),
                canvas.height * rng.uniform(0.3, 0.7),
                rng,
            )


def _air(canvas: Canvas, camera: Camera, look: Look, rng: Random) -> None:
    low_horizon = canvas.height * rng.uniform(0.75, 1.0)
    ground = rng.random() < 0.45
    if ground:
        _land(canvas, camera, rng, ("grass", "road", "road"))
        z = rng.uniform(0.45, 0.9) * canvas.width
        y = camera.horizon + (canvas.height - camera.horizon) * rng.uniform(0.1, 0.35)
        craft.airplane(canvas, (canvas.width * rng.uniform(0.4, 0.6), y), z, look, rng)
        return
    scenery.sky(canvas, canvas.height, rng)
    if low_horizon < canvas.height * 0.95:
        scenery.ridge(canvas, canvas.height, canvas.height - low_horizon, scenery.leaves(rng), "vegetation", rng, 8)
    if "bird" in look.animals and rng.random() < 0.35:
        y = canvas.height * rng.uniform(0.5, 0.7)
        canvas.begin("vegetation")
        bark = surface(rng, (0.05, 0.09), (0.2, 0.4), (0.2, 0.4), "wood")
        canvas.line((0, y + 8), (canvas.width, y - 6), canvas.height * 0.05, bark)
        bird(canvas, (canvas.width * rng.uniform(0.3, 0.7), y), canvas.height * rng.uniform(0.8, 1.3), rng)
        return
    for _ in range(rng.choice((1, 1, 1, 2))):
        spot = (canvas.width * rng.uniform(0.3, 0.7), canvas.height * rng.uniform(0.25, 0.65))
        craft.airplane(canvas, spot, canvas.width * rng.uniform(0.35, 0.85), look, rng)


def _rails(canvas: Canvas, camera: Camera, look: Look, rng: Random) -> None:
    _land(canvas, camera, rng, ("grass", "dirt"))
    yaw = rng.choice((0.25, -0.25, math.pi / 2 - 0.25, math.pi / 2 + 0.25, 0.6, -0.6)) + rng.uniform(-0.12, 0.12)
    z = rng.uniform(9, 14)
    at = (_reach(canvas, camera, z, rng.uniform(0.4, 0.6)), z + 8 * abs(math.sin(yaw)))
    cos, sin = math.cos(yaw), math.sin(yaw)
    ballast = surface(rng, (0.05, 0.1), (0.05, 0.2), (0.35, 0.55), "gravel", depth=0.4)
    canvas.begin("railroad")
    corners = [
        (at[0] + u * cos - w * sin, at[1] + u * sin + w * cos)
        for u, w in ((-40, -1.8), (40, -1.8), (40, 1.8), (-40, 1.8))
    ]
    canvas.ground(camera, [camera.project((x, 0, max(zz, 1.0))) for x, zz in corners], ballast, 40)
    vehicles.train(canvas, camera, at, yaw, look, rng)
    if rng.random() < 0.4:
        canvas.begin("platform")
        slab = surface(rng, (0.02, 0.12), (0.0, 0.12), (0.55, 0.75), "tiles")
        y = canvas.height * rng.uniform(0.86, 0.93)
        canvas.ground(camera, [(0, y), (canvas.width, y), (canvas.width, canvas.height), (0, canvas.height)], slab, 40)


def _nature(canvas: Canvas, camera: Camera, look: Look, rng: Random) -> None:
    _land(canvas, camera, rng, ("grass", "sand", "snow", "dirt", "sea", "lake"))
    for _ in range(rng.randint(1, 4)):
        z = rng.uniform(4, 14)
        foot, scale = camera.project((_reach(canvas, camera, z, rng.random()), 0, z)), camera.size(z)
        roll = rng.random()
        if roll < 0.45:
            scenery.tree(
                canvas,
                foot,
                rng.uniform(2.5, 6) * scale,
                rng,
                rng.choice(("vegetation", "vegetation", "vegetation/palm")),
            )
        elif roll < 0.8:
            canvas.begin("rock")
            stone = surface(rng, (0.03, 0.6), (0.0, 0.2), (0.4, 0.7), "rough", depth=0.5)
            size = rng.uniform(0.5, 1.4) * scale
            canvas.poly(scenery.ragged(foot[0], foot[1] - size * 0.4, size * 0.7, rng), stone)
        else:
            scenery.bush(canvas, foot, rng.uniform(1, 2) * scale, rng.uniform(0.5, 1.0) * scale, rng)


def _close_up(canvas: Canvas, look: Look, rng: Random) -> Scene:
    """Something seen from near, at home: a laid table, a sofa, a chair, a plant, a screen, a pet."""
    height = canvas.height
    room = indoor.Room(
        -rng.uniform(1.6, 2.4), rng.uniform(1.6, 2.4), rng.uniform(2.6, 3.4), 2.6, rng.choice(("living", "dining"))
    )
    camera = Camera(
        rng.uniform(1.1, 1.6) * height, canvas.width / 2, height * rng.uniform(0.15, 0.38), rng.uniform(1.1, 1.6)
    )
    indoor.paint_shell(canvas, camera, room, rng)
    subject = rng.choice(("bottles", "bottles", "sofa", "chair", "plant", "screen", "table", "pet"))
    z = rng.uniform(1.9, 2.4)
    x = rng.uniform(-0.3, 0.3)
    if subject == "bottles":
        near = rng.uniform(0.85, 1.2)
        tabletop = furniture.timber(rng)
        high = camera.height - rng.uniform(0.25, 0.45)
        canvas.begin("table")
        corners = [(-3.0, 0.35), (-3.0, near + 0.5), (3.0, near + 0.5), (3.0, 0.35)]
        canvas.poly([camera.project((px, high, pz)) for px, pz in corners], tabletop)
        for i in range(rng.randint(1, 4)):
            spot = camera.project((x + (i - 1) * 0.22 + rng.uniform(-0.05, 0.05), high, near + rng.uniform(-0.1, 0.3)))
            painter = things.bottle if i == 0 or rng.random() < 0.5 else rng.choice((things.cup, things.vase))
            painter(canvas, spot, camera.size(near), rng)
        if rng.random() < 0.5:
            things.bowl(canvas, camera.project((x + rng.choice((-0.4, 0.4)), high, near)), camera.size(near), rng, True)
    elif subject == "sofa":
        furniture.couch(canvas, camera, (x, z + 0.3), -math.pi / 2 + rng.uniform(-0.3, 0.3), rng)
        if rng.random() < 0.4 and len(look.animals) > 1:
            spot = camera.project((x, 0.42, z + 0.2))
            animal(canvas, spot, camera.size(z) * 1.3, rng.choice(("cat", "dog")), rng)
    elif subject == "chair":
        for i in range(rng.choice((1, 1, 2))):
            furniture.chair(canvas, camera, (x + 0.7 * i, z - 0.2 * i), rng.uniform(-math.pi, math.pi), rng)
    elif subject == "plant":
        things.potted_plant(canvas, camera.project((x, 0, z)), camera.size(z), rng, rng.uniform(0.8, 1.3))
    elif subject == "screen":
        furniture.cupboard(canvas, camera, (x, z + 0.3), (1.3, 0.55, 0.4), rng, "cabinet", 1, 2)
        sx, sy = camera.project((x, 0.55, z + 0.2))
        scale = camera.size(z + 0.2)
        things.television(canvas, sx - 0.52 * scale, sy - 0.7 * scale, sx + 0.52 * scale, sy - 0.03 * scale, rng)
    elif subject == "table":
        indoor.lay_table(canvas, camera, (x, z), rng, "table")
        if rng.random() < 0.7:
            furniture.chair(canvas, camera, (x + 0.3, z - 0.65), math.pi / 2 + rng.uniform(-0.4, 0.4), rng)
    elif len(look.animals) > 1:
        animal(canvas, camera.project((x, 0, z)), camera.size(z) * 1.5, rng.choice(("cat", "cat", "dog")), rng)
    else:
        _person(canvas, camera, (x, z + 0.3), look, rng)
    return canvas.finish()
