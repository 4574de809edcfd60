"""What stands and moves along a street, gathered for painting from far to near."""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

from segstream.shards.synthetic import buildings, scenery, vehicles
from segstream.shards.synthetic.canvas import Camera, Canvas, Depth
from segstream.shards.synthetic.looks import Look
from segstream.shards.synthetic.people import figure
from segstream.shards.synthetic.solids import shadow

AWAY, TOWARDS = math.pi / 2, -math.pi / 2
FEATURES = {
    "car": 0.06,
    "bus": 0.08,
    "truck": 0.08,
    "train": 0.08,
    "bicyclist": 0.12,
    "motorcyclist": 0.1,
    "bicycle": 0.08,
    "motorcycle": 0.1,
    "person": 0.12,
    "traffic_sign": 0.06,
    "traffic_light": 0.06,
    "fence": 0.06,
}
"""What a street shows up close -> weight: small things must be large somewhere to be learnt."""

_HEIGHTS = {"house": (4.0, 6.5), "block": (8.0, 16.0), "tower": (16.0, 34.0)}
_REACH = {"car": 2.2, "bus": 5.5, "truck": 4.0, "train": 11.0}  # metres from middle to end


@dataclass(frozen=True, slots=True)
class Plan:
    """Cross-section of a street, metres from the camera: kerbs and building lines, (left, right)."""

    kerbs: tuple[float, float]
    fronts: tuple[float, float]
    verge: tuple[bool, bool]


