"""Facades painted flat, then set up in perspective along a street."""

from __future__ import annotations

from random import Random

import cv2
import numpy as np
import numpy.typing as npt

from segstream.shards.synthetic.canvas import Camera, Canvas
from segstream.shards.synthetic.textures import TILE, Material, hsv, render, surface

_PIXELS = 7.0  # per metre of facade
_LONGEST = 140  # pixels a side


def facade(rng: Random, kind: str, width: float, height: float, wall: Material, detail: float) -> npt.NDArray[np.uint8]:
    """(h, w, 3) picture of a front of `width` by `height` metres, at up to `detail` pixels per metre."""
    scale = min(_PIXELS, detail, _LONGEST / max(width, height, 1.0))
    w, h = max(int(width * scale), 6), max(int(height * scale), 6)
    picture = render(wall, h, w, (rng.randrange(TILE), rng.randrange(TILE)))
    frame = tuple(int(c) for c in hsv(0.1, 0.1, rng.choice((0.25, 0.9, 0.95))))
    floor = rng.uniform(3.2, 4.0) if kind == "tower" else rng.uniform(2.8, 3.3)
    bay = rng.uniform(1.6, 2.2) if kind == "tower" else rng.uniform(2.2, 3.4)
    floors, bays = max(int(height / floor), 1), max(int(width / bay), 1)
    tall, wide = rng.uniform(0.45, 0.62), rng.uniform(0.4, 0.6) if kind != "tower" else 0.8
    shop = kind == "block" and rng.random() < 0.5
    for row in range(floors):
        y1 = h - int((row + 0.25) * h / floors)
        y0 = y1 - int(tall * h / floors)
        ground = row == 0
        for column in range(bays):
            if ground and kind != "tower" and column == bays // 2:
                x0, x1 = int((column + 0.3) * w / bays), int((column + 0.7) * w / bays)
                door = hsv(rng.random(), rng.uniform(0.2, 0.6), rng.uniform(0.15, 0.5))
                cv2.rectangle(picture, (x0, int(h - 0.75 * h / floors)), (x1, h), door, -1)
                continue
            span = 0.86 if shop and ground else wide
            x0 = int((column + 0.5 - span / 2) * w / bays)
            x1 = int((column + 0.5 + span / 2) * w / bays)
            bottom = h - int(0.1 * h / floors) if shop and ground else y1
            cv2.rectangle(picture, (x0 - 1, y0 - 1), (x1 + 1, bottom + 1), frame, -1)
            pane = hsv(rng.uniform(0.5, 0.62), rng.uniform(0.05, 0.35), rng.choice((0.15, 0.22, 0.3, 0.55)))
            cv2.rectangle(picture, (x0, y0), (x1, bottom), pane, -1)
            if x1 - x0 > 3:
                cv2.line(picture, ((x0 + x1) // 2, y0), ((x0 + x1) // 2, bottom), frame, 1)
    cornice = np.clip(picture[: max(h // 30, 1)] * 0.7, 0, 255)
    picture[: len(cornice)] = cornice.astype(np.uint8)
    return picture


def plaster(rng: Random, kind: str) -> Material:
    """A building's outer wall."""
    style = rng.random()
    if kind == "tower":
        return surface(rng, (0.5, 0.65), (0.02, 0.25), (0.4, 0.8), "rough", depth=0.15)
    if style < 0.35:
        return surface(rng, (0.0, 0.06), (0.3, 0.55), (0.4, 0.62), "brick", depth=-0.3)
    if style < 0.75:
        return surface(rng, (0.05, 0.15), (0.08, 0.35), (0.65, 0.92), "rough", depth=0.15)
    return surface(rng, (0.0, 0.7), (0.02, 0.12), (0.45, 0.7), "rough", depth=0.25)


def building(
    canvas: Canvas, camera: Camera, side: int, x: float, z0: float, z1: float, height: float, kind: str, rng: Random
) -> None:
    """A building along the street's `side` (-1 left, 1 right), its front on the plane X = `x`, from `z0` to `z1`."""
    wall = plaster(rng, kind)
    depth = rng.uniform(7, 12)
    canvas.begin("building/house" if kind == "house" else "building/tower" if kind == "tower" else "building")
    gain = 1.0 if side > 0 else 0.8
    detail = 2.5 * camera.size(z0)
    roof = surface(rng, (0.0, 0.08), (0.2, 0.6), (0.25, 0.55), "slats", depth=0.25)
    if kind == "house":
        ridge_height = height + rng.uniform(1.5, 3.0)
        middle = x + side * depth / 2
        eaves = [(x, height, z0), (x, height, z1), (middle, ridge_height, z1), (middle, ridge_height, z0)]
        canvas.poly([camera.project(p) for p in eaves], roof)
        gable = [(x, height, z0), (x + side * depth, height, z0), (middle, ridge_height, z0)]
        canvas.poly([camera.project(p) for p in gable], wall.lit(0.9))
    near = [(x, height, z0), (x + side * depth, height, z0), (x + side * depth, 0.0, z0), (x, 0.0, z0)]
    end = facade(rng, kind, depth, height, wall.lit(0.92), detail)
    canvas.face([camera.project(p) for p in near], end)
    front = facade(rng, kind, z1 - z0, height, wall.lit(gain), detail)
    along = [(x, height, z0), (x, height, z1), (x, 0.0, z1), (x, 0.0, z0)]
    canvas.face([camera.project(p) for p in along], front)
    if kind == "block" and rng.random() < 0.25:
        canvas.begin("awning")
        cloth = surface(rng, (0, 1), (0.4, 0.8), (0.5, 0.9), "stripes", depth=0.5, zoom=0.6)
        low, high, out = 2.3, 2.9, x - side * 1.0
        shade = [(x, high, z0 + 1), (x, high, z1 - 1), (out, low, z1 - 1), (out, low, z0 + 1)]
        canvas.poly([camera.project(p) for p in shade], cloth)
