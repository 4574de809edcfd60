"""Small things, painted upright at a pixel: `scale` is pixels per metre there, `foot` where they stand."""

from __future__ import annotations

import math
from random import Random

from segstream.shards.synthetic.canvas import Canvas, Point
from segstream.shards.synthetic.scenery import leaves, ragged
from segstream.shards.synthetic.textures import flat, surface, usual


def bottle(canvas: Canvas, foot: Point, scale: float, rng: Random) -> None:
    """A bottle of glass or plastic with a label."""
    x, y = foot
    h, r = rng.uniform(0.24, 0.33) * scale, rng.uniform(0.035, 0.048) * scale
    glass = surface(rng, usual(rng, (0.28, 0.4)), (0.5, 0.85), (0.25, 0.6), "folds", depth=0.3, zoom=0.7)
    paper = surface(rng, (0, 1), (0.0, 0.7), (0.6, 0.95))
    canvas.begin("bottle")
    neck = r * 0.38
    outline = [
        (x - r, y),
        (x + r, y),
        (x + r, y - 0.58 * h),
        (x + neck, y - 0.76 * h),
        (x + neck, y - h),
        (x - neck, y - h),
    ]
    canvas.poly([*outline, (x - neck, y - 0.76 * h), (x - r, y - 0.58 * h)], glass)
    canvas.rect(x - r, y - 0.48 * h, x + r, y - 0.18 * h, paper)
    canvas.rect(x - neck * 1.2, y - h, x + neck * 1.2, y - 0.93 * h, paper.lit(0.7))
    canvas.shade([(x + r * 0.4, y), (x + r, y), (x + r, y - 0.58 * h), (x + r * 0.4, y - 0.6 * h)], 0.75)


def cup(canvas: Canvas, foot: Point, scale: float, rng: Random) -> None:
    """A mug."""
    x, y, r, h = foot[0], foot[1], 0.045 * scale, 0.1 * scale
    clay = surface(rng, (0, 1), (0.0, 0.7), (0.4, 0.97))
    canvas.begin("cup")
    canvas.ellipse(x + r * 1.1, y - h * 0.5, r * 0.55, h * 0.32, clay.lit(0.8))
    canvas.poly([(x - r * 0.85, y), (x + r * 0.85, y), (x + r, y - h), (x - r, y - h)], clay)
    canvas.ellipse(x, y - h, r, r * 0.3, clay.lit(0.5))


def bowl(canvas: Canvas, foot: Point, scale: float, rng: Random, fruit: bool) -> None:
    """A bowl, perhaps of fruit."""
    x, y, r = foot[0], foot[1], 0.13 * scale
    if fruit:
        kind = rng.choice(("apple", "orange", "banana"))
        for i in range(4):
            canvas.begin(kind)
            centre = (x + (i - 1.5) * r * 0.42, y - r * 0.75)
            if kind == "banana":
                canvas.ellipse(
                    *centre,
                    r * 0.6,
                    r * 0.16,
                    surface(rng, (0.13, 0.15), (0.7, 0.9), (0.8, 0.95)),
                    rng.uniform(-0.5, 0.5),
                )
            else:
                hues = (0.07, 0.09) if kind == "orange" else rng.choice(((0.97, 1.0), (0.22, 0.28)))
                canvas.ellipse(
                    *centre, r * 0.33, r * 0.33, surface(rng, hues, (0.7, 0.9), (0.6, 0.95), "fine", depth=0.15)
                )
    canvas.begin("bowl")
    clay = surface(rng, (0, 1), (0.0, 0.5), (0.5, 0.95))
    canvas.poly([(x - r, y - r * 0.6), (x + r, y - r * 0.6), (x + r * 0.5, y), (x - r * 0.5, y)], clay)


