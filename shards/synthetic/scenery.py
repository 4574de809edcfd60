"""Sky, hills, trees and the furniture of streets. Sizes in pixels unless a camera is given."""

from __future__ import annotations

import math
from random import Random

from segstream.shards.synthetic.canvas import Camera, Canvas, Point, ellipse_points
from segstream.shards.synthetic.textures import Colour, Material, blend, flat, hsv, surface

METAL = Material((125, 128, 130), (80, 82, 85), "rough")
_SIGN_PAINT: tuple[tuple[Colour, Colour], ...] = (
    ((200, 30, 35), (245, 245, 245)),
    ((30, 80, 180), (245, 245, 245)),
    ((245, 245, 245), (200, 30, 35)),
    ((240, 195, 30), (30, 30, 30)),
)


def sky(canvas: Canvas, horizon: float, rng: Random) -> Colour:
    """Paint the sky down to `horizon`; returns its colour there, which distant things fade to."""
    grey = rng.random() < 0.4
    top = hsv(0.58, rng.uniform(0.02, 0.12) if grey else rng.uniform(0.3, 0.6), rng.uniform(0.72, 0.95))
    low = blend(top, (244, 240, 232), rng.uniform(0.55, 0.85))
    tone = rng.uniform(0, 60)
    clouds = Material((0, 0, 0), (tone, tone, tone), "cloud", rng.uniform(1.0, 2.5))
    canvas.begin("sky")
    canvas.backdrop([(0, 0), (canvas.width, 0), (canvas.width, horizon + 1), (0, horizon + 1)], top, low, clouds)
    return low


def ridge(
    canvas: Canvas, horizon: float, height: float, material: Material, concept: str, rng: Random, step: float = 12.0
) -> None:
    """A jagged band along the horizon, up to `height` pixels: mountains, woods, a far town."""
    points: list[Point] = [(-2, horizon + 1)]
    x, level = -2.0, rng.uniform(0.3, 0.9)
    while x < canvas.width + 2:
        points.append((x, horizon - height * level))
        x += rng.uniform(0.4, 1.6) * step
        level = min(max(level + rng.uniform(-0.4, 0.4), 0.1), 1.0)
    points += [(canvas.width + 2, horizon - height * level), (canvas.width + 2, horizon + 1)]
    canvas.begin(concept)
    canvas.poly(points, material)


def leaves(rng: Random, zoom: float = 1.0) -> Material:
    """Foliage of a season: mostly greens, some autumn."""
    hues = (0.2, 0.38) if rng.random() < 0.85 else (0.06, 0.14)
    return surface(rng, hues, (0.3, 0.65), (0.35, 0.62), "foliage", depth=0.62, zoom=zoom)


def tree(canvas: Canvas, foot: Point, height: float, rng: Random, concept: str = "vegetation") -> None:
    """A tree `height` pixels tall: trunk and a crown of leaf clumps, or a conifer."""
    x, y = foot
    bark = surface(rng, (0.05, 0.09), (0.2, 0.45), (0.22, 0.4), "wood", depth=0.4)
    green = leaves(rng, max(height / 60, 0.7))
    canvas.begin(concept)
    trunk = height * rng.uniform(0.03, 0.06)
    if concept.endswith("palm"):
        bend = rng.uniform(-0.2, 0.2) * height
        canvas.line((x, y), (x + bend, y - height * 0.8), trunk * 1.2, bark, 0.6)
        for i in range(9):
            a = math.pi * (0.9 + 1.2 * i / 8)
            tip = (
                x + bend + math.cos(a) * height * 0.32,
                y - height * 0.8 + math.sin(a) * height * 0.22 + 0.08 * height,
            )
            canvas.line((x + bend, y - height * 0.8), tip, trunk * 1.8, green.lit(rng.uniform(0.8, 1.2)), 0.2)
        return
    if rng.random() < 0.2:
        canvas.line((x, y), (x, y - height * 0.3), trunk * 1.5, bark)
        for i in range(4):
            low, half = 0.12 + 0.2 * i, 0.26 - 0.05 * i
            triangle = [(x - half * height, y - low * height), (x + half * height, y - low * height)]
            canvas.poly([*triangle, (x, y - min(low + 0.36, 1.0) * height)], green.lit(0.65 + 0.08 * i))
        return
    canvas.line((x, y), (x, y - height * 0.55), trunk * 1.4, bark, 0.7)
    radius, middle = height * rng.uniform(0.24, 0.32), y - height * 0.66
    clumps = [(rng.uniform(0, 2 * math.pi), rng.uniform(0.2, 0.85)) for _ in range(9)]
    clumps.sort(key=lambda c: -math.sin(c[0]) * c[1])  # lower, darker clumps first
    for angle, far in reversed(clumps):
        cx, cy = x + math.cos(angle) * far * radius, middle + math.sin(angle) * far * radius * 0.9
        light = 0.82 - 0.3 * math.sin(angle) * far - 0.1 * math.cos(angle) * far
        canvas.poly(ragged(cx, cy, radius * rng.uniform(0.4, 0.62), rng), green.lit(light))


