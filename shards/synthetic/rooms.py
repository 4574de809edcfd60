"""Furnished rooms: a box seen from inside, with what hangs on its walls and stands in it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from segstream.shards.synthetic.canvas import Camera
from segstream.shards.synthetic.domains import Range
from segstream.shards.synthetic.objects import draw_object, mixed, spread
from segstream.shards.synthetic.read_table import entry
from segstream.shards.synthetic.stage import NONE, Stage, Weights

_NEAR = 0.35  # metres to where floor and walls begin
_SURFACES = ((0.6, "wall/tile", "wall_tiles"), (0.63, "wall/brick", "brick"), (0.71, "wall/wood", "panelling"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """An object of a room."""

    what: Weights
    x: Range
    """Share of the width."""
    z: Range
    """Share of the depth."""
    ahead: float
    """Metres nearer than that."""
    up: float = 0.0
    chance: float = 1.0
    turn: Range = (0.0, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomKind:
    """What a room is used for."""

    share: float
    rug: float
    walls: Weights
    things: tuple[Place, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rooms:
    """Kinds of rooms, and what all have."""

    kinds: Mapping[str, RoomKind]
    walls: Weights
    heights: Mapping[str, float]
    anywhere: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Walls:
    """Inner walls in metres: X from `left` to `right`, Z up to `back`, Y up to `top`."""

    left: float
    right: float
    back: float
    top: float


def draw_room(stage: Stage, pick: float) -> None:
    """A room; `pick` (0..1) chooses its use."""
    rng, canvas, rooms = stage.rng, stage.canvas, entry(Rooms, "scenes", "rooms")
    width, height = canvas.width, canvas.height
    name = spread({name: kind.share for name, kind in rooms.kinds.items()}, pick)[0]
    kind = rooms.kinds[name]
    span = rng.uniform(3.4, 6.0) * min(width / height, 1.3)
    left = -span * rng.uniform(0.35, 0.65)
    walls = Walls(left, left + span, rng.uniform(3.2, 5.5), rng.uniform(2.4, 3.0))
    stage.camera = Camera(
        focal=rng.uniform(0.75, 1.1) * height,
        centre=width / 2,
        horizon=height * rng.uniform(0.28, 0.5),
        height=rng.uniform(1.25, 1.7),
    )
    draw_walls(stage, walls, wet=name in ("bathroom", "kitchen"))
    slots = [("back", left + span * share) for share in (0.2, 0.5, 0.8)]
    slots += [(wall, walls.back * share) for wall in ("left", "right") for share in (0.45, 0.75)]
    for wall, along in slots:
        hang(stage, walls, wall, along, kind.walls)
    if rng.random() < kind.rug:
        x, z = left + span * rng.uniform(0.4, 0.6), walls.back * 0.6
        wide, long = rng.uniform(0.8, 1.4), rng.uniform(0.5, 0.9)
        stage.ground("rug", stage.rectangle(x - wide, x + wide, max(z - long, 0.5), z + long))
    pets = "cat" in stage.domain.subjects
    for place in (*kind.things, *rooms.anywhere):
        if rng.random() < place.chance and (pets or "cat" not in place.what):
            what, x = spread(place.what, rng.random())[0], left + span * rng.uniform(*place.x)
            z = walls.back * rng.uniform(*place.z) - place.ahead
            base = place.up if what != "ceiling light" else walls.top - 0.6
            stage.put(what, x, z, turn=rng.uniform(*place.turn), base=base)
    stage.draw()


def draw_walls(stage: Stage, walls: Walls, *, wet: bool) -> None:
    """Ceiling, floor and walls of a room."""
    rng, canvas, camera = stage.rng, stage.canvas, stage.camera
    style = rng.random() + (0.0 if wet else 0.6)
    label, paint = next((surface for limit, *surface in _SURFACES if style < limit), ["wall", "wallpaper"])
    canvas.begin("ceiling")
    white = mixed("plaster", rng)
    canvas.poly(stage.below(0), white)
    floor = "parquet" if not wet and rng.random() < 0.6 else "flooring"
    stage.ground(floor, stage.rectangle(walls.left, walls.right, _NEAR, walls.back))
    canvas.begin(label)
    surface = mixed(paint, rng)
    corners = [(walls.left, _NEAR), (walls.left, walls.back), (walls.right, walls.back), (walls.right, _NEAR)]
    for (x0, z0), (x1, z1), light in zip(corners, corners[1:], (0.82, 0.92, 1.0), strict=False):
        for top, material in ((walls.top, surface), (0.1, white)):  # and the skirting board
            spots = [(x0, 0, z0), (x1, 0, z1), (x1, top, z1), (x0, top, z0)]
            canvas.poly([camera.project(spot) for spot in spots], material.lit(light))


def hang(stage: Stage, walls: Walls, wall: str, along: float, more: Weights) -> None:
    """Perhaps one thing `along` metres on the `back`, `left` or `right` wall; `more` than any room may have."""
    rooms = entry(Rooms, "scenes", "rooms")
    name = spread({**rooms.walls, **more}, stage.rng.random())[0]
    x, z, yaw = {
        "back": (along, walls.back, 0.0),
        "left": (walls.left, along, math.pi / 2),
        "right": (walls.right, along, -math.pi / 2),
    }[wall]
    if name != NONE:
        base = rooms.heights.get(name, 0.01)
        draw_object(stage.canvas, stage.camera, name, (x, z), stage.rng, yaw=yaw, base=base)
