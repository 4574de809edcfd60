"""Vehicles: solids with wheels, glass and lights. Lengths in metres, `at` is (X, Z), yaw 0 shows the side."""

from __future__ import annotations

import math
from random import Random

from segstream.shards.synthetic.canvas import Camera, Canvas, Point
from segstream.shards.synthetic.looks import Look
from segstream.shards.synthetic.people import figure
from segstream.shards.synthetic.solids import CAP, Place, prism, shadow
from segstream.shards.synthetic.textures import Material, flat, hsv, surface, usual

GLASS = ((0.55, 0.62), (0.1, 0.35), (0.12, 0.35))
RUBBER = Material((28, 28, 30), (18, 18, 20))
STEEL = Material((120, 122, 126), (70, 72, 76), "rough")


def paint_coat(rng: Random, look: Look) -> Material:
    """A vehicle's paint: often grey, else any hue."""
    if rng.random() < 0.45:
        a = hsv(rng.random(), rng.uniform(0, 0.08), rng.choice((0.12, 0.3, 0.5, 0.75, 0.9)))
    else:
        a = hsv(rng.choice((0.0, 0.02, 0.1, 0.33, 0.58, 0.62)), rng.uniform(*look.vivid), rng.uniform(0.35, 0.85))
    return flat(a)


def car(canvas: Canvas, camera: Camera, at: tuple[float, float], yaw: float, look: Look, rng: Random) -> None:
    """A saloon, hatchback, estate or van."""
    van = rng.random() < 0.12
    length, height = (4.6, 2.0) if van else (rng.uniform(3.7, 4.6), rng.uniform(1.38, 1.55))
    h, back = length / 2, rng.choice((0.0, 0.25, 0.75))
    nose = 0.15 if van else 0.95
    sill, belt = 0.28, 0.62 * height
    profile = [
        (-h, sill),
        (h, sill),
        (h, 0.52 * height),
        (h - nose, belt),
        (h - nose - 0.75, height),
        (-h + back + 0.35, height),
        (-h + back, belt),
        (-h, belt - 0.06),
    ]
    glass = surface(rng, *GLASS)
    coat = paint_coat(rng, look)
    shadow(canvas, camera, at, (length, 1.75), yaw, rng.uniform(0.45, 0.7))
    canvas.begin("car/van" if van else "car")

    def trim(face: int, place: Place) -> None:
        if face == CAP:
            roof_front, roof_back = h - nose - 0.72, -h + back + 0.4
            window = [(roof_back - 0.25, belt), (h - nose - 0.1, belt), (roof_front, height - 0.1)]
            canvas.poly([place(*p) for p in [*window, (roof_back, height - 0.1)]], glass)
            post = (roof_back + roof_front) / 2
            canvas.poly([place(post - 0.05, belt), place(post + 0.05, belt), place(post, height - 0.05)], coat.lit(0.7))
            _wheels(canvas, place, (-h * 0.62, h * 0.62), 0.33)
        elif face in (1, 7, 6):
            lamp = flat((190, 30, 25)) if face != 1 else flat((240, 240, 220))
            if face == 1 or (face == 7 and back > 0) or (face == 6 and back == 0):
                for s in (0.02, 0.8):
                    canvas.poly(_patch(place, s, s + 0.18, 0.55, 0.9 if face != 6 else 0.2), lamp)
                canvas.poly(_patch(place, 0.38, 0.62, 0.4, 0.6), flat((215, 215, 205)))

    prism(canvas, camera, profile, 1.72, at, coat, yaw=yaw, faces={0: RUBBER, 3: glass, 5: glass}, trim=trim)


def bus(canvas: Canvas, camera: Camera, at: tuple[float, float], yaw: float, look: Look, rng: Random) -> None:
    """A city bus or coach: a long block with a band of windows."""
    length, height = rng.uniform(8.5, 11.5), rng.uniform(2.9, 3.2)
    coat = surface(rng, usual(rng, rng.choice(((0.98, 1.02), (0.1, 0.15)))), (0.5, 0.85), (0.65, 0.95))
    _wagon(canvas, camera, at, yaw, rng, "bus", (length, height, 2.5), coat, wheels=(-0.3, 0.33), sign=True)


def train(canvas: Canvas, camera: Camera, at: tuple[float, float], yaw: float, look: Look, rng: Random) -> None:
    """A tram or a railway carriage: longer than a bus, on rails, striped along its side, current collector on top."""
    length, height = rng.uniform(16, 24), rng.uniform(3.2, 3.6)
    coat = surface(rng, usual(rng, (0.36, 0.5)), (0.4, 0.8), (0.4, 0.75))
    _wagon(canvas, camera, at, yaw, rng, "train", (length, height, 2.6), coat, wheels=(), sign=False)


