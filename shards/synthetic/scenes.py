"""Scenes: a street in perspective, a room, or a few large subjects, composed of the objects of the tables."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from random import Random

from segstream.shards.schema import parse
from segstream.shards.synthetic.canvas import Camera, Canvas, Point, Scene, Spot
from segstream.shards.synthetic.domains import Domain, Range
from segstream.shards.synthetic.objects import chosen, draw_object, extent, mixed, object_named, spread, table
from segstream.shards.synthetic.textures import Colour, Material, blend

FAR = 140.0  # metres to where the ground ends
NONE = "none"
Weights = Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Objects along a street."""

    what: Weights
    at: str
    """A strip of the street."""
    z: Range
    every: Range | None = None
    chance: float = 1.0
    share: float = 1.0
    """Weight among the features."""
    turn: Range | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """An object of a room."""

    what: Weights
    x: Range
    z: Range
    ahead: float
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
class Subject:
    """What an everyday picture is of."""

    what: Weights
    place: Weights
    fill: Range
    count: tuple[int, int]
    turn: Range | None = None
    company: Weights = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """A surface to stand on."""

    label: str
    paint: str
    grain: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Street:
    """What stands along streets, seen close and between buildings."""

    rows: tuple[Row, ...]
    features: tuple[Row, ...]
    gaps: Weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """`tables/scenes.yaml`."""

    grounds: Mapping[str, Ground]
    street: Street
    rooms: Mapping[str, RoomKind]
    walls: Weights
    heights: Weights
    anywhere: tuple[Place, ...]
    subjects: Mapping[str, Subject]


@functools.cache
def tables() -> Tables:
    """What scenes are made of."""
    return parse(Tables, table("scenes"), at="scenes.yaml")


def draw_scene(domain: Domain, rng: Random, kind: str, pick: float) -> Scene:
    """A scene of a kind (street, room or everyday); `pick` (0..1) chooses what is seen in it."""
    width, height = rng.choice(domain.sizes)
    camera = Camera(
        focal=rng.uniform(*domain.focal) * min(height, width * 1.1),
        centre=width * rng.uniform(0.45, 0.55),
        horizon=height * rng.uniform(*domain.horizon),
        height=rng.uniform(*domain.camera_height),
    )
    stage = _Stage(Canvas(width, height, rng), camera, domain, rng, [])
    {"street": _street, "room": _room, "everyday": _everyday}[kind](stage, pick)
    return stage.canvas.finish()


