"""Streets: a road in perspective between buildings, trees and whatever moves or stands on it."""

import math
from dataclasses import dataclass

from segstream.shards.synthetic.domains import Range
from segstream.shards.synthetic.objects import extent, mixed, object_named, spread
from segstream.shards.synthetic.read_table import entry
from segstream.shards.synthetic.stage import NONE, Stage, Weights

_END = 65.0  # metres: nothing stands farther away, but for buildings


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """Objects along a street."""

    what: Weights
    at: str
    """Which strip of the street."""
    z: Range
    """Metres to the first one."""
    every: Range = (0.0, 0.0)
    """Metres from one to the next."""
    most: int = 99
    chance: float = 1.0
    share: float = 1.0
    """Weight among the features."""
    turn: Range | None = None
    """Radians from the direction of travel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Streets:
    """What stands along streets, close to the camera, and between buildings."""

    strips: tuple[Strip, ...]
    features: tuple[Strip, ...]
    gaps: Weights


@dataclass(frozen=True, slots=True)
class _Side:
    """One side of a street: -1 left or 1 right, its kerb and building line at X in metres."""

    sign: int
    kerb: float
    front: float


def draw_street(stage: Stage, pick: float) -> None:
    """A street; `pick` (0..1) chooses what is seen up close."""
    rng, canvas, domain = stage.rng, stage.canvas, stage.domain
    streets = entry(Streets, "scenes", "street")
    density = rng.uniform(*domain.haze)
    low = stage.sky(stage.camera.horizon)
    stage.horizon(low)
    left, right = -rng.uniform(2.6, 5.5), rng.uniform(2.8, 5.5)
    sides = (_Side(-1, left, left - rng.uniform(2.0, 6.0)), _Side(1, right, right + rng.uniform(2.0, 6.0)))
    canvas.haze = (low, density)  # the ground fades row by row, so it takes the density itself
    stage.ground("grass")
    for side in sides:
        verge = rng.choice((0.0, 0.0, 0.35))
        stage.ground("pavement", stage.rectangle(side.kerb + (side.front - side.kerb) * verge, side.front))
    stage.ground("road", stage.rectangle(left, right))
    _draw_markings(stage, left, right)
    canvas.haze = (low, 0.0)
    features = [strip for strip in streets.features if all(domain.traffic.get(what, 1) for what in strip.what)]
    feature = features[int(spread({str(i): strip.share for i, strip in enumerate(features)}, pick)[0])]
    featured = rng.choice((-1, 1))
    for side in sides:
        _put_buildings(stage, side, streets.gaps)
        for strip in streets.strips:
            if rng.random() < strip.chance:
                free = side.sign == featured and feature.at == "lane" and strip.at in ("lane", "parked")
                _put_strip(stage, strip, side, first=28.0 if free else 0.0)
        if side.sign == featured:
            _put_strip(stage, feature, side, close=True)
    stage.draw(lambda z: (low, 1 - math.exp(-density * max(z, 0))))
    edge, start = rng.choice((sides[0].front, sides[1].front)), rng.uniform(0.5, 12)
    shadow = stage.rectangle(edge, edge * rng.uniform(-0.3, 0.6), start, start + rng.uniform(5, 40))
    canvas.shade(shadow, rng.uniform(0.55, 0.9), 0.8)
    if domain.hood:
        width, height = canvas.width, canvas.height
        top = height * rng.uniform(0.9, 0.94)
        arc = [(width * i / 12, top + (height - top) * ((i - 6) / 6) ** 2 * 0.8) for i in range(13)]
        canvas.begin("ego")
        canvas.poly([*arc, (width, height + 1), (0, height + 1)], mixed("coat", rng).lit(0.4))


def _draw_markings(stage: Stage, left: float, right: float) -> None:
    rng, paint = stage.rng, mixed("marking", stage.rng)
    stage.canvas.begin("road/marking")
    middle, z = (left + right) / 2, rng.uniform(1, 4)
    while z < 60:
        stage.canvas.poly(stage.rectangle(middle - 0.08, middle + 0.08, z, z + 2.5), paint)
        z += 6
    if rng.random() < 0.2:  # a zebra crossing
        z, x = rng.uniform(6, 14), left + 0.3
        while x < right - 0.5:
            stage.canvas.poly(stage.rectangle(x, x + 0.5, z, z + 3), paint)
            x += 1.0
    kerb = mixed("paving", rng).lit(1.1)
    stage.canvas.begin("sidewalk_pavement")
    for edge in (left, right):
        stage.canvas.poly(stage.rectangle(edge, edge + math.copysign(0.2, edge)), kerb)


def _put_buildings(stage: Stage, side: _Side, gaps: Weights) -> None:
    """Buildings, and gardens or other `gaps` between them, along one side."""
    rng = stage.rng
    z, crowded = rng.uniform(-4, 4), rng.uniform(0.4, 0.95)
    while z < 75:
        building = rng.random() < crowded
        what = spread(stage.domain.town if building else gaps, rng.random())[0]
        length = 8.0 if what == NONE else extent(what)[0] * rng.uniform(1.0, 1.25)
        deep = object_named(what).parts[0].wide / 2 if building else 0.0
        back = side.sign * (deep + rng.uniform(0.0, 1.0))
        stage.put(what, side.front + back, z + length / 2, heading=math.pi / 2)
        if what == "block" and rng.random() < 0.25:
            stage.put("awning", side.front - side.sign * 0.4, z + length / 2, heading=math.pi / 2)
        for _ in range(0 if building else rng.randint(1, 3)):
            stage.put("tree", side.front + side.sign * rng.uniform(2, 9), z + rng.uniform(0, length))
        z += length


def _put_strip(stage: Stage, strip: Strip, side: _Side, first: float = 0.0, *, close: bool = False) -> None:
    """Objects of a strip along one side, none nearer than `first` metres; `close` ones within the picture."""
    rng, sign = stage.rng, side.sign
    weights = {**strip.what, **stage.domain.traffic} if strip.at == "lane" and not close else strip.what
    z = max(rng.uniform(*strip.z), first)
    for _ in range(strip.most):
        what = spread(weights, rng.random())[0]
        x = {
            "lane": side.kerb * rng.uniform(0.3, 0.6),
            "parked": side.kerb - sign * 1.1,
            "kerb": side.kerb + sign * 0.5,
            "walk": rng.uniform(side.kerb + sign * 0.6, side.front - sign * 0.3),
            "front": side.front,
            "yard": side.front + sign * rng.uniform(2.0, 9.0),
            "crossing": side.kerb * rng.uniform(-0.6, 0.6),
        }[strip.at]
        heading = math.pi / 2 if strip.at == "front" else None
        if strip.turn is not None:
            heading = sign * math.pi / 2 + rng.uniform(*strip.turn)
        reach = extent(what)[0] / 2 if what != NONE and strip.turn is not None else 0.0
        if close:
            x = min(max(x, -0.42 * (z + reach)), 0.42 * (z + reach))
        stage.put(what, x, z + reach, heading=heading)
        z += 2 * reach + rng.uniform(*strip.every)
        if z > _END:
            break
