"""Landscapes to put a subject before: sky, horizon, ground, a few trees."""

from __future__ import annotations

from random import Random

from segstream.shards.synthetic.canvas import Camera, Canvas
from segstream.shards.synthetic.scenery import bush, fence, leaves, ridge, sky, tree
from segstream.shards.synthetic.textures import surface


def land(
    canvas: Canvas, camera: Camera, rng: Random, kinds: tuple[str, ...] = ("grass", "grass", "dirt", "pavement", "sand")
) -> str:
    """Paint sky, something along the horizon and a ground; returns which of `kinds` it is."""
    low = sky(canvas, camera.horizon, rng)
    height = canvas.height
    if rng.random() < 0.4:
        rocks = surface(rng, (0.05, 0.65), (0.05, 0.3), (0.4, 0.7), "rough", depth=0.3).mixed(low, 0.25)
        ridge(
            canvas,
            camera.horizon,
            height * rng.uniform(0.1, 0.3),
            rocks,
            rng.choice(("mountain_hill", "mountain_hill/hill")),
            rng,
            20,
        )
    roll = rng.random()
    if roll < 0.55:
        ridge(
            canvas,
            camera.horizon,
            height * rng.uniform(0.08, 0.22),
            leaves(rng).mixed(low, 0.12),
            "vegetation",
            rng,
            7,
        )
    elif roll < 0.75:
        town = surface(rng, (0.02, 0.14), (0.05, 0.35), (0.5, 0.85), "checks", depth=0.3, zoom=0.7)
        ridge(canvas, camera.horizon, height * 0.2, town, "building", rng, 16)
    kind = rng.choice(kinds)
    floor(canvas, camera, rng, kind)
    if kind in ("sea", "lake"):
        return kind
    for _ in range(rng.choice((0, 0, 1, 2, 3))):
        z = rng.uniform(9, 25)
        x = rng.uniform(-0.6, 0.6) * z * canvas.width / camera.focal
        foot, scale = camera.project((x, 0, z)), camera.size(z)
        if rng.random() < 0.7:
            tree(canvas, foot, rng.uniform(3, 7) * scale, rng)
        else:
            bush(canvas, foot, rng.uniform(1, 5) * scale, rng.uniform(0.6, 1.2) * scale, rng)
    if rng.random() < 0.25:
        z = rng.uniform(7, 12)
        reach = 0.7 * z * canvas.width / camera.focal
        fence(canvas, camera, (-reach, z), (reach, z), rng)
    return kind


def floor(canvas: Canvas, camera: Camera, rng: Random, kind: str) -> None:
    """Paint the ground up to the horizon: grass, dirt, sand, snow, pavement, road, sea or lake."""
    concept, material = {
        "grass": ("terrain", surface(rng, (0.18, 0.32), (0.3, 0.6), (0.35, 0.62), "grass", depth=0.4)),
        "dirt": ("terrain/dirt", surface(rng, (0.06, 0.1), (0.25, 0.5), (0.4, 0.6), "rough", depth=0.35)),
        "sand": ("terrain/sand", surface(rng, (0.09, 0.13), (0.15, 0.4), (0.7, 0.9), "fine", depth=0.15)),
        "snow": ("snow", surface(rng, (0.55, 0.6), (0.0, 0.05), (0.9, 0.98), "rough", depth=0.08)),
        "pavement": ("sidewalk_pavement", surface(rng, (0.02, 0.12), (0.02, 0.15), (0.5, 0.75), "tiles", depth=0.2)),
        "road": ("road", surface(rng, (0.55, 0.7), (0.0, 0.08), (0.28, 0.48), "rough", depth=0.22)),
        "sea": ("sea", surface(rng, (0.5, 0.6), (0.3, 0.6), (0.4, 0.7), "water", depth=-0.4)),
        "lake": ("river_lake", surface(rng, (0.35, 0.55), (0.2, 0.45), (0.3, 0.55), "water", depth=-0.35)),
    }[kind]
    canvas.begin(concept)
    w, h, y = canvas.width, canvas.height, camera.horizon
    canvas.ground(camera, [(0, y), (w, y), (w, h), (0, h)], material, 12 if kind in ("sea", "lake") else 45)