@dataclass(slots=True)
class _Stage:
    """A scene in the making: what is put into it is drawn from far to near."""

    canvas: Canvas
    camera: Camera
    domain: Domain
    rng: Random
    queue: list[tuple[float, Callable[[], None]]]

    def put(
        self,
        what: str,
        x: float,
        z: float,
        *,
        heading: float | None = None,
        turn: float = 0.0,
        base: float = 0.0,
        **size: float,
    ) -> None:
        """Have an object stand at (`x`, `z`) metres, headed that way, or turned from the camera (radians)."""
        if what == NONE:
            return
        name = chosen(what, self.rng)
        yaw = turn or None
        if heading is not None:
            yaw = heading + math.pi / 2 if object_named(name).forward else heading
        near = z - 0.45 * extent(name)[0] * abs(math.sin(heading or 0.0))  # a long thing is as near as its near end
        draw = functools.partial(
            draw_object, self.canvas, self.camera, name, (x, z), self.rng, yaw=yaw, base=base, **size
        )
        self.queue.append((near, draw))

    def draw(self, haze: Callable[[float], tuple[Colour, float]] | None = None) -> None:
        """Draw what was put, in the haze of its distance."""
        for z, draw in sorted(self.queue, key=lambda item: -item[0]):
            if haze is not None:
                self.canvas.haze = haze(z)
            draw()
        self.canvas.haze = ((0.0, 0.0, 0.0), 0.0)
        self.queue.clear()

    def across(self, share: float, z: float) -> float:
        """X at distance `z` of a place `share` of the width from the left."""
        return (share * self.canvas.width - self.camera.centre) * z / self.camera.focal

    def fill(self, label: str, spots: list[Spot], material: Material) -> None:
        """A polygon in space."""
        self.canvas.begin(label)
        self.canvas.poly([self.camera.project(spot) for spot in spots], material)

    def ground(self, name: str, points: list[Point] | None = None) -> None:
        """A surface lying on the ground within a polygon of the picture, or all of it below the horizon."""
        ground = tables().grounds[name]
        self.canvas.begin(ground.label)
        self.canvas.ground(
            self.camera, points or self.below(self.camera.horizon), mixed(ground.paint, self.rng), ground.grain
        )

    def below(self, y: float) -> list[Point]:
        """The part of the picture below a row."""
        width, height = self.canvas.width, self.canvas.height
        return [(0, y), (width, y), (width, height), (0, height)]

    def strip(self, x0: float, x1: float, z0: float = 0.4, z1: float = FAR) -> list[Point]:
        """A rectangle on the ground."""
        return [self.camera.project(spot) for spot in ((x0, 0, z0), (x0, 0, z1), (x1, 0, z1), (x1, 0, z0))]

    def sky(self, horizon: float) -> Colour:
        """Paint the sky down to a row; returns its colour there, which distant things fade to."""
        rng, width = self.rng, self.canvas.width
        top = mixed("sky", rng).a
        low = blend(top, (244, 240, 232), rng.uniform(0.55, 0.85))
        tone = rng.uniform(0, 60)
        clouds = Material((0, 0, 0), (tone, tone, tone), "cloud", rng.uniform(1.0, 2.5))
        self.canvas.begin("sky")
        self.canvas.backdrop([(0, 0), (width, 0), (width, horizon + 1), (0, horizon + 1)], top, low, clouds)
        return low

    def ridge(
        self, label: str, paint: str, base: float, height: float, step: float, haze: tuple[Colour, float]
    ) -> None:
        """A jagged band along a row: mountains, woods, a far town."""
        rng, width = self.rng, self.canvas.width
        points: list[Point] = [(-2, base + 1)]
        x, level = -2.0, rng.uniform(0.3, 0.9)
        while x < width + 2:
            points.append((x, base - height * level))
            x += rng.uniform(0.4, 1.6) * step
            level = min(max(level + rng.uniform(-0.4, 0.4), 0.1), 1.0)
        self.canvas.begin(label)
        self.canvas.poly(
            [*points, (width + 2, base - height * level), (width + 2, base + 1)], mixed(paint, rng).mixed(*haze)
        )

    def horizon(self, low: Colour) -> None:
        """Hills, and woods or a town, along the horizon."""
        rng, y, height = self.rng, self.camera.horizon, self.canvas.height
        if rng.random() < 0.35:
            self.ridge(
                rng.choice(("mountain_hill", "mountain_hill/hill")),
                "hill",
                y,
                height * rng.uniform(0.1, 0.28),
                20,
                (low, 0.25),
            )
        roll = rng.random()
        if roll < 0.5:
            self.ridge("vegetation", "leaf", y, height * rng.uniform(0.08, 0.2), 7, (low, 0.15))
        elif roll < 0.75:
            self.ridge("building", "town", y, height * 0.17, 14, (low, 0.1))


def _street(stage: _Stage, pick: float) -> None:
    rng, camera, canvas, domain = stage.rng, stage.camera, stage.canvas, stage.domain
    density = rng.uniform(*domain.haze)
    low = stage.sky(camera.horizon)
    stage.horizon(low)
    kerbs = (-rng.uniform(2.6, 5.5), rng.uniform(2.8, 5.5))
    fronts = (kerbs[0] - rng.uniform(2.0, 6.0), kerbs[1] + rng.uniform(2.0, 6.0))
    canvas.haze = (low, density)  # the ground fades row by row, so it takes the density itself
    stage.ground("grass")
    for kerb, front in zip(kerbs, fronts, strict=True):
        verge = rng.choice((0.0, 0.0, 0.35))
        stage.ground("pavement", stage.strip(kerb + (front - kerb) * verge, front))
    stage.ground("road", stage.strip(*kerbs))
    _markings(stage, kerbs)
    canvas.haze = (low, 0.0)
    features = [r for r in tables().street.features if all(domain.traffic.get(what, 1) for what in r.what)]
    feature = features[int(spread({str(i): r.share for i, r in enumerate(features)}, pick)[0])]
    featured = rng.choice((-1, 1))
    for side, kerb, front in zip((-1, 1), kerbs, fronts, strict=True):
        _fronts(stage, side, front)
        for row in tables().street.rows:
            if rng.random() < row.chance:
                hidden = side == featured and feature.at == "lane" and row.at in ("lane", "parked")
                _row(stage, row, side, kerb, front, first=28.0 if hidden else 0.0)
        if side == featured:
            _row(stage, feature, side, kerb, front)
    stage.draw(lambda z: (low, 1 - math.exp(-density * max(z, 0))))
    edge, start = rng.choice(fronts), rng.uniform(0.5, 12)
    shadow = stage.strip(edge, edge * rng.uniform(-0.3, 0.6), start, start + rng.uniform(5, 40))
    canvas.shade(shadow, rng.uniform(0.55, 0.9), 0.8)
    if domain.hood:
        width, height = canvas.width, canvas.height
        top = height * rng.uniform(0.9, 0.94)
        arc = [(width * i / 12, top + (height - top) * ((i - 6) / 6) ** 2 * 0.8) for i in range(13)]
        canvas.begin("ego")
        canvas.poly([*arc, (width, height + 1), (0, height + 1)], mixed("coat", rng).lit(0.4))


