"""Furniture from blocks. `at` is (X, Z) of its middle on the floor; yaw -pi/2 faces the camera, pi/2 shows its back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from segstream.shards.synthetic.canvas import Camera, Canvas
from segstream.shards.synthetic.solids import CAP, Place, box, prism, shadow
from segstream.shards.synthetic.textures import Material, flat, surface, usual

Floor = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Part:
    """A block of a piece of furniture, in its own frame: `along` is forwards, `across` to its left."""

    along: float
    across: float
    base: float
    size: tuple[float, float, float]
    """Metres along, up, across."""
    material: Material


def assemble(canvas: Canvas, camera: Camera, at: Floor, yaw: float, parts: Sequence[Part]) -> None:
    """Paint blocks, the farther and lower ones first."""
    cos, sin = math.cos(yaw), math.sin(yaw)

    def where(part: Part) -> Floor:
        return (at[0] + part.along * cos - part.across * sin, at[1] + part.along * sin + part.across * cos)

    for part in sorted(parts, key=lambda p: (-round(math.hypot(*where(p)), 1), p.base)):
        box(canvas, camera, where(part), part.size, part.material, yaw=yaw, base=part.base)


def timber(rng: Random) -> Material:
    """Wood, from pale to nearly black, or white lacquer."""
    if rng.random() < 0.2:
        return surface(rng, (0.08, 0.14), (0.0, 0.08), (0.8, 0.95), "fine", depth=0.05)
    return surface(rng, (0.05, 0.1), (0.3, 0.65), (0.25, 0.75), "wood", depth=0.35, zoom=1.5)


def fabric(rng: Random, hues: tuple[float, float] = (0.0, 1.0)) -> Material:
    """Upholstery and bedding, mostly of the given hues."""
    weave = rng.choice(("fine", "fine", "stripes", "checks", "leather"))
    return surface(rng, usual(rng, hues), (0.15, 0.6), (0.3, 0.85), weave, depth=0.2)


def bed(canvas: Canvas, camera: Camera, at: Floor, yaw: float, rng: Random) -> None:
    """A bed: frame, mattress, headboard; pillows and a blanket on it."""
    wide, long = rng.choice((1.0, 1.5, 1.8)), 2.0
    wood, sheet, cover = timber(rng), surface(rng, (0, 1), (0.0, 0.15), (0.8, 0.97), "fine", depth=0.08), fabric(rng)
    shadow(canvas, camera, at, (long, wide), yaw, 0.5)
    canvas.begin("bed")
    head = Part(-long / 2, 0, 0, (0.08, 1.05, wide), wood)
    assemble(
        canvas,
        camera,
        at,
        yaw,
        [head, Part(0, 0, 0.08, (long, 0.2, wide), wood), Part(0, 0, 0.28, (long, 0.25, wide), cover)],
    )
    canvas.begin("blanket")
    assemble(
        canvas,
        camera,
        at,
        yaw,
        [Part(0.35, 0, 0.5, (1.3, 0.06, wide + 0.04), cover.lit(1.12) if rng.random() < 0.4 else fabric(rng))],
    )
    for side in (-1, 1) if wide > 1.2 else (0,):
        canvas.begin("pillow")
        assemble(
            canvas,
            camera,
            at,
            yaw,
            [Part(-0.7, side * wide / 4, 0.52, (0.4, 0.16, wide / 2.6 if side else 0.6), sheet)],
        )


def couch(canvas: Canvas, camera: Camera, at: Floor, yaw: float, rng: Random, concept: str = "couch") -> None:
    """A sofa, or for `armchair` a narrow one."""
    wide = rng.uniform(1.6, 2.3) if concept == "couch" else 0.9
    cloth = fabric(rng, (0.92, 1.04) if concept == "couch" else (0.7, 0.85))
    shadow(canvas, camera, at, (0.9, wide), yaw, 0.5)
    canvas.begin(concept)
    parts = [
        Part(-0.32, 0, 0.1, (0.25, rng.uniform(0.7, 0.85), wide), cloth.lit(0.9)),
        Part(0.1, 0, 0.1, (0.65, 0.34, wide), cloth),
        Part(0.05, wide / 2, 0.1, (0.85, 0.55, 0.2), cloth.lit(0.95)),
        Part(0.05, -wide / 2, 0.1, (0.85, 0.55, 0.2), cloth.lit(0.95)),
    ]
    assemble(canvas, camera, at, yaw, parts)
    if concept == "couch" and rng.random() < 0.7:
        for side in (-1, 1):
            canvas.begin("pillow")
            assemble(canvas, camera, at, yaw, [Part(-0.1, side * wide * 0.32, 0.45, (0.16, 0.36, 0.42), fabric(rng))])


def chair(canvas: Canvas, camera: Camera, at: Floor, yaw: float, rng: Random) -> None:
    """A chair: four legs, seat, back."""
    wood = timber(rng) if rng.random() < 0.5 else fabric(rng, (0.55, 0.68))
    seat = fabric(rng, (0.55, 0.68))
    shadow(canvas, camera, at, (0.45, 0.45), yaw, 0.35)
    canvas.begin("chair_other")
    legs = [Part(a, b, 0, (0.06, 0.44, 0.06), wood) for a in (-0.2, 0.2) for b in (-0.2, 0.2)]
    back = [Part(-0.22, 0, 0.5, (0.06, rng.uniform(0.42, 0.55), 0.46), wood.lit(0.92))]
    assemble(canvas, camera, at, yaw, [*legs, Part(0, 0, 0.42, (0.48, 0.08, 0.48), seat), *back])


def table(canvas: Canvas, camera: Camera, at: Floor, yaw: float, rng: Random, concept: str = "table") -> float:
    """A table (`table`, `table/low` or `desk`); returns the height of its top."""
    long, wide = (
        (rng.uniform(0.9, 1.2), rng.uniform(0.5, 0.7))
        if concept == "table/low"
        else (rng.uniform(1.1, 1.8), rng.uniform(0.7, 0.9))
    )
    high = 0.42 if concept == "table/low" else 0.74
    wood = timber(rng)
    shadow(canvas, camera, at, (long, wide), yaw, 0.4)
    canvas.begin(concept)
    legs = [
        Part(a * (long / 2 - 0.06), b * (wide / 2 - 0.06), 0, (0.08, high, 0.08), wood.lit(0.8))
        for a in (-1, 1)
        for b in (-1, 1)
    ]
    if concept == "desk":
        legs = [Part(0.3 * long, 0, 0, (0.4 * long, high, wide - 0.05), wood.lit(0.9)), *legs[:2]]
    assemble(canvas, camera, at, yaw, legs)
    box(canvas, camera, at, (long, 0.06, wide), wood, yaw=yaw, base=high - 0.06)
    return high


def cupboard(
    canvas: Canvas,
    camera: Camera,
    at: Floor,
    size: tuple[float, float, float],
    rng: Random,
    concept: str,
    rows: int,
    columns: int,
    material: Material | None = None,
) -> None:
    """A block of fronts with handles, face to the camera: cabinets, wardrobes, chests of drawers, refrigerators.

    `size` is metres along the wall, up, deep.
    """
    wood = material or timber(rng)
    long, up, _ = size
    shadow(canvas, camera, at, (long, size[2]), 0, 0.4)
    canvas.begin(concept)

    def trim(face: int, place: Place) -> None:
        if face != CAP:
            return
        for row in range(rows):
            for column in range(columns):
                x0, x1 = -long / 2 + long * column / columns + 0.03, -long / 2 + long * (column + 1) / columns - 0.03
                y0, y1 = up * row / rows + 0.03, up * (row + 1) / rows - 0.03
                canvas.poly([place(x0, y0), place(x1, y0), place(x1, y1), place(x0, y1)], wood.lit(0.86))
                knob = x1 - 0.08 if column % 2 == 0 else x0 + 0.05
                mid, reach = (y0 + y1) / 2, 0.12 if rows < 3 else 0.02
                handle = [
                    place(knob, mid - reach),
                    place(knob + 0.04, mid - reach),
                    place(knob + 0.04, mid + reach),
                    place(knob, mid + reach),
                ]
                canvas.poly(
                    handle,
                    flat((190, 190, 185)) if wood.a[0] < 150 else flat((60, 55, 50)),
                )

    box(canvas, camera, at, size, wood, trim=trim)


def bookcase(canvas: Canvas, camera: Camera, at: Floor, rng: Random) -> None:
    """Shelves full of books, face to the camera."""
    long, up, deep = rng.uniform(0.8, 1.6), rng.uniform(1.5, 2.1), 0.32
    wood = timber(rng)
    shadow(canvas, camera, at, (long, deep), 0, 0.4)
    canvas.begin("bookshelf")
    box(canvas, camera, at, (long, up, deep), wood)
    front = at[1] - deep / 2
    rows = rng.randint(4, 5)
    for row in range(rows):
        y0, y1 = up * row / rows + 0.05, up * (row + 1) / rows - 0.03
        hole = [
            camera.project((at[0] + s * (long / 2 - 0.05), y, front)) for s, y in ((-1, y0), (1, y0), (1, y1), (-1, y1))
        ]
        canvas.begin("bookshelf")
        canvas.poly(hole, wood.lit(0.4))
        x = at[0] - long / 2 + 0.06
        canvas.begin("book")
        while x < at[0] + long / 2 - 0.12:
            thick, tall = rng.uniform(0.04, 0.09), (y1 - y0) * rng.uniform(0.65, 0.95)
            if rng.random() < 0.85:
                spine = surface(rng, (0, 1), (0.2, 0.8), (0.25, 0.85))
                corners = [(x, y0), (x + thick, y0), (x + thick, y0 + tall), (x, y0 + tall)]
                canvas.poly([camera.project((px, py, front)) for px, py in corners], spine)
            x += thick + 0.01


def tub(canvas: Canvas, camera: Camera, at: Floor, rng: Random) -> None:
    """A bathtub along the back wall."""
    white = surface(rng, (0.1, 0.6), (0.0, 0.06), (0.88, 0.98))
    shadow(canvas, camera, at, (1.6, 0.75), 0, 0.4)
    canvas.begin("bathtub")
    box(canvas, camera, at, (1.6, 0.55, 0.75), white)
    inside = [
        camera.project((at[0] + a * 0.68, 0.55, at[1] + b * 0.28)) for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))
    ]
    canvas.poly(inside, white.lit(0.72))


def toilet(canvas: Canvas, camera: Camera, at: Floor, yaw: float, rng: Random) -> None:
    """A toilet: cistern, bowl, seat."""
    white = surface(rng, (0.1, 0.6), (0.0, 0.05), (0.88, 0.98))
    shadow(canvas, camera, at, (0.65, 0.4), yaw, 0.4)
    canvas.begin("toilet")
    assemble(
        canvas,
        camera,
        at,
        yaw,
        [Part(-0.28, 0, 0.4, (0.18, 0.42, 0.42), white.lit(0.95)), Part(0.0, 0, 0, (0.35, 0.36, 0.24), white.lit(0.9))],
    )
    bowl = [(-0.2, 0.3), (0.3, 0.3), (0.36, 0.42), (-0.22, 0.42)]
    prism(canvas, camera, bowl, 0.4, at, white, yaw=yaw)
    x, y = camera.project((at[0] + 0.06 * math.cos(yaw), 0.43, at[1] + 0.06 * math.sin(yaw)))
    scale = camera.size(at[1])
    canvas.ellipse(x, y, 0.16 * scale, max(0.07 * scale, 1), white.lit(0.55))


def basin(canvas: Canvas, camera: Camera, at: Floor, rng: Random, counter: bool) -> None:
    """A sink with its tap, in a counter (kitchen) or on a foot."""
    white = surface(rng, (0.1, 0.6), (0.0, 0.05), (0.72, 0.97))
    if counter:
        top = surface(rng, (0.05, 0.6), (0.0, 0.2), (0.3, 0.85), "marble", depth=0.25)
        cupboard(canvas, camera, at, (1.8, 0.82, 0.6), rng, "cabinet", 1, 4)
        canvas.begin("counter_other")
        box(canvas, camera, at, (1.84, 0.07, 0.64), top, base=0.82)
        high = 0.89
        canvas.begin("sink")
        rim = [
            camera.project((at[0] + a * 0.3, high, at[1] + b * 0.2)) for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))
        ]
        canvas.poly(rim, white.lit(0.7))
    else:
        high = 0.85
        canvas.begin("sink")
        box(canvas, camera, at, (0.2, 0.65, 0.2), white.lit(0.9))
        prism(canvas, camera, [(-0.2, 0.62), (0.2, 0.62), (0.3, 0.85), (-0.3, 0.85)], 0.45, at, white)
        rim = [
            camera.project((at[0] + a * 0.22, high, at[1] + b * 0.15)) for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))
        ]
        canvas.poly(rim, white.lit(0.65))
    scale = camera.size(at[1])
    x, y = camera.project((at[0], high, at[1] + 0.18))
    steel = Material((175, 178, 182), (120, 122, 126), "water")
    canvas.line((x, y), (x, y - 0.22 * scale), max(0.05 * scale, 1), steel)
    canvas.line((x, y - 0.22 * scale), (x, y - 0.12 * scale), max(0.09 * scale, 1), steel)
