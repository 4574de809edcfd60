"""Aeroplanes and boats, in profile."""

from __future__ import annotations

from random import Random

from segstream.shards.synthetic.canvas import Canvas, Point
from segstream.shards.synthetic.looks import Look
from segstream.shards.synthetic.textures import Material, flat, surface, usual


def airplane(canvas: Canvas, centre: Point, length: float, look: Look, rng: Random) -> None:
    """An airliner `length` pixels long: hull, fin, wings, engine, windows."""
    side, climb = rng.choice((-1.0, 1.0)), rng.uniform(-0.05, 0.25)
    hull = surface(rng, (0.5, 0.65), (0.0, 0.08), (0.65, 0.97))
    livery = surface(rng, usual(rng, (0.58, 0.66)), look.vivid, (0.3, 0.85))

    def px(along: float, up: float) -> Point:
        return (centre[0] + along * side * length, centre[1] - (up + along * climb) * length)

    canvas.begin("airplane")
    canvas.poly([px(0.08, 0.02), px(-0.1, 0.18), px(-0.17, 0.18), px(-0.08, 0.02)], hull.lit(0.65))
    body = [
        (-0.5, 0.03),
        (-0.38, -0.035),
        (0.4, -0.05),
        (0.47, -0.03),
        (0.5, 0.0),
        (0.45, 0.035),
        (0.38, 0.05),
        (-0.4, 0.05),
    ]
    canvas.poly([px(*p) for p in body], hull)
    canvas.poly([px(-0.38, -0.035), px(0.4, -0.05), px(0.47, -0.03), px(0.2, -0.02), px(-0.4, -0.01)], hull.lit(0.75))
    canvas.poly([px(-0.5, 0.22), px(-0.43, 0.22), px(-0.32, 0.045), px(-0.47, 0.035)], livery)
    canvas.poly([px(-0.52, 0.06), px(-0.58, 0.09), px(-0.5, 0.03), px(-0.4, 0.02)], hull.lit(0.7))
    if rng.random() < 0.7:
        canvas.poly([px(-0.4, 0.0), px(0.44, -0.005), px(0.47, -0.02), px(-0.38, -0.02)], livery)
    for i in range(14):
        canvas.ellipse(*px(-0.32 + 0.05 * i, 0.022), 0.009 * length, 0.012 * length, flat((50, 60, 75)))
    canvas.poly([px(0.42, 0.035), px(0.465, 0.025), px(0.48, 0.012), px(0.43, 0.012)], flat((40, 50, 65)))
    canvas.poly([px(0.1, -0.02), px(-0.16, -0.17), px(-0.25, -0.17), px(-0.1, -0.02)], hull.lit(0.88))
    canvas.line(px(0.04, -0.085), px(-0.1, -0.085), 0.05 * length, livery, 0.8)


def boat(canvas: Canvas, waterline: Point, length: float, look: Look, rng: Random) -> None:
    """A sailing boat, a motor boat or a ship, `length` pixels long."""
    x, y = waterline
    side = rng.choice((-1.0, 1.0))
    hull = surface(rng, usual(rng, (0.02, 0.1)), look.vivid, (0.4, 0.9), rng.choice(("plain", "planks")), depth=0.2)

    def px(along: float, up: float) -> Point:
        return (x + along * side * length, y - up * length)

    canvas.shade([px(-0.5, 0.0), px(0.5, 0.0), px(0.42, -0.1), px(-0.42, -0.1)], 0.6, 0.02 * length)
    canvas.begin("boat_ship")
    style = rng.random()
    white = surface(rng, (0.1, 0.6), (0.0, 0.08), (0.82, 0.98), "folds", depth=0.1)
    if style < 0.45:
        mast = 0.0
        canvas.line(px(mast, 0.1), px(mast, 1.0), max(0.02 * length, 0.9), Material((150, 130, 100), (90, 80, 60)))
        cloth = white if rng.random() < 0.6 else surface(rng, (0, 1), look.vivid, (0.5, 0.95))
        canvas.poly([px(mast - 0.02, 0.97), px(mast - 0.02, 0.2), px(mast - 0.42, 0.2)], cloth)
        canvas.poly([px(mast + 0.03, 0.85), px(mast + 0.03, 0.22), px(mast + 0.42, 0.18)], white.lit(0.92))
    elif style < 0.75:
        canvas.poly([px(-0.3, 0.13), px(0.12, 0.13), px(0.06, 0.34), px(-0.28, 0.34)], white)
        canvas.poly(
            [px(-0.24, 0.2), px(0.07, 0.2), px(0.04, 0.3), px(-0.24, 0.3)], Material((55, 70, 90), (30, 40, 55))
        )
        canvas.line(px(-0.1, 0.34), px(-0.12, 0.52), max(0.015 * length, 0.8), flat((200, 200, 200)))
    else:
        for i in range(3):
            inset = 0.06 * i
            canvas.poly(
                [
                    px(-0.4 + inset, 0.13 + 0.09 * i),
                    px(0.3 - 2 * inset, 0.13 + 0.09 * i),
                    px(0.28 - 2 * inset, 0.22 + 0.09 * i),
                    px(-0.4 + inset, 0.22 + 0.09 * i),
                ],
                white.lit(1 - 0.06 * i),
            )
            for j in range(7):
                canvas.ellipse(
                    *px(-0.32 + inset + 0.075 * j, 0.175 + 0.09 * i),
                    0.014 * length,
                    0.014 * length,
                    flat((40, 55, 75)),
                )
        canvas.poly(
            [px(-0.18, 0.4), px(-0.04, 0.4), px(-0.06, 0.54), px(-0.18, 0.54)],
            surface(rng, (0, 1), (0.5, 0.9), (0.4, 0.8)),
        )
    canvas.poly([px(-0.48, 0.15), px(0.52, 0.18), px(0.4, 0.0), px(-0.42, 0.0)], hull)
    canvas.poly([px(-0.43, 0.035), px(0.43, 0.04), px(0.4, 0.0), px(-0.42, 0.0)], hull.lit(0.55))
