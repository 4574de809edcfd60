"""People: a head, a torso and four limbs, dressed at random."""

from __future__ import annotations

import math
from random import Random

from segstream.shards.synthetic.canvas import Canvas, Point
from segstream.shards.synthetic.looks import Look
from segstream.shards.synthetic.textures import flat, surface

_SKIN = ((236, 200, 176), (205, 160, 125), (150, 105, 75), (95, 62, 45))
_HAIR = ((30, 24, 20), (75, 50, 30), (150, 110, 60), (120, 120, 120), (200, 190, 175))


def figure(
    canvas: Canvas,
    foot: Point,
    scale: float,
    look: Look,
    rng: Random,
    *,
    pose: str = "stand",
    facing: float = 1.0,
    helmet: bool = False,
    height: float | None = None,
) -> None:
    """Paint a person in the current segment.

    Args:
        foot: pixel between the feet (for `ride` and `sit`: on the ground under the seat).
        scale: pixels per metre.
        pose: `stand`, `walk`, `ride` or `sit`.
        facing: 1 looks right, -1 left.
        helmet: wears one.
        height: metres; drawn if None.
    """
    tall = height or rng.uniform(1.55, 1.9)
    unit = scale * tall / 1.75
    skin = flat(rng.choice(_SKIN))
    shirt = surface(
        rng, (0, 1), (0.0, look.vivid[1]), (0.15, 0.95), rng.choice(("plain", "plain", "stripes", "checks", "rough"))
    )
    trousers = surface(rng, (0.55, 0.7), (0.0, 0.5), (0.1, 0.5), "rough", depth=0.2)
    side = 1.0 if facing >= 0 else -1.0

    def px(along: float, up: float) -> Point:
        return (foot[0] + along * side * unit, foot[1] - up * unit)

    if pose == "ride":
        hip, neck, lean = (0.0, 0.95), (0.32, 1.42), 0.1
        legs = [((0.02, 0.95), (0.3, 0.62), (0.1, 0.3)), ((0.02, 0.95), (0.26, 0.75), (0.18, 0.42))]
        arms = [((0.3, 1.38), (0.42, 1.15), (0.58, 1.05))]
    elif pose == "sit":
        hip, neck, lean = (0.0, 0.5), (-0.02, 1.02), 0.0
        legs = [((0.0, 0.52), (0.4, 0.52), (0.42, 0.05)), ((0.0, 0.5), (0.36, 0.5), (0.34, 0.05))]
        arms = [((0.0, 0.98), (0.12, 0.72), (0.35, 0.68))]
    else:
        step = rng.uniform(0.12, 0.28) if pose == "walk" else 0.06
        hip, neck, lean = (0.0, 0.9), (0.0, 1.46), 0.0
        legs = [
            ((0.05, 0.92), (step * 0.6 + 0.03, 0.48), (step, 0.04)),
            ((-0.05, 0.92), (-step * 0.4, 0.48), (-step, 0.04)),
        ]
        swing = rng.uniform(-0.25, 0.25)
        arms = [
            ((0.17, 1.4), (0.22 + swing * 0.4, 1.14), (0.2 + swing, 0.9)),
            ((-0.17, 1.4), (-0.22, 1.14), (-0.2 - swing, 0.9)),
        ]
    for legs_hip, knee, ankle in reversed(legs):
        canvas.line(px(*legs_hip), px(*knee), 0.19 * unit, trousers, 0.8)
        canvas.line(px(*knee), px(*ankle), 0.15 * unit, trousers, 0.75)
        canvas.ellipse(*px(ankle[0] + 0.05, ankle[1]), 0.12 * unit, 0.05 * unit, trousers.lit(0.45))
    for shoulder, elbow, hand in arms[1:]:
        canvas.line(px(*shoulder), px(*elbow), 0.12 * unit, shirt.lit(0.8), 0.9)
        canvas.line(px(*elbow), px(*hand), 0.1 * unit, shirt.lit(0.8), 0.8)
    wide = 0.2 if pose in ("stand", "walk") else 0.16
    torso = [
        (hip[0] - 0.15, hip[1]),
        (hip[0] + 0.15, hip[1]),
        (neck[0] + wide, neck[1] - 0.04),
        (neck[0] - wide, neck[1]),
    ]
    canvas.poly([px(*p) for p in torso], shirt)
    for shoulder, elbow, hand in arms[:1]:
        canvas.line(px(*shoulder), px(*elbow), 0.12 * unit, shirt.lit(0.9), 0.9)
        canvas.line(px(*elbow), px(*hand), 0.1 * unit, shirt.lit(0.9), 0.8)
        canvas.ellipse(*px(*hand), 0.055 * unit, 0.055 * unit, skin)
    head = px(neck[0] + lean, neck[1] + 0.17)
    canvas.line(px(*neck), head, 0.11 * unit, skin)
    canvas.ellipse(*head, 0.105 * unit, 0.14 * unit, skin)
    cover = surface(rng, (0, 1), look.vivid, (0.3, 0.9)) if helmet else flat(rng.choice(_HAIR))
    size = 0.14 if helmet else 0.115
    arc = [math.pi + math.pi * i / 10 for i in range(11)]
    cap = [(head[0] + size * unit * math.cos(a), head[1] - 0.02 * unit + size * 1.25 * unit * math.sin(a)) for a in arc]
    canvas.poly(cap, cover)
