"""Everyday pictures: one to three large subjects before a landscape, in the air, or at home."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from segstream.shards.synthetic.canvas import Camera
from segstream.shards.synthetic.domains import Range
from segstream.shards.synthetic.objects import chosen, extent, mixed, object_named, spread
from segstream.shards.synthetic.read_table import entry
from segstream.shards.synthetic.rooms import Walls, draw_walls, hang
from segstream.shards.synthetic.stage import Stage, Weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What an everyday picture is of."""

    what: Weights
    place: Weights
    fill: Range
    """Share of the picture's height or width."""
    count: tuple[int, int]
    turn: Range = (0.0, 0.0)
    company: Mapping[str, float] = field(default_factory=dict)
    """What may stand beside it -> chance."""


def draw_everyday(stage: Stage, pick: float) -> None:
    """A picture of something; `pick` (0..1) chooses of what."""
    rng, canvas = stage.rng, stage.canvas
    name, rest = spread(stage.domain.subjects, pick)
    subject = entry(Subject, "scenes", "subjects", name)
    place = spread(subject.place, rest)[0]
    what = chosen(spread(subject.what, rng.random())[0], rng)
    long, tall = extent(what)
    base = 0.0
    if place in ("home", "tabletop"):
        base = _draw_home(stage, tabletop=place == "tabletop")
    elif place in ("sky", "branch"):
        _draw_air(stage, branch=place == "branch")
    else:
        eye = min(stage.camera.height, max(tall, 0.3) * rng.uniform(0.8, 1.5))  # as one kneels for a cat
        stage.camera = replace(stage.camera, height=eye)
        _draw_landscape(stage, place)
    count = rng.randint(*subject.count)
    for i in range(count):
        fill = rng.uniform(*subject.fill)
        z = stage.camera.focal * max(tall / canvas.height, long / (1.05 * canvas.width)) / fill
        if stage.camera.height > 0:
            z = max(z, stage.nearest(base))
        share = rng.uniform(0.35, 0.65) if count == 1 else (i + rng.uniform(0.3, 0.7)) / count
        turn = rng.uniform(*subject.turn)
        if object_named(what).forward and place != "home":
            z += long / 2 * abs(math.cos(turn))
            turn *= rng.choice((-1, 1))
        stage.put(what, stage.across(share, z), z, turn=turn, base=base)
        for companion, chance in subject.company.items():
            if rng.random() < chance:
                near = max(z * rng.uniform(0.9, 1.1), stage.nearest(base))
                stage.put(companion, stage.across(rng.choice((0.12, 0.25, 0.8, 0.9)), near), near, base=base)
    stage.draw()


def _draw_landscape(stage: Stage, ground: str) -> None:
    """Sky, horizon, ground, and a few trees far away."""
    rng, camera, height = stage.rng, stage.camera, stage.canvas.height
    stage.horizon(stage.sky(camera.horizon))
    if ground == "rails":
        stage.ground(rng.choice(("grass", "dirt")))
        stage.ground("rails", stage.below(camera.horizon + (height - camera.horizon) * rng.uniform(0.15, 0.4)))
        if rng.random() < 0.4:
            stage.ground("platform", stage.below(height * rng.uniform(0.86, 0.93)))
    elif ground == "road":
        stage.ground(rng.choice(("grass", "dirt", "pavement")))
        stage.ground("road", stage.below(camera.project((0, 0, rng.uniform(6, 20)))[1]))
    else:
        stage.ground(ground)
    if ground in ("sea", "lake") and rng.random() < 0.4:
        stage.ground("sand", stage.below(height * rng.uniform(0.8, 0.93)))
    if ground in ("sea", "lake", "rails"):
        return
    for _ in range(rng.choice((0, 0, 1, 2, 3))):
        z = rng.uniform(9, 25)
        stage.put(rng.choice(("tree", "tree", "bush")), stage.across(rng.uniform(0, 1), z), z)
    if rng.random() < 0.2:
        z = rng.uniform(7, 12)
        for x in (-8, 0, 8):
            stage.put("fence", x, z)


def _draw_air(stage: Stage, *, branch: bool) -> None:
    """Nothing but sky, perhaps with woods below or a branch across."""
    rng, canvas = stage.rng, stage.canvas
    width, height = canvas.width, canvas.height
    stage.sky(height)
    if rng.random() < 0.5:
        stage.ridge("vegetation", "leaf", height, height * rng.uniform(0.05, 0.3), 9, ((0, 0, 0), 0.0))
    y = height * rng.uniform(0.35, 0.7)
    if branch:
        canvas.begin("vegetation")
        canvas.poly([(0, y - 2), (width, y - 8), (width, y), (0, y + 5)], mixed("bark", rng))
    stage.camera = replace(stage.camera, horizon=y, height=0.0)


def _draw_home(stage: Stage, *, tabletop: bool) -> float:
    """The back wall of a room, perhaps with a table close to the camera; returns the height of its top, or 0."""
    rng, canvas = stage.rng, stage.canvas
    walls = Walls(-rng.uniform(1.6, 2.4), rng.uniform(1.6, 2.4), rng.uniform(2.6, 3.4), 2.6)
    stage.camera = Camera(
        focal=rng.uniform(1.15, 1.6) * min(canvas.height, canvas.width),
        centre=canvas.width / 2,
        horizon=canvas.height * rng.uniform(0.2, 0.4),
        height=rng.uniform(1.0, 1.4),
    )
    draw_walls(stage, walls, wet=False)
    if rng.random() < 0.6:
        hang(stage, walls, "back", rng.choice((-1.0, 1.0)), {})
    if not tabletop:
        return 0.0
    high = stage.camera.height - rng.uniform(0.2, 0.4)
    canvas.begin("table")
    corners = [(-3.0, high, 0.35), (-3.0, high, 1.2), (3.0, high, 1.2), (3.0, high, 0.35)]
    canvas.poly([stage.camera.project(spot) for spot in corners], mixed(rng.choice(("wood", "wood", "cloth")), rng))
    return high