@dataclass(frozen=True, slots=True)
class Street:
    """Where things of one picture go."""

    canvas: Canvas
    camera: Camera
    plan: Plan
    look: Look
    rng: Random
    queue: Depth

    def feature(self, what: str) -> None:
        """Put the picture's own subject where it is seen well."""
        rng, plan, canvas, camera = self.rng, self.plan, self.canvas, self.camera
        index = rng.randrange(2)
        side = (-1, 1)[index]
        kerb, front = plan.kerbs[index], plan.fronts[index]
        lane = kerb * rng.uniform(0.25, 0.6)
        if what in _REACH:
            z = rng.uniform(7, 14) + _REACH[what]
            self._vehicle(what, (lane, z), AWAY if side > 0 else TOWARDS)
        elif what in ("bicyclist", "motorcyclist", "bicycle", "motorcycle"):
            machine = {"bicyclist": "bicycle", "motorcyclist": "motorcycle"}.get(what, what)
            ridden = what != machine and self.look.riders > 0
            z = rng.uniform(4.5, 8)
            x = lane if ridden else kerb + side * rng.uniform(0.2, 1.0)
            x = max(min(x, 0.4 * z), -0.4 * z)
            self._two_wheeler((x, z), rng.uniform(0, 2 * math.pi), machine, ridden)
        elif what == "person":
            for _ in range(rng.randint(1, 3)):
                z = rng.uniform(4, 7)
                x = max(min(kerb + side * rng.uniform(-1, 1.0), 0.45 * z), -0.45 * z)
                self.queue.add(z, self._walker, x, z)
        elif what in ("traffic_sign", "traffic_light"):
            z = rng.uniform(6, 10)
            x = max(min(kerb + side * 0.4, 0.5 * z), -0.5 * z)
            painter = scenery.traffic_sign if what == "traffic_sign" else scenery.traffic_light
            self.queue.add(z, painter, canvas, camera, x, z, rng)
        else:
            z = rng.uniform(4, 7)
            self.queue.add(z, scenery.fence, canvas, camera, (front, z), (front, z + rng.uniform(6, 14)), rng)

    def fronts(self) -> None:
        """Buildings and gaps along both sides."""
        for index, side in ((0, -1), (1, 1)):
            x, rng = self.plan.fronts[index], self.rng
            z, crowded = rng.uniform(-3, 6), rng.uniform(0.35, 0.95)
            while z < 90:
                near = max(z, 0.6)
                if rng.random() < crowded:
                    kind = rng.choice(self.look.town)
                    length = rng.uniform(7, 12) if kind == "house" else rng.uniform(9, 18)
                    tall = rng.uniform(*_HEIGHTS[kind])
                    at = x + side * (rng.uniform(0, 3) if kind == "house" else 0.0)
                    shape = (side, at, near, z + length, tall, kind, rng)
                    self.queue.add(near + 0.5, buildings.building, self.canvas, self.camera, *shape)
                else:
                    length = rng.uniform(6, 14)
                    self._gap(side, x, near, z + length)
                z += length + rng.choice((0.0, 0.0, rng.uniform(0.5, 3)))

    def _gap(self, side: int, x: float, z0: float, z1: float) -> None:
        """A garden or a park between buildings: trees behind a fence or a wall."""
        rng, canvas, camera = self.rng, self.canvas, self.camera
        for _ in range(rng.randint(1, 4)):
            z = rng.uniform(z0 + 1, z1 + 1)
            foot = camera.project((x + side * rng.uniform(2.0, 9.0), 0, z))
            self.queue.add(z + 0.5, scenery.tree, canvas, foot, rng.uniform(4, 10) * camera.size(z), rng)
        edge = rng.random()
        if edge < 0.45:
            self.queue.add(z0, scenery.fence, canvas, camera, (x, z0), (x, z1), rng)
        elif edge < 0.8:
            self.queue.add(z0, scenery.wall, canvas, camera, (x, z0), (x, z1), rng.uniform(0.9, 2.2), rng)

    def roadside(self) -> None:
        """Trees, posts, signs, lights and people on the pavements."""
        rng, canvas, camera = self.rng, self.canvas, self.camera
        for index, side in ((0, -1), (1, 1)):
            kerb, front = self.plan.kerbs[index], self.plan.fronts[index]
            x, spacing, trees = kerb + side * 0.5, rng.uniform(4, 10), rng.random() < 0.5
            z = rng.uniform(3, 8)
            while z < 60:
                roll = rng.random()
                if trees and roll < 0.5:
                    foot = camera.project((x, 0, z))
                    self.queue.add(z, scenery.tree, canvas, foot, rng.uniform(3.5, 7.5) * camera.size(z), rng)
                elif roll < 0.3:
                    self.queue.add(z, scenery.traffic_sign, canvas, camera, x, z, rng, rng.random() < 0.4)
                elif roll < 0.5:
                    self.queue.add(z, scenery.traffic_light, canvas, camera, x, z, rng)
                elif roll < 0.58:
                    self.queue.add(z, scenery.streetlight, canvas, camera, x, z, rng)
                elif roll < 0.85:
                    self.queue.add(z, scenery.pole, canvas, camera, x, z, rng.uniform(3, 7), rng)
                z += spacing * rng.uniform(0.6, 1.4)
            for _ in range(rng.choice((0, 1, 2, 3, 4))):
                z = 4 + 18 * rng.random() ** 1.5
                self.queue.add(z, self._walker, rng.uniform(kerb + side * 0.6, front - side * 0.3), z)

    def traffic(self) -> None:
        """Parked cars, both lanes, and now and then something that crosses."""
        rng, kerbs = self.rng, self.plan.kerbs
        for index, side in ((0, -1), (1, 1)):
            yaw = AWAY if side > 0 else TOWARDS
            if rng.random() < 0.5:
                z = rng.uniform(5, 10)
                while z < 50:
                    if rng.random() < 0.65:
                        self._vehicle("car", (kerbs[index] - side * 1.1, z), yaw)
                    z += rng.uniform(5.2, 8)
            z = rng.uniform(9, 22)
            while z < 70:
                kinds = ("train", "car", "bus", "truck", "two", "none")
                kind = rng.choices(kinds, (self.look.tram, 0.34, 0.07, 0.08, 0.25, 0.26))[0]
                reach = _REACH.get(kind, 0.0)
                lane = kerbs[index] * 0.45
                if kind == "two":
                    machine = rng.choice(("bicycle", "motorcycle"))
                    at = (lane + rng.uniform(0, 1.2) * side, z)
                    self._two_wheeler(at, yaw + rng.uniform(-0.6, 0.6), machine, rng.random() < self.look.riders)
                elif kind != "none":
                    self._vehicle(kind, (lane, z + reach), yaw)
                z += 2 * reach + rng.uniform(6, 18)
        if rng.random() < 0.2:
            at = (rng.uniform(*kerbs), rng.uniform(8, 22))
            self._vehicle(rng.choice(("car", "bus", "truck")), at, rng.choice((0.0, math.pi)) + rng.uniform(-0.3, 0.3))

    def _vehicle(self, kind: str, at: tuple[float, float], yaw: float) -> None:
        paint = {"car": vehicles.car, "bus": vehicles.bus, "truck": vehicles.truck, "train": vehicles.train}[kind]
        near = at[1] - 0.9 * _REACH[kind] * abs(math.sin(yaw))  # what stands beside a long thing is behind its near end
        self.queue.add(near, paint, self.canvas, self.camera, at, yaw, self.look, self.rng)

    def _two_wheeler(self, at: tuple[float, float], yaw: float, machine: str, ridden: bool) -> None:
        rider = ("bicyclist" if machine == "bicycle" else "motorcyclist") if ridden else None
        arguments = (self.canvas, self.camera, at, yaw, self.look, self.rng, machine, rider)
        self.queue.add(at[1], vehicles.two_wheeler, *arguments)

    def _walker(self, x: float, z: float) -> None:
        canvas, rng = self.canvas, self.rng
        shadow(canvas, self.camera, (x, z), (0.6, 0.5), 0, 0.4)
        canvas.begin("person")
        pose, facing = rng.choice(("walk", "stand")), rng.choice((-1.0, 1.0))
        foot = self.camera.project((x, 0, z))
        figure(canvas, foot, self.camera.size(z), self.look, rng, pose=pose, facing=facing)