def bush(canvas: Canvas, foot: Point, width: float, height: float, rng: Random, concept: str = "vegetation") -> None:
    """A shrub or, if wide, a hedge."""
    green = leaves(rng, max(height / 30, 0.7))
    canvas.begin(concept)
    if width > 3 * height:
        x, y = foot
        canvas.poly(
            [(x - width / 2, y), (x + width / 2, y), (x + width / 2, y - height), (x - width / 2, y - height)], green
        )
        return
    for i in range(4):
        x = foot[0] + (i - 1.5) / 3 * width * 0.7
        radius = height * rng.uniform(0.4, 0.55)
        canvas.poly(ragged(x, foot[1] - radius * 0.9, radius, rng), green.lit(rng.uniform(0.75, 1.05)))


def ragged(x: float, y: float, radius: float, rng: Random) -> list[Point]:
    """A blob with an uneven outline."""
    return [
        (x + (px - x) * (k := rng.uniform(0.8, 1.15)), y + (py - y) * k)
        for px, py in ellipse_points(x, y, radius, radius * 0.92, count=13)
    ]


def pole(
    canvas: Canvas, camera: Camera, x: float, z: float, height: float, rng: Random, concept: str = "pole"
) -> Point:
    """A post of `height` metres; returns its top."""
    foot, top = camera.project((x, 0, z)), camera.project((x, height, z))
    canvas.begin(concept)
    thick = max(0.2 * camera.size(z), 1.2)
    canvas.line(foot, top, thick, METAL.lit(rng.uniform(0.5, 1.3)), 0.8)
    return top


def streetlight(canvas: Canvas, camera: Camera, x: float, z: float, rng: Random) -> None:
    """A lamp on a curved arm over the road."""
    scale = camera.size(z)
    top = pole(canvas, camera, x, z, rng.uniform(5.5, 8.0), rng, "streetlight")
    reach = -math.copysign(1.4, x) * scale
    canvas.line(top, (top[0] + reach, top[1] - 0.2 * scale), max(0.12 * scale, 1.0), METAL)
    canvas.ellipse(top[0] + reach, top[1] - 0.15 * scale, 0.45 * scale, 0.16 * scale, METAL.lit(1.5))


def traffic_light(canvas: Canvas, camera: Camera, x: float, z: float, rng: Random) -> None:
    """A signal head of three lamps, one lit, on a post."""
    scale = camera.size(z)
    top = pole(canvas, camera, x, z, rng.uniform(2.8, 4.2), rng)
    half, tall = max(0.26 * scale, 1.5), max(1.4 * scale, 5.0)
    canvas.begin("traffic_light")
    canvas.rect(
        top[0] - half, top[1] - tall * 0.8, top[0] + half, top[1] + tall * 0.2, Material((30, 32, 30), (20, 20, 20))
    )
    lit = rng.randrange(3)
    for i, colour in enumerate(((240, 40, 30), (250, 190, 40), (50, 230, 120))):
        shown = colour if i == lit else blend(colour, (25, 25, 25), 0.75)
        y = top[1] - tall * 0.8 + tall * (0.18 + 0.32 * i)
        canvas.ellipse(top[0], y, half * 0.75, tall * 0.13, flat(shown))


