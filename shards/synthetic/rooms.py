"""Furnished rooms: bedroom, living room, kitchen, bathroom, office, dining room."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from segstream.shards.synthetic import fittings, furniture, things
from segstream.shards.synthetic.animals import animal
from segstream.shards.synthetic.canvas import Camera, Canvas, Depth, Scene
from segstream.shards.synthetic.furniture import Floor
from segstream.shards.synthetic.indoor import Room, decorate, paint_shell
from segstream.shards.synthetic.looks import Look, spread
from segstream.shards.synthetic.people import figure
from segstream.shards.synthetic.solids import shadow
from segstream.shards.synthetic.textures import flat, surface

ROOMS = {"living": 0.2, "bedroom": 0.18, "kitchen": 0.17, "bathroom": 0.13, "office": 0.16, "dining": 0.16}
_FACING, _BACK = -math.pi / 2, math.pi / 2  # yaw of a seat that looks at the camera, or away from it


def paint_indoor(look: Look, rng: Random, pick: float) -> Scene:
    """One room; `pick` (0..1) chooses its use."""
    width, height = rng.choice(look.sizes)
    canvas = Canvas(width, height, rng)
    span = rng.uniform(3.4, 6.0) * min(width / height, 1.3)
    left = -span * rng.uniform(0.35, 0.65)
    room = Room(left, left + span, rng.uniform(3.2, 5.5), rng.uniform(2.4, 3.0), spread(ROOMS, pick)[0])
    camera = Camera(
        focal=rng.uniform(0.75, 1.1) * height,
        centre=width / 2,
        horizon=height * rng.uniform(0.28, 0.5),
        height=rng.uniform(1.25, 1.7),
    )
    paint_shell(canvas, camera, room, rng)
    decorate(canvas, camera, room, rng)
    dressing = _Dressing(canvas, camera, room, look, rng, Depth())
    dressing.furnish()
    dressing.inhabit()
    dressing.queue.paint()
    _ceiling_light(canvas, camera, room, rng)
    return canvas.finish()


@dataclass(frozen=True, slots=True)
class _Dressing:
    """Where things of one room go."""

    canvas: Canvas
    camera: Camera
    room: Room
    look: Look
    rng: Random
    queue: Depth

    def furnish(self) -> None:
        """What the room is for."""
        {
            "living": self._living,
            "bedroom": self._bedroom,
            "kitchen": self._kitchen,
            "bathroom": self._bathroom,
            "office": self._office,
            "dining": self._dining_room,
        }[self.room.kind]()

    def inhabit(self) -> None:
        """People, pets and what they leave on the floor."""
        rng, back = self.rng, self.room.back
        if rng.random() < 0.35:
            place = self._x(rng.uniform(0.2, 0.8)), back * rng.uniform(0.5, 0.8)
            self.queue.add(place[1], _resident, self.canvas, self.camera, place, self.look, rng)
        pets = [species for species in ("cat", "dog") if species in self.look.subjects]
        if pets and rng.random() < 0.4:
            place = self._x(rng.uniform(0.2, 0.8)), back * rng.uniform(0.4, 0.6)
            foot, scale = self.camera.project((place[0], 0, place[1])), self.camera.size(place[1])
            self.queue.add(place[1], animal, self.canvas, foot, scale, rng.choice(pets), rng)
        if rng.random() < 0.35:
            place = self._x(rng.uniform(0.15, 0.85)), back * rng.uniform(0.5, 0.75)
            kind = rng.choice(("box", "bag", "backpack", "suitcase"))
            self.queue.add(place[1], _dropped, self.canvas, self.camera, place, kind, rng)

    def _x(self, share: float) -> float:
        return self.room.left + (self.room.right - self.room.left) * share

    def _put(self, paint: Callable[..., object], at: Floor, *args: object) -> None:
        self.queue.add(at[1], paint, self.canvas, self.camera, at, *args)

    def _rug(self, chance: float) -> None:
        if self.rng.random() < chance:
            _rug(self.canvas, self.camera, (self._x(self.rng.uniform(0.4, 0.6)), self.room.back * 0.6), self.rng)

    def _living(self) -> None:
        rng, back = self.rng, self.room.back
        self._rug(0.6)
        x = self._x(rng.uniform(0.35, 0.65))
        self._put(furniture.couch, (x, back - 0.6), _FACING + rng.uniform(-0.1, 0.1), rng)
        if rng.random() < 0.7:
            self._put(fittings.lay_table, (x, back - 1.8), rng, "table/low")
        if rng.random() < 0.7:
            side = rng.choice((-1, 1))
            self._put(furniture.couch, (x + side * 1.7, back - 1.6), _FACING + side * 0.9, rng, "armchair")
        self._along_wall("lamp", "plant", "bookcase", "screen", "plant")

    def _bedroom(self) -> None:
        rng, back = self.rng, self.room.back
        self._rug(0.5)
        x = self._x(rng.uniform(0.35, 0.65))
        self._put(furniture.bed, (x, back - 1.1), _FACING, rng)
        for side in (-1.3, 1.3):
            if rng.random() < 0.75:
                self._put(fittings.nightstand, (x + side, back - 0.3), rng)
        self._along_wall("wardrobe", "chest_of_drawers", "chair", "plant")

    def _kitchen(self) -> None:
        rng, back = self.rng, self.room.back
        x = self._x(rng.uniform(0.4, 0.6))
        self._put(furniture.basin, (x, back - 0.32), rng, True)
        self._put(fittings.wall_cupboards, (x, back - 0.17), rng)
        self._put(fittings.refrigerator, (x + 1.35, back - 0.36), rng)
        if rng.random() < 0.8:
            self._put(fittings.oven, (x - 1.3, back - 0.34), rng)
        if rng.random() < 0.5:
            self._dining((self._x(rng.uniform(0.4, 0.6)), back * 0.55))

    def _bathroom(self) -> None:
        rng, back = self.rng, self.room.back
        self._rug(0.5)
        order = rng.sample((0.2, 0.5, 0.8), 3)
        self._put(furniture.toilet, (self._x(order[0]), back - 0.4), _FACING, rng)
        self._put(furniture.basin, (self._x(order[1]), back - 0.3), rng, False)
        if rng.random() < 0.6:
            self._put(furniture.tub, (self._x(order[2]), back - 0.42), rng)

    def _office(self) -> None:
        rng = self.rng
        for share in (0.3, 0.7):
            if rng.random() < 0.85:
                x, z = self._x(share), self.room.back - 0.5 - rng.uniform(0, 0.8)
                self._put(fittings.work_desk, (x, z), rng)
                seat = (x + rng.uniform(-0.2, 0.2), z - 0.75)
                self._put(furniture.chair, seat, _BACK + rng.uniform(-0.5, 0.5), rng)
        self._along_wall("bookcase", "cabinet", "plant", "box")

    def _dining_room(self) -> None:
        self._rug(0.4)
        self._dining((self._x(0.5), self.room.back * 0.62))
        self._along_wall("cabinet", "plant", "lamp", "bookcase")

    def _dining(self, at: Floor) -> None:
        for side in (-1, 1):
            for shift in (-0.4, 0.4):
                if self.rng.random() < 0.75:
                    yaw = -side * math.pi / 2 + self.rng.uniform(-0.3, 0.3)
                    self._put(furniture.chair, (at[0] + shift, at[1] + side * 0.6), yaw, self.rng)
        self._put(fittings.lay_table, at, self.rng, "table")

    def _along_wall(self, *kinds: str) -> None:
        for share in (0.1, 0.9):
            at = (self._x(share), self.room.back - 0.32)
            self._put(fittings.wall_piece, at, self.rng.choice(kinds), self.rng)


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
    glow = flat((255, 250, 225))
    if rng.random() < 0.5:
        canvas.ellipse(x, y, 0.22 * scale, 0.07 * scale, glow)
    else:
        canvas.line((x, y), (x, y + 0.35 * scale), max(0.02 * scale, 0.7), flat((60, 60, 60)))
        canvas.ellipse(x, y + 0.42 * scale, 0.16 * scale, 0.12 * scale, glow)