def _markings(stage: _Stage, kerbs: tuple[float, float]) -> None:
    rng, paint = stage.rng, mixed("marking", stage.rng)
    stage.canvas.begin("road/marking")
    middle, z = sum(kerbs) / 2, rng.uniform(1, 4)
    while z < 60:
        stage.canvas.poly(stage.strip(middle - 0.08, middle + 0.08, z, z + 2.5), paint)
        z += 6
    if rng.random() < 0.2:  # a zebra crossing
        z, x = rng.uniform(6, 14), kerbs[0] + 0.3
        while x < kerbs[1] - 0.5:
            stage.canvas.poly(stage.strip(x, x + 0.5, z, z + 3), paint)
            x += 1.0
    kerb = mixed("paving", rng).lit(1.1)
    stage.canvas.begin("sidewalk_pavement")
    for edge in kerbs:
        stage.canvas.poly(stage.strip(edge, edge + math.copysign(0.2, edge)), kerb)


def _fronts(stage: _Stage, side: int, x: float) -> None:
    """Buildings and gaps along one side of a street."""
    rng = stage.rng
    z, crowded = rng.uniform(-4, 4), rng.uniform(0.4, 0.95)
    while z < 75:
        building = rng.random() < crowded
        what = spread(stage.domain.town if building else tables().street.gaps, rng.random())[0]
        length = 8.0 if what == NONE else extent(what)[0] * rng.uniform(1.0, 1.25)
        deep = object_named(what).parts[0].wide / 2 if building else 0.0
        stage.put(what, x + side * (deep + rng.uniform(0.0, 1.0)), z + length / 2, heading=math.pi / 2)
        if what == "block" and rng.random() < 0.25:
            stage.put("awning", x - side * 0.4, z + length / 2, heading=math.pi / 2)
        for _ in range(0 if building else rng.randint(1, 3)):
            stage.put("tree", x + side * rng.uniform(2, 9), z + rng.uniform(0, length))
        z += length


def _row(stage: _Stage, row: Row, side: int, kerb: float, front: float, first: float = 0.0) -> None:
    """Objects of a row along one side of a street, none nearer than `first` metres."""
    rng = stage.rng
    what_there = dict(row.what)
    if row.at == "lane" and row.every:
        what_there |= stage.domain.traffic
    z = max(rng.uniform(*row.z), first)
    while z < 65:
        what = spread(what_there, rng.random())[0]
        x = {
            "lane": kerb * rng.uniform(0.3, 0.6),
            "parked": kerb - side * 1.1,
            "kerb": kerb + side * 0.5,
            "walk": rng.uniform(kerb + side * 0.6, front - side * 0.3),
            "front": front,
            "yard": front + side * rng.uniform(2.0, 9.0),
            "crossing": kerb * rng.uniform(-0.6, 0.6),
        }[row.at]
        heading = None
        if row.at == "front":
            heading = math.pi / 2
        elif row.turn is not None:
            heading = side * math.pi / 2 + rng.uniform(*row.turn)
        reach = extent(what)[0] / 2 if what != NONE and row.turn is not None else 0.0
        if row.every is None:
            x = min(max(x, -0.42 * (z + reach)), 0.42 * (z + reach))
        stage.put(what, x, z + reach, heading=heading)
        if row.every is None:
            break
        z += 2 * reach + rng.uniform(*row.every)


@dataclass(frozen=True, slots=True)
class _Walls:
    """Inner walls in metres: X from `left` to `right`, Z up to `back`, Y up to `top`."""

    left: float
    right: float
    back: float
    top: float