def truck(canvas: Canvas, camera: Camera, at: tuple[float, float], yaw: float, look: Look, rng: Random) -> None:
    """A lorry: a cab and a taller box, standing clear of the ground."""
    length, height = rng.uniform(6.0, 8.0), rng.uniform(2.9, 3.6)
    load = surface(rng, usual(rng, (0.55, 0.66)), (0.0, 0.35), (0.7, 0.97), "slats", depth=0.2)
    coat, glass = paint_coat(rng, look), surface(rng, *GLASS)
    h = length / 2
    shadow(canvas, camera, at, (length, 2.4), yaw, 0.6)
    canvas.begin("truck")
    frame = [(-h, 0.45), (h - 0.1, 0.45), (h - 0.1, 0.95), (-h, 0.95)]
    cargo = [(-h, 0.95), (h - 2.0, 0.95), (h - 2.0, height), (-h, height)]
    cab = [(h - 1.9, 0.5), (h, 0.5), (h, 1.5), (h - 0.25, 2.4), (h - 1.9, 2.4)]

    def wheels(face: int, place: Place) -> None:
        if face == CAP:
            _wheels(canvas, place, (-h * 0.72, -h * 0.5, h * 0.72), 0.46)

    def doors(face: int, place: Place) -> None:
        if face == 3:
            canvas.poly(_patch(place, 0.48, 0.52, 0, 1), load.lit(0.6))
            for s in (0.02, 0.86):
                canvas.poly(_patch(place, s, s + 0.12, 0.93, 0.99), flat((200, 40, 30)))

    def window(face: int, place: Place) -> None:
        if face == CAP:
            canvas.poly([place(h - 1.3, 1.5), place(h - 0.1, 1.5), place(h - 0.35, 2.2), place(h - 1.3, 2.2)], glass)
        if face == 1:
            for s in (0.05, 0.75):
                canvas.poly(_patch(place, s, s + 0.2, 0.1, 0.35), flat((240, 240, 220)))

    away = at[1] * math.sin(yaw) + at[0] * math.cos(yaw) > 0  # the cab is the far end
    prism(canvas, camera, frame, 2.1, at, STEEL, yaw=yaw, trim=wheels)
    if away:
        prism(canvas, camera, cab, 2.3, at, coat, yaw=yaw, faces={2: glass}, trim=window)
    prism(canvas, camera, cargo, 2.45, at, load, yaw=yaw, trim=doors)
    if not away:
        prism(canvas, camera, cab, 2.3, at, coat, yaw=yaw, faces={2: glass}, trim=window)


def two_wheeler(
    canvas: Canvas,
    camera: Camera,
    at: tuple[float, float],
    yaw: float,
    look: Look,
    rng: Random,
    kind: str,
    rider: str | None = None,
) -> None:
    """A `bicycle` or `motorcycle`, with someone of concept `rider` on it if given."""
    motor = kind == "motorcycle"
    scale = camera.size(at[1])
    facing = math.cos(yaw) if abs(math.cos(yaw)) > 0.25 else math.copysign(0.25, math.cos(yaw))
    x0, y0 = camera.project((at[0], 0.0, at[1]))
    radius = 0.32 if motor else 0.34
    coat = surface(rng, usual(rng, (0.97, 1.03) if motor else (0.45, 0.65)), look.vivid, (0.4, 0.9))

    def px(along: float, up: float) -> Point:
        return (x0 + along * facing * scale, y0 - up * scale)

    shadow(canvas, camera, at, (1.7, 0.4), yaw, 0.45)
    canvas.begin(kind)
    wide = (0.17 if motor else 0.08) * scale
    for along in (-0.52, 0.55):
        x, y = px(along, radius)
        rx = max(radius * scale * abs(facing), wide / 2)
        canvas.ellipse(x, y, rx, radius * scale, RUBBER)
        inner = 0.55 if motor else 0.8
        hub = STEEL if motor else Material((175, 175, 178), (110, 110, 112), "net", 2.0)
        canvas.ellipse(x, y, max(rx - wide * 0.7, 0) * (inner if motor else 1), radius * scale * inner, hub)
    bar = max(wide, 0.11 * scale)
    if motor:
        canvas.poly(
            [px(-0.6, 0.62), px(0.1, 0.55), px(0.45, 0.75), px(0.3, 0.98), px(0.05, 0.8), px(-0.65, 0.82)], coat
        )
        canvas.poly([px(-0.3, 0.25), px(0.3, 0.25), px(0.3, 0.58), px(-0.3, 0.58)], STEEL)
        canvas.line(px(0.55, radius), px(0.36, 1.02), bar, STEEL)
        canvas.poly([px(-0.72, 0.8), px(0.0, 0.76), px(0.0, 0.86), px(-0.72, 0.92)], RUBBER)
        canvas.ellipse(*px(0.5, 0.85), 0.1 * scale, 0.1 * scale, flat((245, 240, 200)))
    else:
        seat, head, crank = (-0.22, 0.85), (0.4, 0.85), (-0.02, 0.3)
        for a, b in ((seat, crank), (crank, head), (seat, head), (seat, (-0.52, radius)), (crank, (-0.52, radius))):
            canvas.line(px(*a), px(*b), bar * 0.8, coat)
        canvas.line(px(0.55, radius), px(0.36, 1.0), bar * 0.8, coat)
        canvas.line(px(0.28, 1.02), px(0.52, 1.02), bar, RUBBER)
        canvas.line(px(-0.38, 0.92), px(-0.08, 0.92), bar * 1.3, RUBBER)
    if rider is not None:
        canvas.begin(rider)
        figure(canvas, px(-0.15, 0.0), scale, look, rng, pose="ride", facing=facing, helmet=motor)