def vase(canvas: Canvas, foot: Point, scale: float, rng: Random) -> None:
    """A vase with flowers."""
    x, y, h = foot[0], foot[1], rng.uniform(0.2, 0.3) * scale
    canvas.begin("vegetation/flower")
    for _ in range(6):
        a, far = rng.uniform(-2.4, -0.7), rng.uniform(0.7, 1.1) * h
        tip = (x + math.cos(a) * far * 0.7, y - h * 0.9 + math.sin(a) * far)
        canvas.line((x, y - h * 0.9), tip, max(h * 0.05, 0.7), surface(rng, (0.25, 0.35), (0.4, 0.7), (0.3, 0.5)))
        canvas.poly(
            ragged(*tip, h * 0.2, rng),
            surface(rng, rng.choice(((0.95, 1.05), (0.12, 0.16), (0.75, 0.9))), (0.3, 0.9), (0.7, 0.98)),
        )
    canvas.begin("vase")
    clay = surface(rng, (0, 1), (0.1, 0.7), (0.35, 0.9))
    canvas.poly(
        [
            (x - h * 0.14, y),
            (x + h * 0.14, y),
            (x + h * 0.26, y - h * 0.55),
            (x + h * 0.12, y - h),
            (x - h * 0.12, y - h),
            (x - h * 0.26, y - h * 0.55),
        ],
        clay,
    )


def potted_plant(canvas: Canvas, foot: Point, scale: float, rng: Random, height: float | None = None) -> None:
    """Leaves in a pot."""
    x, y = foot
    h = (height or rng.uniform(0.5, 1.2)) * scale
    pot, r = min(0.32 * h, 0.32 * scale), min(0.2 * h, 0.2 * scale)
    green = surface(rng, (0.26, 0.36), (0.6, 0.9), (0.35, 0.65), "folds", depth=0.5, zoom=0.6)
    canvas.begin("potted_plant/leaves")
    if rng.random() < 0.55:
        for i in range(11):
            a = -math.pi * (0.12 + 0.76 * i / 10) + rng.uniform(-0.1, 0.1)
            far = (h - pot) * rng.uniform(0.75, 1.05)
            middle = (x + math.cos(a) * far * 0.45, y - pot + math.sin(a) * far * 0.5)
            tip = (x + math.cos(a) * far * 0.75, y - pot + math.sin(a) * far)
            tone = green.lit(rng.uniform(0.75, 1.2))
            canvas.line((x, y - pot), middle, h * 0.06, tone, 1.8)
            canvas.line(middle, tip, h * 0.11, tone, 0.15)
    else:
        canvas.line((x, y - pot), (x, y - h * 0.7), h * 0.04, green.lit(0.6))
        for _ in range(6):
            centre = (x + rng.uniform(-0.2, 0.2) * h, y - rng.uniform(0.5, 0.85) * h)
            canvas.poly(ragged(*centre, h * rng.uniform(0.13, 0.2), rng), leaves(rng, 0.8).lit(rng.uniform(0.8, 1.2)))
    canvas.begin("potted_plant", part=True)
    clay = surface(rng, usual(rng, (0.02, 0.06)), (0.5, 0.8), (0.5, 0.85), "fine", depth=0.15)
    canvas.poly([(x - r * 0.7, y), (x + r * 0.7, y), (x + r, y - pot), (x - r, y - pot)], clay)
    canvas.rect(x - r * 1.1, y - pot, x + r * 1.1, y - pot * 0.8, clay.lit(0.85))


def lamp(canvas: Canvas, foot: Point, scale: float, rng: Random, height: float) -> None:
    """A lamp with a shade, on a table (0.5 m) or the floor (1.6 m)."""
    x, y, h = foot[0], foot[1], height * scale
    r = min(0.2 * scale, 0.42 * h)
    canvas.begin("lamp")
    metal = surface(rng, (0.08, 0.14), (0.1, 0.6), (0.2, 0.7))
    canvas.ellipse(x, y, r * 0.6, r * 0.18, metal)
    canvas.line((x, y), (x, y - h * 0.8), max(0.035 * scale, 1.0), metal)
    glow = surface(rng, (0.1, 0.14), (0.1, 0.4), (0.93, 1.0))
    tall = min(0.3 * scale, 0.5 * h)
    canvas.poly([(x - r, y - h + tall), (x + r, y - h + tall), (x + r * 0.6, y - h), (x - r * 0.6, y - h)], glow)


def television(canvas: Canvas, x0: float, y0: float, x1: float, y1: float, rng: Random, *, stand: bool = False) -> None:
    """A screen, dark or showing something; with `stand` it belongs to what was painted before."""
    canvas.begin("television", part=stand)
    canvas.rect(x0, y0, x1, y1, flat((26, 26, 28)))
    edge = max((x1 - x0) * 0.05, 0.8)
    if rng.random() < 0.4:
        sight = surface(rng, (0.5, 0.7), (0.1, 0.6), (0.35, 0.9), "cloud", depth=0.5)
        canvas.rect(x0 + edge, y0 + edge, x1 - edge, y1 - edge, sight)
    else:
        canvas.backdrop(
            [(x0 + edge, y0 + edge), (x1 - edge, y0 + edge), (x1 - edge, y1 - edge), (x0 + edge, y1 - edge)],
            (75, 80, 90),
            (30, 32, 38),
        )


