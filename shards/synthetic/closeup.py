"""Things seen from near, at home: a laid table, a sofa, a chair, a plant, a screen, a pet."""

from __future__ import annotations

import math
from random import Random

from segstream.shards.synthetic import fittings, furniture, indoor, things
from segstream.shards.synthetic.animals import animal
from segstream.shards.synthetic.canvas import Camera, Canvas
from segstream.shards.synthetic.looks import Look
from segstream.shards.synthetic.textures import surface

SUBJECTS = ("bottle", "couch", "chair", "table", "plant", "screen")


def paint_closeup(canvas: Canvas, look: Look, rng: Random, subject: str) -> None:
    """Paint one of SUBJECTS, or a `cat` or `dog` indoors."""
    height = canvas.height
    sides = rng.uniform(1.6, 2.4), rng.uniform(1.6, 2.4)
    room = indoor.Room(-sides[0], sides[1], rng.uniform(2.6, 3.4), 2.6, rng.choice(("living", "dining")))
    camera = Camera(
        focal=rng.uniform(1.15, 1.6) * min(height, canvas.width),
        centre=canvas.width / 2,
        horizon=height * rng.uniform(0.2, 0.4),
        height=rng.uniform(1.0, 1.4),
    )
    indoor.paint_shell(canvas, camera, room, rng)
    if rng.random() < 0.5:
        what = rng.choice(("window", "painting", "shelf", "door"))
        indoor.hang(canvas, camera, room, "back", rng.choice((-1.0, 1.0)), what, rng)
    z, x = rng.uniform(1.6, 2.0), rng.uniform(-0.25, 0.25)
    if subject == "bottle":
        _bottles(canvas, camera, x, rng)
    elif subject == "couch":
        furniture.couch(canvas, camera, (x, z + 0.3), -math.pi / 2 + rng.uniform(-0.3, 0.3), rng)
        if rng.random() < 0.3 and "cat" in look.subjects:
            spot = camera.project((x, 0.42, z + 0.2))
            animal(canvas, spot, camera.size(z) * 1.3, rng.choice(("cat", "dog")), rng)
    elif subject == "chair":
        for i in range(rng.choice((1, 1, 2))):
            furniture.chair(canvas, camera, (x + 0.7 * i, z - 0.2 * i), rng.uniform(-math.pi, math.pi), rng)
    elif subject == "plant":
        things.potted_plant(canvas, camera.project((x, 0, z)), camera.size(z), rng, rng.uniform(0.8, 1.3))
    elif subject == "screen":
        furniture.cupboard(canvas, camera, (x, z + 0.3), (1.3, 0.55, 0.4), rng, "cabinet", 1, 2)
        foot, scale = camera.project((x, 0.55, z + 0.2)), camera.size(z + 0.2)
        wide = rng.uniform(0.5, 0.65) * scale
        screen = (foot[0] - wide, foot[1] - 1.25 * wide, foot[0] + wide, foot[1] - 0.03 * scale)
        things.television(canvas, *screen, rng)
    elif subject == "table":
        fittings.lay_table(canvas, camera, (x, z), rng, "table")
        if rng.random() < 0.5:
            furniture.chair(canvas, camera, (x + 0.3, z - 0.65), math.pi / 2 + rng.uniform(-0.4, 0.4), rng)
    else:
        animal(canvas, camera.project((x, 0, z * 0.85)), camera.size(z * 0.85) * 1.6, subject, rng)


def _bottles(canvas: Canvas, camera: Camera, x: float, rng: Random) -> None:
    near = rng.uniform(0.5, 0.7)
    high = camera.height - rng.uniform(0.2, 0.4)
    cloth = surface(rng, (0, 1), (0.0, 0.4), (0.5, 0.95), "checks", depth=0.15)
    canvas.begin("table")
    corners = [(-3.0, 0.35), (-3.0, near + 0.5), (3.0, near + 0.5), (3.0, 0.35)]
    top = furniture.timber(rng) if rng.random() < 0.7 else cloth
    canvas.poly([camera.project((px, high, pz)) for px, pz in corners], top)
    for i in range(rng.randint(2, 4)):
        z = near + rng.uniform(-0.1, 0.3)
        spot = camera.project((x + (i - 1) * 0.22 + rng.uniform(-0.05, 0.05), high, z))
        paint = things.bottle if i == 0 or rng.random() < 0.5 else rng.choice((things.cup, things.vase))
        paint(canvas, spot, camera.size(z), rng)
    if rng.random() < 0.5:
        place = camera.project((x + rng.choice((-0.4, 0.4)), high, near))
        things.bowl(canvas, place, camera.size(near), rng, True)
