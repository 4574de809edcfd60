"""Things with volume: a profile drawn out sideways, seen by the camera, its faces lit by their direction."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence

from segstream.shards.synthetic.canvas import Camera, Canvas, Point, Spot
from segstream.shards.synthetic.textures import Material

Place = Callable[[float, float], Point]
"""Where a point of a face is seen: cap (along, up) in metres; other faces (across 0..1, along the edge 0..1)."""
Trim = Callable[[int, Place], None]
"""Paints details on a face that was just drawn: edge number, or CAP."""

CAP = -1
_SUN = (-0.35, 0.8, -0.5)  # from the left, above, behind the camera


def prism(
    canvas: Canvas,
    camera: Camera,
    profile: Sequence[Point],
    width: float,
    at: tuple[float, float],
    material: Material,
    *,
    yaw: float = 0.0,
    base: float = 0.0,
    faces: Mapping[int, Material] | None = None,
    trim: Trim | None = None,
) -> None:
    """Draw a profile extruded over `width` metres.

    Args:
        profile: corners (along, up) in metres, counter-clockwise when along points right.
        at: (X, Z) of the profile's origin, mid-width.
        yaw: direction of `along`, radians from X towards Z (0: profile seen face on; pi/2: it points away).
        base: height of the profile's origin above the ground.
        faces: materials of single edges (edge i runs from corner i to i + 1) or of the CAP.
        trim: called after every visible face.
    """
    cos, sin = math.cos(yaw), math.sin(yaw)

    def spot(along: float, up: float, across: float) -> Spot:
        return (at[0] + along * cos - across * sin, base + up, at[1] + along * sin + across * cos)

    def on_cap(across: float, along: float, up: float) -> Point:
        return camera.project(spot(along, up, across))

    def on_edge(a: Point, b: Point, share: float, t: float) -> Point:
        return camera.project(spot(a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, (share - 0.5) * width))

    found: list[tuple[float, int, float, list[Point], float]] = []
    half = width / 2
    middle = (sum(p[0] for p in profile) / len(profile), sum(p[1] for p in profile) / len(profile))
    for across in (-half, half):
        normal = (-sin * math.copysign(1, across), 0.0, cos * math.copysign(1, across))
        centre = spot(*middle, across)
        if _faces(camera, centre, normal):
            corners = [camera.project(spot(*p, across)) for p in profile]
            found.append((_distance(camera, centre), CAP, across, corners, _light(normal)))
    for i, (a, b) in enumerate(zip(profile, (*profile[1:], profile[0]), strict=True)):
        length = math.hypot(b[0] - a[0], b[1] - a[1]) or 1.0
        out, up = (b[1] - a[1]) / length, -(b[0] - a[0]) / length
        normal = (out * cos, up, out * sin)
        centre = spot((a[0] + b[0]) / 2, (a[1] + b[1]) / 2, 0.0)
        if _faces(camera, centre, normal):
            places = [spot(*a, -half), spot(*b, -half), spot(*b, half), spot(*a, half)]
            found.append((_distance(camera, centre), i, 0.0, [camera.project(p) for p in places], _light(normal)))
    found.sort(key=lambda face: -face[0])
    for _, number, across, corners, gain in found:
        chosen = (faces or {}).get(number, material)
        canvas.poly(corners, chosen.lit(gain))
        if trim is None:
            continue
        if number == CAP:
            trim(CAP, functools.partial(on_cap, across))
        else:
            trim(number, functools.partial(on_edge, profile[number], profile[(number + 1) % len(profile)]))


def box(
    canvas: Canvas,
    camera: Camera,
    at: tuple[float, float],
    size: tuple[float, float, float],
    material: Material,
    *,
    yaw: float = 0.0,
    base: float = 0.0,
    faces: Mapping[int, Material] | None = None,
    trim: Trim | None = None,
) -> None:
    """Draw a block of (along, up, across) metres centred on `at`; its faces: 0 bottom, 1 end, 2 top, 3 end, CAP."""
    along, up, across = size
    corners = [(-along / 2, 0.0), (along / 2, 0.0), (along / 2, up), (-along / 2, up)]
    prism(canvas, camera, corners, across, at, material, yaw=yaw, base=base, faces=faces, trim=trim)


def shadow(
    canvas: Canvas, camera: Camera, at: tuple[float, float], size: tuple[float, float], yaw: float, depth: float
) -> None:
    """Darken the ground under and beside a thing of (along, across) metres."""
    cos, sin = math.cos(yaw), math.sin(yaw)
    points = []
    for along, across in ((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)):
        u, w = along * size[0] * 1.08, across * size[1] * 1.08
        x, z = at[0] + u * cos - w * sin + 0.12 * size[1], at[1] + u * sin + w * cos
        points.append(camera.project((x, 0.0, z)))
    canvas.shade(points, 1.0 - depth, softness=min(1.5, 0.05 * camera.size(at[1])))


def _faces(camera: Camera, centre: Spot, normal: Spot) -> bool:
    return -centre[0] * normal[0] + (camera.height - centre[1]) * normal[1] - centre[2] * normal[2] > 0


def _distance(camera: Camera, centre: Spot) -> float:
    return math.hypot(centre[0], centre[1] - camera.height, centre[2])


def _light(normal: Spot) -> float:
    return 0.78 + 0.34 * (normal[0] * _SUN[0] + normal[1] * _SUN[1] + normal[2] * _SUN[2])
