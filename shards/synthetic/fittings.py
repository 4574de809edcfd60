"""Furniture with what stands on it or belongs to it."""

from __future__ import annotations

import math
from random import Random

from segstream.shards.synthetic import furniture, things
from segstream.shards.synthetic.canvas import Camera, Canvas
from segstream.shards.synthetic.furniture import Floor
from segstream.shards.synthetic.solids import box
from segstream.shards.synthetic.textures import Material, flat, surface


def wall_piece(canvas: Canvas, camera: Camera, at: Floor, kind: str, rng: Random) -> None:
    """Something that stands against the back wall."""
    foot, scale = camera.project((at[0], 0, at[1])), camera.size(at[1])
    match kind:
        case "plant":
            things.potted_plant(canvas, foot, scale, rng)
        case "lamp":
            things.lamp(canvas, foot, scale, rng, 1.6)
        case "bookcase":
            furniture.bookcase(canvas, camera, at, rng)
        case "chair":
            furniture.chair(canvas, camera, at, -math.pi / 2 + rng.uniform(-0.6, 0.6), rng)
        case "box":
            things.carton(canvas, foot, scale, rng)
        case "screen":
            furniture.cupboard(canvas, camera, at, (1.2, 0.5, 0.4), rng, "cabinet", 1, 2)
            x, y = camera.project((at[0], 0.5, at[1]))
            things.television(canvas, x - 0.5 * scale, y - 0.62 * scale, x + 0.5 * scale, y - 0.03 * scale, rng)
        case "wardrobe":
            furniture.cupboard(canvas, camera, at, (1.2, 2.1, 0.6), rng, kind, 1, 2)
        case "chest_of_drawers":
            furniture.cupboard(canvas, camera, at, (0.9, 0.95, 0.45), rng, kind, 4, 1)
        case _:
            furniture.cupboard(canvas, camera, at, (1.1, rng.uniform(0.8, 1.7), 0.45), rng, kind, 2, 2)


def nightstand(canvas: Canvas, camera: Camera, at: Floor, rng: Random) -> None:
    """A bedside cabinet, perhaps with a lamp."""
    furniture.cupboard(canvas, camera, at, (0.5, 0.55, 0.4), rng, "nightstand", 2, 1)
    if rng.random() < 0.7:
        things.lamp(canvas, camera.project((at[0], 0.55, at[1])), camera.size(at[1]), rng, 0.5)


def lay_table(canvas: Canvas, camera: Camera, at: Floor, rng: Random, concept: str) -> None:
    """A table with bottles, cups, fruit or flowers on it."""
    high = furniture.table(canvas, camera, at, rng.uniform(-0.15, 0.15), rng, concept)
    scale = camera.size(at[1])
    for shift in (-0.4, -0.1, 0.2, 0.45):
        foot = camera.project((at[0] + shift, high, at[1] + rng.uniform(-0.15, 0.15)))
        roll = rng.random()
        if roll < 0.3:
            things.bottle(canvas, foot, scale, rng)
        elif roll < 0.45:
            things.cup(canvas, foot, scale, rng)
        elif roll < 0.6:
            things.bowl(canvas, foot, scale, rng, True)
        elif roll < 0.72:
            things.vase(canvas, foot, scale, rng)


def work_desk(canvas: Canvas, camera: Camera, at: Floor, rng: Random) -> None:
    """A desk with a computer and perhaps a lamp."""
    high = furniture.table(canvas, camera, at, 0.0, rng, "desk")
    foot, scale = camera.project((at[0] - 0.2, high, at[1])), camera.size(at[1])
    if rng.random() < 0.5:
        things.laptop(canvas, foot, scale, rng)
    else:
        canvas.begin("television")
        canvas.rect(
            foot[0] - 0.06 * scale,
            foot[1] - 0.12 * scale,
            foot[0] + 0.06 * scale,
            foot[1],
            flat((40, 40, 42)),
        )
        things.television(
            canvas,
            foot[0] - 0.3 * scale,
            foot[1] - 0.5 * scale,
            foot[0] + 0.3 * scale,
            foot[1] - 0.1 * scale,
            rng,
            stand=True,
        )
    if rng.random() < 0.5:
        things.lamp(canvas, camera.project((at[0] + 0.45, high, at[1])), scale, rng, 0.45)


def wall_cupboards(canvas: Canvas, camera: Camera, at: Floor, rng: Random) -> None:
    """A kitchen's upper row of fronts."""
    x, front = at[0], at[1] - 0.17
    wood = furniture.timber(rng)
    canvas.begin("cabinet")
    box(canvas, camera, at, (1.8, 0.65, 0.34), wood, base=1.45)
    for i in range(4):
        door = [
            camera.project((x - 0.88 + 0.45 * i + s, y, front))
            for s, y in ((0, 1.48), (0.41, 1.48), (0.41, 2.07), (0, 2.07))
        ]
        canvas.poly(door, wood.lit(0.85))


def refrigerator(canvas: Canvas, camera: Camera, at: Floor, rng: Random) -> None:
    """A refrigerator."""
    shell = surface(rng, (0.5, 0.65), (0.0, 0.08), rng.choice(((0.85, 0.97), (0.5, 0.7))), "water", depth=0.06, zoom=2)
    furniture.cupboard(canvas, camera, at, (0.75, rng.uniform(1.6, 1.9), 0.66), rng, "refrigerator", 2, 1, shell)


def oven(canvas: Canvas, camera: Camera, at: Floor, rng: Random) -> None:
    """A cooker: oven door and knobs."""
    shell = surface(rng, (0.5, 0.65), (0.0, 0.06), rng.choice(((0.85, 0.97), (0.2, 0.35))))
    canvas.begin("oven")
    box(canvas, camera, at, (0.62, 0.88, 0.62), shell)
    front = at[1] - 0.31
    door = [camera.project((at[0] + a, y, front)) for a, y in ((-0.25, 0.2), (0.25, 0.2), (0.25, 0.62), (-0.25, 0.62))]
    canvas.poly(door, Material((25, 25, 28), (45, 45, 48), "water"))
    for i in range(4):
        x, y = camera.project((at[0] - 0.21 + 0.14 * i, 0.77, front))
        r = 0.035 * camera.size(front)
        canvas.ellipse(x, y, r, r, flat((90, 90, 92)))
