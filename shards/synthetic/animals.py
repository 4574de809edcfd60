"""Animals in profile, from blobs whose proportions are the species."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

from segstream.shards.synthetic.canvas import Canvas, Point
from segstream.shards.synthetic.scenery import ragged
from segstream.shards.synthetic.species import BLACK, CREAM, KINDS, Species
from segstream.shards.synthetic.textures import Material, flat, hsv, surface

Place = Callable[[float, float], Point]
_EYE = flat((18, 16, 16))


def animal(canvas: Canvas, foot: Point, scale: float, species: str, rng: Random) -> None:
    """An animal standing at `foot`; `scale` is pixels per metre. Raises KeyError for an unknown species."""
    if species == "bird":
        bird(canvas, foot, scale, rng)
        return
    kind = KINDS[species]
    unit = kind.tall * scale * rng.uniform(0.85, 1.15)
    side = rng.choice((-1.0, 1.0))
    coat = surface(rng, *rng.choice(kind.coats), kind.tile, depth=kind.depth, zoom=max(unit / 40, 0.5))

    def px(along: float, up: float) -> Point:
        return (foot[0] + along * side * unit, foot[1] - up * unit)

    canvas.shade([px(-0.6, -0.05), px(0.6, -0.05), px(0.7, 0.06), px(-0.5, 0.06)], 0.6, unit * 0.03)
    canvas.begin(species)
    length, thick = kind.body
    leg, girth = kind.legs
    skin = coat if kind.extra != "fleece" else surface(rng, *rng.choice((BLACK, CREAM)), "fur")
    for along, gain in ((-0.75, 0.7), (0.6, 0.7), (-0.62, 1.0), (0.75, 1.0)):
        sway = rng.uniform(-0.08, 0.08)
        canvas.line(
            px(along * length, leg + thick * 0.3),
            px(along * length + sway, 0.0),
            girth * unit * 1.3,
            skin.lit(gain),
            0.65,
        )
    _tail(canvas, px, kind, unit, coat)
    back = leg + thick * 0.75
    if kind.extra == "fleece":
        x, y = px(0, back)
        canvas.ellipse(x, y, length * unit, thick * unit, coat)
        for i in range(9):
            a = 2 * math.pi * i / 9
            canvas.poly(
                ragged(
                    x + math.cos(a) * length * unit * 0.75,
                    y + math.sin(a) * thick * unit * 0.7,
                    thick * unit * 0.42,
                    rng,
                ),
                coat,
            )
    else:
        canvas.ellipse(*px(-length * 0.4, back), length * 0.62 * unit, thick * unit, coat)
        canvas.ellipse(*px(length * 0.4, back + 0.02), length * 0.6 * unit, thick * 1.05 * unit, coat)
        canvas.ellipse(*px(0, back + thick * 0.12), length * 0.8 * unit, thick * 0.88 * unit, coat)
    forward, up, wide = kind.neck
    shoulder, skull = (length * 0.7, back + thick * 0.3), (length * 0.75 + forward, back + thick * 0.35 + up)
    canvas.line(px(*shoulder), px(*skull), wide * 1.5 * unit, coat, 0.7)
    if kind.extra == "mane":
        hair = surface(rng, *BLACK, "fur")
        canvas.line(
            px(shoulder[0] - wide * 0.6, shoulder[1] + 0.1),
            px(skull[0] - wide * 0.4, skull[1] + 0.12),
            wide * 0.5 * unit,
            hair,
        )
    _head(canvas, px, kind, skull, unit, coat if kind.extra != "fleece" else skin, rng)


def _blob(canvas: Canvas, at: Point, rx: float, ry: float, material: Material, tilt: float = 0.0) -> None:
    canvas.ellipse(at[0], at[1], rx, ry, material, tilt)


def _tail(canvas: Canvas, place: Place, kind: Species, unit: float, coat: Material) -> None:
    root = (-kind.body[0] * 0.95, kind.legs[0] + kind.body[1])
    ends = {
        "up": ((-0.25, 0.3), (-0.1, 0.65)),
        "curl": ((-0.2, 0.22), (-0.1, 0.4)),
        "mane": ((-0.12, -0.1), (-0.14, -0.5)),
        "rope": ((-0.06, -0.2), (-0.04, -0.45)),
    }
    if kind.tail in ends:
        (a, b), (c, d) = ends[kind.tail]
        thick = {"up": 0.12, "curl": 0.1, "mane": 0.14, "rope": 0.05}[kind.tail] * unit
        tone = coat.lit(0.55 if kind.tail == "mane" else 0.9)
        canvas.line(place(*root), place(root[0] + a, root[1] + b), thick, tone)
        canvas.line(place(root[0] + a, root[1] + b), place(root[0] + c, root[1] + d), thick, tone, 0.7)


def _head(canvas: Canvas, place: Place, kind: Species, skull: Point, unit: float, coat: Material, rng: Random) -> None:
    long, thick = kind.head
    sx, sy = skull
    if kind.ears == "points":
        for shift in (-0.5, 0.25):
            base = sx + shift * long
            canvas.poly(
                [
                    place(base - long * 0.3, sy + thick * 0.5),
                    place(base + long * 0.35, sy + thick * 0.5),
                    place(base, sy + thick * 1.9),
                ],
                coat.lit(0.85),
            )
    long_face = kind.extra in ("snout", "mane", "horns", "antlers", "fleece")
    tip = (sx + long * (1.1 if long_face else 0.5), sy - thick * (0.7 if long_face else 0.1))
    _blob(canvas, place(sx, sy), max(long * 0.8, thick) * unit, thick * 1.15 * unit, coat)
    canvas.line(place(sx, sy), place(*tip), thick * 1.7 * unit, coat, 0.75)
    canvas.ellipse(*place(*tip), thick * 0.6 * unit, thick * 0.55 * unit, coat.lit(0.75))
    if kind.extra == "trunk":
        canvas.line(place(sx + long * 0.7, sy), place(sx + long * 1.2, sy - 0.55), 0.16 * unit, coat.lit(0.95), 0.6)
        canvas.line(
            place(sx + long * 0.8, sy - 0.12),
            place(sx + long * 1.5, sy - 0.2),
            0.05 * unit,
            flat((240, 235, 215)),
            0.4,
        )
    if kind.extra in ("horns", "antlers"):
        horn = flat((225, 215, 190))
        size = 0.15 if kind.extra == "horns" else 0.4
        for lean in (-0.3, 0.5):
            end = (sx + lean * size, sy + thick + size)
            canvas.line(place(sx, sy + thick * 0.7), place(*end), 0.045 * unit, horn)
            if kind.extra == "antlers":
                canvas.line(
                    place(sx + lean * size * 0.5, sy + thick + size * 0.5),
                    place(sx + lean * size * 0.5 + 0.14, sy + thick + size * 0.8),
                    0.035 * unit,
                    horn,
                )
    if kind.ears == "flaps":
        canvas.ellipse(
            *place(sx - long * 0.35, sy - thick * 0.1),
            thick * 0.5 * unit,
            thick * 1.05 * unit,
            coat.lit(0.6),
            rng.uniform(-0.3, 0.3),
        )
    elif kind.ears == "fans":
        canvas.ellipse(*place(sx - long * 0.7, sy - 0.02), 0.2 * unit, 0.3 * unit, coat.lit(0.82))
    elif kind.ears == "rounds":
        for shift in (-0.5, 0.1):
            canvas.ellipse(
                *place(sx + shift * long, sy + thick * 1.1), thick * 0.4 * unit, thick * 0.4 * unit, coat.lit(0.7)
            )
    r = max(thick * 0.14 * unit, 0.5)
    canvas.ellipse(*place(sx + long * 0.25, sy + thick * 0.3), r, r, _EYE)


def bird(canvas: Canvas, foot: Point, scale: float, rng: Random) -> None:
    """A perching bird: round breast, wing, tail, beak and two thin legs."""
    unit = rng.uniform(0.25, 0.5) * scale
    side = rng.choice((-1.0, 1.0))
    hue = rng.choice((0.58, 0.6, 0.62, 0.56, 0.0, 0.14))
    coat = Material(
        hsv(hue, rng.uniform(0.5, 0.85), rng.uniform(0.4, 0.9)), hsv(hue, 0.4, 0.25), "fur", max(unit / 50, 0.5)
    )
    belly = surface(rng, (0.03, 0.12), (0.3, 0.8), (0.7, 0.97), "fur", depth=0.12)

    def px(along: float, up: float) -> Point:
        return (foot[0] + along * side * unit, foot[1] - up * unit)

    canvas.begin("bird")
    beak = flat((235, 170, 50))
    for along in (-0.05, 0.08):
        canvas.line(px(along, 0.35), px(along, 0), max(0.04 * unit, 0.7), beak.lit(0.8))
    canvas.poly([px(-0.3, 0.62), px(-0.85, 0.45), px(-0.8, 0.3), px(-0.2, 0.42)], coat.lit(0.8))
    _blob(canvas, px(0, 0.55), 0.42 * unit, 0.27 * unit, belly, 0.35 * -side)
    _blob(canvas, px(-0.1, 0.6), 0.36 * unit, 0.18 * unit, coat, 0.3 * -side)
    _blob(canvas, px(0.32, 0.84), 0.19 * unit, 0.18 * unit, coat.lit(1.1))
    canvas.poly([px(0.46, 0.9), px(0.46, 0.78), px(0.7, 0.82)], beak)
    _blob(canvas, px(0.38, 0.88), max(0.035 * unit, 0.5), max(0.035 * unit, 0.5), _EYE)


SPECIES = (*KINDS, "bird")
