"""Rooms without furniture: a box seen from inside, and what hangs on its walls."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from segstream.shards.synthetic import furniture
from segstream.shards.synthetic.canvas import Camera, Canvas, Point
from segstream.shards.synthetic.textures import Material, blend, flat, hsv, surface

_HANGINGS = {
    "office": ("whiteboard", "whiteboard"),
    "living": ("television", "fireplace"),
    "bedroom": ("television",),
    "bathroom": ("towel", "towel", "mirror", "shower_curtain"),
}


@dataclass(frozen=True, slots=True)
class Room:
    """Inner walls in metres: X from `left` to `right`, Z up to `back`, Y up to `top`."""

    left: float
    right: float
    back: float
    top: float
    kind: str

    def on(self, wall: str, along: float, up: float) -> tuple[float, float, float]:
        """A point of the `back` wall (along = X) or of the `left` or `right` one (along = Z)."""
        if wall == "back":
            return (along, up, self.back)
        return (self.left if wall == "left" else self.right, up, along)


def paint_shell(canvas: Canvas, camera: Camera, room: Room, rng: Random) -> None:
    """Floor, walls and ceiling."""
    near = 0.35
    wet = room.kind in ("bathroom", "kitchen")
    style = rng.random()
    if wet and style < 0.6:
        concept, paint = "wall/tile", surface(rng, (0.0, 0.6), (0.0, 0.3), (0.7, 0.95), "tiles", depth=0.18, zoom=0.7)
    elif style < 0.1:
        concept, paint = "wall/brick", surface(rng, (0.0, 0.06), (0.3, 0.5), (0.45, 0.65), "brick", depth=-0.3)
    elif style < 0.18:
        concept, paint = "wall/wood", surface(rng, (0.06, 0.1), (0.35, 0.6), (0.4, 0.7), "planks", depth=0.3)
    else:
        concept = "wall"
        paint = surface(
            rng, (0.0, 0.7), (0.02, 0.3), (0.6, 0.95), rng.choice(("fine", "fine", "stripes")), depth=0.06, zoom=2
        )
    plain = "wood" if not wet and rng.random() < 0.6 else "other"
    floor = (
        surface(rng, (0.05, 0.1), (0.3, 0.65), (0.3, 0.7), "planks", depth=0.45)
        if plain == "wood"
        else surface(rng, (0.0, 0.7), (0.02, 0.3), (0.35, 0.8), rng.choice(("tiles", "checks", "carpet")), depth=0.25)
    )
    canvas.begin("ceiling")
    white = surface(rng, (0.05, 0.15), (0.0, 0.08), (0.85, 0.97), "fine", depth=0.03)
    canvas.poly([(0, 0), (canvas.width, 0), (canvas.width, canvas.height), (0, canvas.height)], white)
    canvas.begin("floor/wood" if plain == "wood" else "floor")
    corners = [(room.left, 0, near), (room.left, 0, room.back), (room.right, 0, room.back), (room.right, 0, near)]
    canvas.ground(camera, [camera.project(p) for p in corners], floor, 70)
    canvas.begin(concept)
    for wall, gain in (("left", 0.82), ("right", 1.0), ("back", 0.92)):
        ends = (room.left, room.right) if wall == "back" else (near, room.back)
        points = [
            room.on(wall, ends[0], 0),
            room.on(wall, ends[1], 0),
            room.on(wall, ends[1], room.top),
            room.on(wall, ends[0], room.top),
        ]
        corners_px = [camera.project(p) for p in points]
        canvas.poly(corners_px, paint.lit(gain))
        skirting = [
            camera.project(p) for p in (points[0], points[1], room.on(wall, ends[1], 0.1), room.on(wall, ends[0], 0.1))
        ]
        canvas.poly(skirting, white.lit(0.9 * gain))
    top = [camera.project(room.on("back", x, room.top)) for x in (room.left, room.right)]
    low = [camera.project(room.on("back", x, room.top * 0.75)) for x in (room.right, room.left)]
    canvas.shade([*top, *low], 0.92, 2.0)


def _patch(camera: Camera, room: Room, wall: str, along: float, up: float, wide: float, tall: float) -> list[Point]:
    a, b = along - wide / 2, along + wide / 2
    return [camera.project(room.on(wall, *p)) for p in ((a, up), (b, up), (b, up + tall), (a, up + tall))]


def decorate(canvas: Canvas, camera: Camera, room: Room, rng: Random) -> None:
    """Windows, doors, pictures and the like, spread over the walls."""
    slots = [("back", room.left + (room.right - room.left) * s) for s in (0.2, 0.5, 0.8)]
    slots += [(wall, room.back * s) for wall in ("left", "right") for s in (0.45, 0.75)]
    common = ("window", "window", "door", "painting", "painting", "mirror", "clock", "shelf", "none", "none")
    for wall, along in slots:
        hang(canvas, camera, room, wall, along, rng.choice((*common, *_HANGINGS.get(room.kind, ()))), rng)


def hang(canvas: Canvas, camera: Camera, room: Room, wall: str, along: float, what: str, rng: Random) -> None:
    """One thing on a wall, centred on `along` metres; `none` leaves the place bare."""

    def patch(up: float, wide: float, tall: float, shift: float = 0.0) -> list[Point]:
        return _patch(camera, room, wall, along + shift, up, wide, tall)

    frame = furniture.timber(rng)
    if what == "window":
        wide, tall, up = rng.uniform(0.8, 1.4), rng.uniform(0.9, 1.3), 0.95
        canvas.begin("window")
        canvas.poly(patch(up - 0.05, wide + 0.1, tall + 0.1), frame.lit(1.1))
        outside = hsv(rng.uniform(0.5, 0.6), rng.uniform(0.05, 0.4), 0.98)
        canvas.backdrop(patch(up, wide, tall), outside, blend(outside, (120, 150, 100), rng.uniform(0.0, 0.8)))
        canvas.poly(patch(up, 0.05, tall), frame.lit(1.1))
        canvas.poly(patch(up + tall / 2, wide, 0.05), frame.lit(1.1))
        dressing = rng.random()
        if dressing < 0.5:
            canvas.begin("curtain_other")
            cloth = surface(rng, (0, 1), (0.05, 0.7), (0.4, 0.95), "folds", depth=0.35, zoom=0.8)
            for shift in (-1, 1):
                canvas.poly(patch(0.25, wide * 0.38, up + tall, shift * wide * 0.55), cloth)
        elif dressing < 0.75:
            canvas.begin("window_blind")
            drop = tall * rng.uniform(0.3, 0.95)
            slats = surface(rng, (0.08, 0.14), (0.02, 0.3), (0.7, 0.95), "slats", depth=0.35, zoom=0.7)
            canvas.poly(patch(up + tall - drop, wide + 0.04, drop), slats)
    elif what == "door":
        canvas.begin("door")
        canvas.poly(patch(0, 0.98, 2.08), frame.lit(0.85))
        canvas.poly(patch(0, 0.86, 2.02), frame)
        for up in (0.2, 1.15):
            canvas.poly(patch(up, 0.5, 0.7), frame.lit(0.88))
        canvas.poly(patch(0.98, 0.1, 0.06, 0.33), flat((200, 180, 110)))
    elif what in ("painting", "mirror", "whiteboard"):
        wide, tall = (rng.uniform(0.5, 1.0), rng.uniform(0.4, 0.8)) if what != "whiteboard" else (1.6, 0.95)
        up = rng.uniform(1.25, 1.45) if what != "whiteboard" else 0.95
        canvas.begin(what)
        canvas.poly(patch(up, wide, tall), frame if what != "whiteboard" else flat((170, 172, 175)))
        if what == "painting":
            canvas.backdrop(
                patch(up + 0.05, wide - 0.1, tall - 0.1),
                hsv(rng.random(), 0.5, 0.9),
                hsv(rng.random(), 0.6, 0.5),
                surface(rng, (0, 1), (0.3, 0.6), (0.1, 0.3), "marble", depth=1.0, zoom=0.5),
            )
        elif what == "mirror":
            canvas.backdrop(
                patch(up + 0.05, wide - 0.1, tall - 0.1),
                (205, 215, 220),
                (140, 150, 160),
                Material((0, 0, 0), (45, 45, 45), "cloud", 3),
            )
        else:
            canvas.poly(patch(up + 0.04, wide - 0.08, tall - 0.08), Material((246, 247, 248), (225, 226, 230), "cloud"))
            for _ in range(5):
                pen = surface(rng, (0, 1), (0.5, 0.9), (0.2, 0.6))
                canvas.poly(
                    patch(up + rng.uniform(0.15, 0.75), rng.uniform(0.2, 0.5), 0.03, rng.uniform(-0.5, 0.5)), pen
                )
    elif what == "television":
        canvas.begin("television")
        canvas.poly(patch(1.0, 1.1, 0.65), flat((24, 24, 26)))
        canvas.backdrop(patch(1.04, 1.02, 0.57), (80, 85, 95), (30, 32, 38))
    elif what == "clock":
        x, y = camera.project(room.on(wall, along, 1.9))
        r = 0.16 * camera.size(room.back if wall == "back" else along)
        canvas.begin("clock")
        canvas.ellipse(x, y, r if wall == "back" else r * 0.4, r, frame.lit(0.7))
        canvas.ellipse(x, y, (r if wall == "back" else r * 0.4) * 0.82, r * 0.82, flat((245, 245, 240)))
        canvas.line((x, y), (x, y - r * 0.6), max(r * 0.12, 0.6), flat((20, 20, 20)))
    elif what == "shelf":
        canvas.begin("shelf")
        for up in (1.3, 1.65):
            canvas.poly(patch(up, 0.9, 0.06), frame)
        canvas.begin("book")
        for i in range(9):
            if rng.random() < 0.8:
                up = rng.choice((1.36, 1.71))
                canvas.poly(
                    patch(up, 0.07, rng.uniform(0.16, 0.26), -0.36 + 0.09 * i),
                    surface(rng, (0, 1), (0.2, 0.8), (0.25, 0.85)),
                )
    elif what in ("towel", "shower_curtain"):
        canvas.begin(what)
        cloth = surface(
            rng, (0, 1), (0.05, 0.7), (0.5, 0.97), "folds" if what == "shower_curtain" else "wool", depth=0.25
        )
        canvas.poly(patch(*((0.3, 1.1, 1.75) if what == "shower_curtain" else (0.9, 0.45, 0.75))), cloth)
    elif what == "fireplace" and wall == "back":
        canvas.begin("fireplace")
        stone = surface(rng, (0.0, 0.1), (0.05, 0.4), (0.5, 0.85), rng.choice(("brick", "marble")), depth=0.3)
        canvas.poly(patch(0, 1.3, 1.1), stone)
        canvas.poly(patch(1.05, 1.45, 0.1), stone.lit(1.15))
        canvas.poly(patch(0, 0.75, 0.7), Material((30, 24, 22), (15, 12, 12), "rough"))