def laptop(canvas: Canvas, foot: Point, scale: float, rng: Random) -> None:
    """An open laptop."""
    x, y, w = foot[0], foot[1], 0.18 * scale
    shell = surface(rng, (0.5, 0.7), (0.0, 0.1), (0.3, 0.85))
    canvas.begin("laptop")
    canvas.rect(x - w, y - w * 1.35, x + w, y - w * 0.1, shell.lit(0.6))
    canvas.rect(
        x - w * 0.9,
        y - w * 1.25,
        x + w * 0.9,
        y - w * 0.25,
        surface(rng, (0.5, 0.7), (0.1, 0.7), (0.5, 0.95), "cloud", depth=0.4),
    )
    canvas.poly(
        [(x - w, y - w * 0.1), (x + w, y - w * 0.1), (x + w * 1.15, y + w * 0.3), (x - w * 1.15, y + w * 0.3)], shell
    )


def bag(canvas: Canvas, foot: Point, scale: float, rng: Random, concept: str = "bag") -> None:
    """A handbag, or by concept a backpack or a suitcase."""
    x, y = foot
    w, h = {"bag": (0.18, 0.26), "backpack": (0.17, 0.45), "suitcase": (0.24, 0.62)}[concept]
    w, h = w * scale, h * scale
    skin = surface(rng, (0, 1), (0.1, 0.8), (0.15, 0.8), "leather" if concept == "bag" else "fine", depth=0.25)
    canvas.begin(concept)
    canvas.line((x - w * 0.5, y - h), (x - w * 0.3, y - h * 1.35), max(w * 0.12, 0.8), skin.lit(0.6))
    canvas.line((x + w * 0.5, y - h), (x + w * 0.3, y - h * 1.35), max(w * 0.12, 0.8), skin.lit(0.6))
    canvas.line((x - w * 0.35, y - h * 1.33), (x + w * 0.35, y - h * 1.33), max(w * 0.14, 0.8), skin.lit(0.6))
    canvas.poly([(x - w, y), (x + w, y), (x + w * 0.85, y - h), (x - w * 0.85, y - h)], skin)
    canvas.rect(x - w * 0.6, y - h * 0.5, x + w * 0.6, y - h * 0.12, skin.lit(0.8))


def carton(canvas: Canvas, foot: Point, scale: float, rng: Random) -> None:
    """A cardboard box with tape."""
    x, y, w, h = foot[0], foot[1], rng.uniform(0.15, 0.3) * scale, rng.uniform(0.2, 0.4) * scale
    board = surface(rng, (0.07, 0.1), (0.35, 0.5), (0.55, 0.75), "fine", depth=0.1)
    canvas.begin("box")
    canvas.poly([(x - w, y), (x + w * 0.8, y), (x + w * 0.8, y - h), (x - w, y - h)], board)
    canvas.poly(
        [(x + w * 0.8, y), (x + w * 1.2, y - h * 0.25), (x + w * 1.2, y - h * 1.2), (x + w * 0.8, y - h)],
        board.lit(0.7),
    )
    canvas.poly(
        [(x - w, y - h), (x + w * 0.8, y - h), (x + w * 1.2, y - h * 1.2), (x - w * 0.6, y - h * 1.2)], board.lit(1.15)
    )
    canvas.rect(x - w * 0.2, y - h, x, y, board.lit(0.85))


def umbrella(canvas: Canvas, rim: Point, scale: float, rng: Random) -> None:
    """An open umbrella held up; `rim` is the middle of its lower edge."""
    x, y = rim
    cloth = surface(rng, (0, 1), (0.3, 0.9), (0.4, 0.95), "stripes", depth=0.3)
    arc = [math.pi + math.pi * i / 10 for i in range(11)]
    canvas.begin("umbrella")
    canvas.line((x, y), (x, y + 0.9 * scale), max(0.03 * scale, 0.8), flat((60, 60, 60)))
    canvas.poly([(x + math.cos(a) * 0.6 * scale, y + math.sin(a) * 0.4 * scale) for a in arc], cloth)