def traffic_sign(canvas: Canvas, camera: Camera, x: float, z: float, rng: Random, stop: bool = False) -> None:
    """A sign (disc, triangle, board or a stop sign's octagon) on a post."""
    scale = camera.size(z)
    top = pole(canvas, camera, x, z, rng.uniform(2.0, 2.8), rng)
    radius = max(rng.uniform(0.45, 0.7) * scale, 2.2)
    ground, mark = _SIGN_PAINT[0] if stop else rng.choice(_SIGN_PAINT)
    canvas.begin("traffic_sign/stop" if stop else "traffic_sign")
    shape = "octagon" if stop else rng.choice(("disc", "triangle", "board", "disc"))
    paint, inner = flat(ground), flat(mark)
    if shape == "board":
        canvas.rect(top[0] - radius, top[1] - radius, top[0] + radius, top[1] + radius * 0.6, paint)
        canvas.rect(top[0] - radius * 0.6, top[1] - radius * 0.35, top[0] + radius * 0.6, top[1], inner)
    elif shape == "triangle":
        canvas.poly(
            [
                (top[0], top[1] - radius * 1.2),
                (top[0] + radius * 1.1, top[1] + radius * 0.7),
                (top[0] - radius * 1.1, top[1] + radius * 0.7),
            ],
            paint,
        )
        canvas.poly(
            [
                (top[0], top[1] - radius * 0.6),
                (top[0] + radius * 0.6, top[1] + radius * 0.45),
                (top[0] - radius * 0.6, top[1] + radius * 0.45),
            ],
            inner,
        )
    else:
        canvas.poly(ellipse_points(top[0], top[1], radius, radius, math.pi / 8, 8 if stop else 18), paint)
        canvas.rect(
            top[0] - radius * 0.65, top[1] - radius * 0.22, top[0] + radius * 0.65, top[1] + radius * 0.22, inner
        )


def fence(canvas: Canvas, camera: Camera, start: tuple[float, float], end: tuple[float, float], rng: Random) -> None:
    """Pickets and rails, or wire netting between posts, from (X, Z) to (X, Z)."""
    tall = rng.uniform(1.1, 1.9)
    wood = (
        surface(rng, (0.06, 0.1), (0.1, 0.5), (0.35, 0.9), "wood")
        if rng.random() < 0.5
        else METAL.lit(rng.uniform(0.5, 1.5))
    )
    length = math.hypot(end[0] - start[0], end[1] - start[1])
    step = rng.choice((0.22, 0.3, 0.4))
    count = min(max(int(length / step), 2), 60)
    canvas.begin("fence")

    def at(share: float, up: float) -> Point:
        return camera.project((start[0] + (end[0] - start[0]) * share, up, start[1] + (end[1] - start[1]) * share))

    if rng.random() < 0.4:
        canvas.poly(
            [at(0, 0.1), at(1, 0.1), at(1, tall), at(0, tall)],
            Material(wood.a, blend(wood.b, (90, 110, 90), 0.5), "net", 1.0),
        )
        count = max(count // 8, 2)
    for up in (0.25 * tall, 0.85 * tall):
        canvas.poly([at(0, up), at(1, up), at(1, up + 0.1), at(0, up + 0.1)], wood.lit(0.85))
    for i in range(count):
        a, b = i / count, (i + 0.55) / count
        canvas.poly([at(a, 0), at(b, 0), at(b, tall), at(a, tall)], wood.lit(0.9 + 0.2 * (i % 2)))


def wall(
    canvas: Canvas, camera: Camera, start: tuple[float, float], end: tuple[float, float], tall: float, rng: Random
) -> None:
    """A free-standing wall from (X, Z) to (X, Z)."""
    brick = rng.random() < 0.5
    material = (
        surface(rng, (0.0, 0.06), (0.3, 0.55), (0.4, 0.65), "brick", depth=-0.35)
        if brick
        else surface(rng, (0.05, 0.15), (0.0, 0.15), (0.45, 0.75), "rough", depth=0.35)
    )
    canvas.begin("wall/brick" if brick else "wall/stone")
    corners = [(start, 0.0), (end, 0.0), (end, tall), (start, tall)]
    canvas.poly([camera.project((p[0], up, p[1])) for p, up in corners], material)
    cap = [(start, tall), (end, tall), (end, tall + 0.12), (start, tall + 0.12)]
    canvas.poly([camera.project((p[0], up, p[1])) for p, up in cap], material.lit(1.2))
