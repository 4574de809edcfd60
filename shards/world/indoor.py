"""Rooms: a box seen from inside, dressed as a bedroom, living room, kitchen, bathroom or office."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from shards.world import furniture, things
from shards.world.animals import animal
from shards.world.canvas import Camera, Canvas, Point, Scene
from shards.world.furniture import Floor
from shards.world.looks import Look
from shards.world.people import figure
from shards.world.solids import box, shadow
from shards.world.textures import Material, blend, hsv, surface

Item = tuple[float, Callable[[], None]]
_ROOMS = ("living", "bedroom", "kitchen", "bathroom", "office", "dining")


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


def paint_indoor(look: Look, rng: Random) -> Scene:
    """One room."""
    width, height = rng.choice(look.sizes)
    canvas = Canvas(width, height, rng)
    span = rng.uniform(3.4, 6.0) * min(width / height, 1.3)
    left = -span * rng.uniform(0.35, 0.65)
    room = Room(left, left + span, rng.uniform(3.2, 5.5), rng.uniform(2.4, 3.0), rng.choice(_ROOMS))
    camera = Camera(rng.uniform(0.75, 1.1) * height, width / 2, height * rng.uniform(0.28, 0.5), rng.uniform(1.25, 1.7))
    paint_shell(canvas, camera, room, rng)
    _hangings(canvas, camera, room, rng)
    items = _furnish(canvas, camera, room, look, rng)
    for _, paint in sorted(items, key=lambda item: -item[0]):
        paint()
    _ceiling_light(canvas, camera, room, rng)
    return canvas.finish()


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


def _hangings(canvas: Canvas, camera: Camera, room: Room, rng: Random) -> None:
    slots = [("back", room.left + (room.right - room.left) * s) for s in (0.2, 0.5, 0.8)]
    slots += [(wall, room.back * s) for wall in ("left", "right") for s in (0.45, 0.75)]
    choices = ["window", "window", "door", "painting", "painting", "mirror", "clock", "shelf", "none", "none"]
    if room.kind == "office":
        choices += ["whiteboard", "whiteboard"]
    if room.kind in ("living", "bedroom"):
        choices += ["television"]
    if room.kind == "bathroom":
        choices += ["towel", "towel", "mirror", "shower_curtain"]
    if room.kind == "living":
        choices += ["fireplace"]
    for wall, along in slots:
        _hang(canvas, camera, room, wall, along, rng.choice(choices), rng)


def _hang(canvas: Canvas, camera: Camera, room: Room, wall: str, along: float, what: str, rng: Random) -> None:
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
                canvas.poly(
                    patch(up - 0.75 if rng.random() < 0.6 else up - 0.1, wide * 0.38, 0.0, 0)[:0]
                    or patch(0.25, wide * 0.38, up + tall, shift * wide * 0.55),
                    cloth,
                )
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
        canvas.poly(patch(0.98, 0.1, 0.06, 0.33), Material((200, 180, 110), (200, 180, 110)))
    elif what in ("painting", "mirror", "whiteboard"):
        wide, tall = (rng.uniform(0.5, 1.0), rng.uniform(0.4, 0.8)) if what != "whiteboard" else (1.6, 0.95)
        up = rng.uniform(1.25, 1.45) if what != "whiteboard" else 0.95
        canvas.begin(what)
        canvas.poly(
            patch(up, wide, tall), frame if what != "whiteboard" else Material((170, 172, 175), (170, 172, 175))
        )
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
        canvas.poly(patch(1.0, 1.1, 0.65), Material((24, 24, 26), (24, 24, 26)))
        canvas.backdrop(patch(1.04, 1.02, 0.57), (80, 85, 95), (30, 32, 38))
    elif what == "clock":
        x, y = camera.project(room.on(wall, along, 1.9))
        r = 0.16 * camera.size(room.back if wall == "back" else along)
        canvas.begin("clock")
        canvas.ellipse(x, y, r if wall == "back" else r * 0.4, r, frame.lit(0.7))
        canvas.ellipse(
            x, y, (r if wall == "back" else r * 0.4) * 0.82, r * 0.82, Material((245, 245, 240), (245, 245, 240))
        )
        canvas.line((x, y), (x, y - r * 0.6), max(r * 0.12, 0.6), Material((20, 20, 20), (20, 20, 20)))
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


def _furnish(canvas: Canvas, camera: Camera, room: Room, look: Look, rng: Random) -> list[Item]:
    items: list[Item] = []
    toward = -math.pi / 2
    mid = (room.left + room.right) / 2
    span = room.right - room.left

    def add(z: float, paint: Callable[[], None]) -> None:
        items.append((z, paint))

    def spot(share: float) -> float:
        return room.left + span * share

    if room.kind in ("living", "bedroom", "dining") and rng.random() < 0.6:
        _rug(canvas, camera, (mid + rng.uniform(-0.5, 0.5), room.back * 0.6), rng)
    back = room.back
    if room.kind == "bedroom":
        x = spot(rng.uniform(0.35, 0.65))
        add(back - 1.1, lambda: furniture.bed(canvas, camera, (x, back - 1.1), toward, rng))
        for side in (-1.3, 1.3):
            if rng.random() < 0.75:
                add(back - 0.3, lambda side=side: _nightstand(canvas, camera, (x + side, back - 0.3), rng))  # type: ignore[misc]
        _against_wall(canvas, camera, room, rng, add, ("wardrobe", "chest_of_drawers", "chair", "plant"))
    elif room.kind == "living":
        x = spot(rng.uniform(0.35, 0.65))
        add(back - 0.6, lambda: furniture.couch(canvas, camera, (x, back - 0.6), toward + rng.uniform(-0.1, 0.1), rng))
        if rng.random() < 0.8:
            add(back - 1.8, lambda: lay_table(canvas, camera, (x, back - 1.8), rng, "table/low"))
        if rng.random() < 0.7:
            side = rng.choice((-1, 1))
            place = (x + side * 1.7, back - 1.6)
            add(place[1], lambda: furniture.couch(canvas, camera, place, toward + side * 0.9, rng, "armchair"))
        _against_wall(canvas, camera, room, rng, add, ("lamp", "plant", "bookcase", "tv_stand", "plant"))
    elif room.kind == "kitchen":
        x = spot(rng.uniform(0.4, 0.6))
        add(back - 0.3, lambda: furniture.basin(canvas, camera, (x, back - 0.32), rng, counter=True))
        add(back - 0.31, lambda: _wall_cupboards(canvas, camera, room, x, rng))
        add(back - 0.35, lambda: _fridge(canvas, camera, (x + 1.35, back - 0.36), rng))
        if rng.random() < 0.8:
            add(back - 0.34, lambda: _stove(canvas, camera, (x - 1.3, back - 0.34), rng))
        if rng.random() < 0.5:
            _dining(canvas, camera, (mid + rng.uniform(-0.6, 0.6), back * 0.55), look, rng, add)
    elif room.kind == "bathroom":
        order = rng.sample((0.2, 0.5, 0.8), 3)
        add(back - 0.4, lambda: furniture.toilet(canvas, camera, (spot(order[0]), back - 0.4), toward, rng))
        add(back - 0.3, lambda: furniture.basin(canvas, camera, (spot(order[1]), back - 0.3), rng, counter=False))
        if rng.random() < 0.6:
            add(back - 0.41, lambda: furniture.tub(canvas, camera, (spot(order[2]), back - 0.42), rng))
        if rng.random() < 0.6:
            _rug(canvas, camera, (mid, back * 0.6), rng)
    elif room.kind == "office":
        for share in (0.3, 0.7):
            if rng.random() < 0.85:
                place = (spot(share), back - 0.5 - rng.uniform(0, 0.8))
                add(place[1], lambda place=place: _desk(canvas, camera, place, rng))  # type: ignore[misc]
                seat = (place[0] + rng.uniform(-0.2, 0.2), place[1] - 0.75)
                add(
                    seat[1],
                    lambda seat=seat: furniture.chair(canvas, camera, seat, math.pi / 2 + rng.uniform(-0.5, 0.5), rng),
                )  # type: ignore[misc]
        _against_wall(canvas, camera, room, rng, add, ("bookcase", "cabinet", "plant", "box"))
    else:
        _dining(canvas, camera, (mid, back * 0.62), look, rng, add)
        _against_wall(canvas, camera, room, rng, add, ("cabinet", "plant", "lamp", "bookcase"))
    if rng.random() < 0.35:
        place = (spot(rng.uniform(0.2, 0.8)), back * rng.uniform(0.5, 0.8))
        add(place[1], lambda: _resident(canvas, camera, place, look, rng))
    pets = [s for s in look.animals if s in ("cat", "dog")]
    if pets and rng.random() < 0.4:
        place_pet = (spot(rng.uniform(0.2, 0.8)), back * rng.uniform(0.4, 0.6))
        add(
            place_pet[1],
            lambda: animal(
                canvas,
                camera.project((place_pet[0], 0, place_pet[1])),
                camera.size(place_pet[1]),
                rng.choice(pets),
                rng,
            ),
        )
    if rng.random() < 0.35:
        place_box = (spot(rng.uniform(0.15, 0.85)), back * rng.uniform(0.5, 0.75))
        kind = rng.choice(("box", "bag", "backpack", "suitcase"))
        add(place_box[1], lambda: _dropped(canvas, camera, place_box, kind, rng))
    return items


def _against_wall(
    canvas: Canvas,
    camera: Camera,
    room: Room,
    rng: Random,
    add: Callable[[float, Callable[[], None]], None],
    kinds: tuple[str, ...],
) -> None:
    for share in (0.1, 0.9):
        kind = rng.choice(kinds)
        at = (room.left + (room.right - room.left) * share, room.back - 0.32)

        def put(kind: str = kind, at: Floor = at) -> None:
            foot, scale = camera.project((at[0], 0, at[1])), camera.size(at[1])
            if kind == "plant":
                things.potted_plant(canvas, foot, scale, rng)
            elif kind == "lamp":
                things.lamp(canvas, foot, scale, rng, 1.6)
            elif kind == "bookcase":
                furniture.bookcase(canvas, camera, at, rng)
            elif kind == "chair":
                furniture.chair(canvas, camera, at, -math.pi / 2 + rng.uniform(-0.6, 0.6), rng)
            elif kind == "box":
                things.carton(canvas, foot, scale, rng)
            elif kind == "tv_stand":
                furniture.cupboard(canvas, camera, at, (1.2, 0.5, 0.4), rng, "cabinet", 1, 2)
                x, y = camera.project((at[0], 0.5, at[1]))
                things.television(canvas, x - 0.5 * scale, y - 0.62 * scale, x + 0.5 * scale, y - 0.03 * scale, rng)
            else:
                size, rows, columns = {
                    "wardrobe": ((1.2, 2.1, 0.6), 1, 2),
                    "chest_of_drawers": ((0.9, 0.95, 0.45), 4, 1),
                    "cabinet": ((1.1, rng.uniform(0.8, 1.7), 0.45), 2, 2),
                }[kind]
                furniture.cupboard(canvas, camera, at, size, rng, kind, rows, columns)

        add(at[1], put)


def _rug(canvas: Canvas, camera: Camera, at: Floor, rng: Random) -> None:
    wide, long = rng.uniform(0.8, 1.4), rng.uniform(0.5, 0.9)
    cloth = surface(rng, (0, 1), (0.2, 0.7), (0.3, 0.85), rng.choice(("checks", "stripes", "wool")), depth=0.35)
    corners = [
        (at[0] - wide, at[1] - long),
        (at[0] - wide, at[1] + long),
        (at[0] + wide, at[1] + long),
        (at[0] + wide, at[1] - long),
    ]
    canvas.begin("rug_floormat")
    canvas.ground(camera, [camera.project((x, 0, max(z, 0.5))) for x, z in corners], cloth, 60)


def _nightstand(canvas: Canvas, camera: Camera, at: Floor, rng: Random) -> None:
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
            things.bowl(canvas, foot, scale, rng, fruit=True)
        elif roll < 0.72:
            things.vase(canvas, foot, scale, rng)


def _dining(
    canvas: Canvas, camera: Camera, at: Floor, look: Look, rng: Random, add: Callable[[float, Callable[[], None]], None]
) -> None:
    for side in (-1, 1):
        for shift in (-0.4, 0.4):
            if rng.random() < 0.75:
                place = (at[0] + shift, at[1] + side * 0.6)
                yaw = side * -math.pi / 2 + rng.uniform(-0.3, 0.3)
                add(place[1], lambda place=place, yaw=yaw: furniture.chair(canvas, camera, place, yaw, rng))  # type: ignore[misc]
    add(at[1], lambda: lay_table(canvas, camera, at, rng, "table"))


def _desk(canvas: Canvas, camera: Camera, at: Floor, rng: Random) -> None:
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
            Material((40, 40, 42), (40, 40, 42)),
        )
        things.television(
            canvas, foot[0] - 0.3 * scale, foot[1] - 0.5 * scale, foot[0] + 0.3 * scale, foot[1] - 0.1 * scale, rng
        )
    if rng.random() < 0.5:
        things.lamp(canvas, camera.project((at[0] + 0.45, high, at[1])), scale, rng, 0.45)


def _wall_cupboards(canvas: Canvas, camera: Camera, room: Room, x: float, rng: Random) -> None:
    wood = furniture.timber(rng)
    canvas.begin("cabinet")
    box(canvas, camera, (x, room.back - 0.17), (1.8, 0.65, 0.34), wood, base=1.45)
    for i in range(4):
        front = [
            camera.project((x - 0.88 + 0.45 * i + s, y, room.back - 0.34))
            for s, y in ((0, 1.48), (0.41, 1.48), (0.41, 2.07), (0, 2.07))
        ]
        canvas.poly(front, wood.lit(0.85))


def _fridge(canvas: Canvas, camera: Camera, at: Floor, rng: Random) -> None:
    shell = surface(rng, (0.5, 0.65), (0.0, 0.08), rng.choice(((0.85, 0.97), (0.5, 0.7))), "water", depth=0.06, zoom=2)
    furniture.cupboard(canvas, camera, at, (0.75, rng.uniform(1.6, 1.9), 0.66), rng, "refrigerator", 2, 1, shell)


def _stove(canvas: Canvas, camera: Camera, at: Floor, rng: Random) -> None:
    shell = surface(rng, (0.5, 0.65), (0.0, 0.06), rng.choice(((0.85, 0.97), (0.2, 0.35))))
    canvas.begin("oven")
    box(canvas, camera, at, (0.62, 0.88, 0.62), shell)
    front = at[1] - 0.31
    door = [camera.project((at[0] + a, y, front)) for a, y in ((-0.25, 0.2), (0.25, 0.2), (0.25, 0.62), (-0.25, 0.62))]
    canvas.poly(door, Material((25, 25, 28), (45, 45, 48), "water"))
    for i in range(4):
        x, y = camera.project((at[0] - 0.21 + 0.14 * i, 0.77, front))
        r = 0.035 * camera.size(front)
        canvas.ellipse(x, y, r, r, Material((90, 90, 92), (90, 90, 92)))


def _resident(canvas: Canvas, camera: Camera, at: Floor, look: Look, rng: Random) -> None:
    shadow(canvas, camera, at, (0.6, 0.5), 0, 0.35)
    canvas.begin("person")
    figure(canvas, camera.project((at[0], 0, at[1])), camera.size(at[1]), look, rng, facing=rng.choice((-1.0, 1.0)))


def _dropped(canvas: Canvas, camera: Camera, at: Floor, kind: str, rng: Random) -> None:
    foot, scale = camera.project((at[0], 0, at[1])), camera.size(at[1])
    shadow(canvas, camera, at, (0.5, 0.3), 0, 0.35)
    if kind == "box":
        things.carton(canvas, foot, scale, rng)
    else:
        things.bag(canvas, foot, scale, rng, kind)


def _ceiling_light(canvas: Canvas, camera: Camera, room: Room, rng: Random) -> None:
    if rng.random() > 0.4:
        return
    z = room.back * rng.uniform(0.55, 0.8)
    x, y = camera.project(((room.left + room.right) / 2, room.top, z))
    scale = camera.size(z)
    canvas.begin("light_other")
    glow = Material((255, 250, 225), (255, 250, 225))
    if rng.random() < 0.5:
        canvas.ellipse(x, y, 0.22 * scale, 0.07 * scale, glow)
    else:
        canvas.line((x, y), (x, y + 0.35 * scale), max(0.02 * scale, 0.7), Material((60, 60, 60), (60, 60, 60)))
        canvas.ellipse(x, y + 0.42 * scale, 0.16 * scale, 0.12 * scale, glow)