def _room(stage: _Stage, pick: float) -> None:
    rng, canvas = stage.rng, stage.canvas
    width, height = canvas.width, canvas.height
    name = spread({name: kind.share for name, kind in tables().rooms.items()}, pick)[0]
    kind = tables().rooms[name]
    span = rng.uniform(3.4, 6.0) * min(width / height, 1.3)
    left = -span * rng.uniform(0.35, 0.65)
    walls = _Walls(left, left + span, rng.uniform(3.2, 5.5), rng.uniform(2.4, 3.0))
    stage.camera = Camera(
        focal=rng.uniform(0.75, 1.1) * height,
        centre=width / 2,
        horizon=height * rng.uniform(0.28, 0.5),
        height=rng.uniform(1.25, 1.7),
    )
    _shell(stage, walls, wet=name in ("bathroom", "kitchen"))
    slots = [("back", walls.left + span * share) for share in (0.2, 0.5, 0.8)]
    slots += [(wall, walls.back * share) for wall in ("left", "right") for share in (0.45, 0.75)]
    for wall, along in slots:
        _hang(stage, walls, wall, along, {**tables().walls, **kind.walls})
    if rng.random() < kind.rug:
        x, z = walls.left + span * rng.uniform(0.4, 0.6), walls.back * 0.6
        wide, long = rng.uniform(0.8, 1.4), rng.uniform(0.5, 0.9)
        canvas.begin("rug_floormat")
        canvas.ground(
            stage.camera, stage.strip(x - wide, x + wide, max(z - long, 0.5), z + long), mixed("rug", rng), 60
        )
    pets = "cat" in stage.domain.subjects
    for place in (*kind.things, *tables().anywhere):
        if rng.random() < place.chance and (pets or "cat" not in place.what):
            what, x = spread(place.what, rng.random())[0], walls.left + span * rng.uniform(*place.x)
            z = walls.back * rng.uniform(*place.z) - place.ahead
            base = place.up if what != "ceiling light" else walls.top - 0.6
            stage.put(what, x, z, turn=rng.uniform(*place.turn), base=base)
    stage.draw()


def _shell(stage: _Stage, walls: _Walls, *, wet: bool) -> None:
    """Ceiling, floor and walls of a room."""
    rng, canvas, camera, near = stage.rng, stage.canvas, stage.camera, 0.35
    style = rng.random() + (0.0 if wet else 0.6)
    label, paint = "wall", "wallpaper"
    if style < 0.6:
        label, paint = "wall/tile", "wall_tiles"
    elif 0.6 <= style < 0.7:
        label, paint = "wall/brick", "brick"
    elif 0.7 <= style < 0.78:
        label, paint = "wall/wood", "panelling"
    canvas.begin("ceiling")
    white = mixed("plaster", rng)
    canvas.poly([(0, 0), (canvas.width, 0), (canvas.width, canvas.height), (0, canvas.height)], white)
    wooden = not wet and rng.random() < 0.6
    canvas.begin("floor/wood" if wooden else "floor")
    floor = mixed("parquet" if wooden else "flooring", rng)
    canvas.ground(camera, stage.strip(walls.left, walls.right, near, walls.back), floor, 70)
    canvas.begin(label)
    surface = mixed(paint, rng)
    corners = [(walls.left, near), (walls.left, walls.back), (walls.right, walls.back), (walls.right, near)]
    for (x0, z0), (x1, z1), light in zip(corners, corners[1:], (0.82, 0.92, 1.0), strict=False):
        for top, material in ((walls.top, surface), (0.1, white)):  # and the skirting board
            spots = [(x0, 0, z0), (x1, 0, z1), (x1, top, z1), (x0, top, z0)]
            canvas.poly([camera.project(spot) for spot in spots], material.lit(light))


def _hang(stage: _Stage, walls: _Walls, wall: str, along: float, what: Weights) -> None:
    """Perhaps one thing on a wall, `along` metres from its start."""
    name = spread(what, stage.rng.random())[0]
    x, z = (along, walls.back) if wall == "back" else (walls.left if wall == "left" else walls.right, along)
    yaw = {"back": 0.0, "left": math.pi / 2, "right": -math.pi / 2}[wall]
    if name != NONE:
        draw_object(stage.canvas, stage.camera, name, (x, z), stage.rng, yaw=yaw, base=tables().heights.get(name, 0.01))