def _wagon(
    canvas: Canvas,
    camera: Camera,
    at: tuple[float, float],
    yaw: float,
    rng: Random,
    concept: str,
    size: tuple[float, float, float],
    coat: Material,
    wheels: tuple[float, ...],
    sign: bool,
) -> None:
    length, height, width = size
    h, rail = length / 2, 0.3 if wheels else 0.12
    glass = surface(rng, *GLASS)
    second = surface(rng, (0, 1), (0.0, 0.3), (0.8, 0.98))
    panes = max(int(length / rng.uniform(1.2, 1.9)), 3)
    shadow(canvas, camera, at, (length, width), yaw, 0.6)
    canvas.begin(concept)
    bevel = 0.12 if wheels else 0.5
    profile = [
        (-h, rail),
        (h, rail),
        (h, 0.45 * height),
        (h - bevel, height),
        (-h + bevel, height),
        (-h, 0.45 * height),
    ]

    def trim(face: int, place: Place) -> None:
        if face == CAP:
            if not wheels:  # a stripe, a skirt and the roof's equipment tell a tram from a bus
                canvas.poly(_bar(place, -h, h, 0.32 * height, 0.42 * height), second)
                canvas.poly(_bar(place, -h, h, rail, 0.14 * height), RUBBER)
            for i in range(panes):
                a = -h + 0.35 + (length - 0.7) * i / panes
                b = a + (length - 0.7) / panes * 0.84
                low = 0.16 * height if i % 5 == 3 else 0.48 * height
                canvas.poly(_bar(place, a, b, low, 0.84 * height), glass)
            _wheels(canvas, place, tuple(w * length for w in wheels), 0.5)
        elif face in (2, 4, 1, 5):
            pane = face in (2, 4)
            if pane:
                canvas.poly(_patch(place, 0.08, 0.92, *((0.02, 0.62) if face == 2 else (0.2, 0.98))), glass)
                if sign:
                    board = _patch(place, 0.2, 0.8, *((0.72, 0.92) if face == 2 else (0.08, 0.28)))
                    canvas.poly(board, Material((250, 160, 40), (40, 30, 20), "net"))
            else:
                lamp = (240, 240, 220) if face == 1 else (200, 40, 30)
                for s in (0.06, 0.8):
                    canvas.poly(_patch(place, s, s + 0.14, 0.35, 0.55), flat(lamp))

    prism(canvas, camera, profile, width, at, coat, yaw=yaw, trim=trim)
    if not wheels:
        x, y = camera.project((at[0], height, at[1]))
        scale = camera.size(at[1])
        canvas.line((x, y), (x + 0.5 * scale, y - 0.5 * scale), 0.1 * scale, STEEL)
        canvas.line((x + 0.5 * scale, y - 0.5 * scale), (x, y - 0.9 * scale), 0.1 * scale, STEEL)


def _wheels(canvas: Canvas, place: Place, positions: tuple[float, ...], radius: float) -> None:
    for along in positions:
        for size, material in ((1.0, RUBBER), (0.55, STEEL)):
            r = radius * size
            rim = [2 * math.pi * i / 14 for i in range(14)]
            canvas.poly([place(along + r * math.cos(a), radius + r * math.sin(a)) for a in rim], material)


def _bar(place: Place, a: float, b: float, low: float, high: float) -> list[Point]:
    return [place(a, low), place(b, low), place(b, high), place(a, high)]


def _patch(place: Place, s0: float, s1: float, t0: float, t1: float) -> list[Point]:
    return [place(s0, t0), place(s1, t0), place(s1, t1), place(s0, t1)]