def _everyday(stage: _Stage, pick: float) -> None:
    rng, canvas = stage.rng, stage.canvas
    name, rest = spread(stage.domain.subjects, pick)
    subject = tables().subjects[name]
    place = spread(subject.place, rest)[0]
    what = chosen(spread(subject.what, rng.random())[0], rng)
    long, tall = extent(what)
    table_height = 0.0
    if place in ("home", "tabletop"):
        table_height = _home(stage, place == "tabletop")
    elif place in ("sky", "branch"):
        stage.sky(canvas.height)
        if rng.random() < 0.5:
            stage.ridge(
                "vegetation", "leaf", canvas.height, canvas.height * rng.uniform(0.05, 0.3), 9, ((0, 0, 0), 0.0)
            )
    else:
        eye = min(stage.camera.height, max(tall, 0.3) * rng.uniform(0.8, 1.5))  # as one kneels for a cat
        stage.camera = replace(stage.camera, height=eye)
        _landscape(stage, place)
    if place in ("sky", "branch"):
        y = canvas.height * rng.uniform(0.35, 0.7)
        if place == "branch":
            canvas.begin("vegetation")
            bark = mixed("bark", rng)
            canvas.poly([(0, y - 2), (canvas.width, y - 8), (canvas.width, y), (0, y + 5)], bark)
        stage.camera = replace(stage.camera, horizon=y, height=0.0)
    count = rng.randint(*subject.count)
    for i in range(count):
        fill = rng.uniform(*subject.fill)
        z = stage.camera.focal * max(tall / canvas.height, long / (1.05 * canvas.width)) / fill
        if stage.camera.height > 0:
            z = max(z, _nearest(stage, table_height))
        share = rng.uniform(0.35, 0.65) if count == 1 else (i + rng.uniform(0.3, 0.7)) / count
        turn = 0.0 if subject.turn is None else rng.uniform(*subject.turn)
        if object_named(what).forward and place != "home":
            z += long / 2 * abs(math.cos(turn))
            turn *= rng.choice((-1, 1))
        stage.put(what, stage.across(share, z), z, turn=turn, base=table_height)
        for companion, chance in subject.company.items():
            if rng.random() < chance:
                near = max(z * rng.uniform(0.9, 1.1), _nearest(stage, table_height))
                stage.put(companion, stage.across(rng.choice((0.12, 0.25, 0.8, 0.9)), near), near, base=table_height)
    stage.draw()


def _nearest(stage: _Stage, base: float) -> float:
    """Metres at which what stands `base` metres high is just above the lower edge of the picture."""
    camera = stage.camera
    return 1.04 * camera.focal * (camera.height - base) / max(stage.canvas.height - camera.horizon, 1)


def _landscape(stage: _Stage, ground: str) -> None:
    """Sky, horizon, ground, and a few trees far away."""
    rng, camera = stage.rng, stage.camera
    stage.horizon(stage.sky(camera.horizon))
    if ground == "rails":
        stage.ground(rng.choice(("grass", "dirt")))
        y = camera.horizon + (stage.canvas.height - camera.horizon) * rng.uniform(0.15, 0.4)
        stage.ground("rails", stage.below(y))
        if rng.random() < 0.4:
            stage.ground("platform", stage.below(stage.canvas.height * rng.uniform(0.86, 0.93)))
        return
    if ground == "road":
        stage.ground(rng.choice(("grass", "dirt", "pavement")))
        stage.ground("road", stage.below(camera.project((0, 0, rng.uniform(6, 20)))[1]))
    else:
        stage.ground(ground)
    if ground in ("sea", "lake"):
        if rng.random() < 0.4:
            stage.ground("sand", stage.below(stage.canvas.height * rng.uniform(0.8, 0.93)))
        return
    for _ in range(rng.choice((0, 0, 1, 2, 3))):
        z = rng.uniform(9, 25)
        stage.put(rng.choice(("tree", "tree", "bush")), stage.across(rng.uniform(0, 1), z), z)
    if rng.random() < 0.2:
        z = rng.uniform(7, 12)
        for x in (-8, 0, 8):
            stage.put("fence", x, z)


def _home(stage: _Stage, tabletop: bool) -> float:
    """The back wall of a room, perhaps with a table close to the camera; returns the height of its top, or 0."""
    rng, canvas = stage.rng, stage.canvas
    walls = _Walls(-rng.uniform(1.6, 2.4), rng.uniform(1.6, 2.4), rng.uniform(2.6, 3.4), 2.6)
    stage.camera = Camera(
        focal=rng.uniform(1.15, 1.6) * min(canvas.height, canvas.width),
        centre=canvas.width / 2,
        horizon=canvas.height * rng.uniform(0.2, 0.4),
        height=rng.uniform(1.0, 1.4),
    )
    _shell(stage, walls, wet=False)
    if rng.random() < 0.6:
        _hang(stage, walls, "back", rng.choice((-1.0, 1.0)), tables().walls)
    if not tabletop:
        return 0.0
    high = stage.camera.height - rng.uniform(0.2, 0.4)
    spots = [(-3.0, high, 0.35), (-3.0, high, 1.2), (3.0, high, 1.2), (3.0, high, 0.35)]
    stage.fill("table", spots, mixed(rng.choice(("wood", "wood", "cloth")), rng))
    return high
