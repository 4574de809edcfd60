"""Surfaces: grey tiles made once per process from a fixed seed, and the two-colour materials made of them."""

from __future__ import annotations

import colorsys
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt

from segstream.shards.synthetic.read_table import table

Colour = tuple[float, float, float]
"""RGB, 0..255."""

TILE = 256  # pixels a side; every tile wraps around
_STEPS = np.linspace(0, 1, 256, dtype=np.float32)[:, None]


@dataclass(frozen=True, slots=True)
class Material:
    """A surface: colour `a` where the tile is 0, `b` where it is 1."""

    a: Colour
    b: Colour
    tile: str = "plain"
    zoom: float = 1.0
    """Screen pixels per tile pixel, at drawing resolution."""

    def lit(self, gain: float) -> Material:
        """The same surface under more or less light."""
        return Material(_scale(self.a, gain), _scale(self.b, gain), self.tile, self.zoom)

    def mixed(self, colour: Colour, share: float) -> Material:
        """The same surface seen through haze."""
        return Material(blend(self.a, colour, share), blend(self.b, colour, share), self.tile, self.zoom)


@dataclass(frozen=True, slots=True, kw_only=True)
class Paint:
    """What materials are drawn from: ranges of hue (in turns), saturation and value, and a tile."""

    hue: tuple[float, float] = (0.0, 1.0)
    sat: tuple[float, float] = (0.0, 0.1)
    val: tuple[float, float]
    tile: str = "plain"
    depth: float = 0.25
    """How dark the tile's marks are; below 0 they are light."""
    zoom: float = 1.0
    share: float = 1.0
    """Weight among the alternatives of one name."""

    def mix(self, rng: Random, zoom: float = 1.0) -> Material:
        """A material of these ranges."""
        turns, saturation, value = rng.uniform(*self.hue), rng.uniform(*self.sat), rng.uniform(*self.val)
        red, green, blue = colorsys.hsv_to_rgb(turns % 1.0, saturation, value)
        a = (255 * red, 255 * green, 255 * blue)
        return Material(a, _scale(a, 1.0 - self.depth), self.tile, self.zoom * zoom)


def blend(a: Colour, b: Colour, share: float) -> Colour:
    """`a` with a `share` of `b`."""
    return (a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share, a[2] + (b[2] - a[2]) * share)


def render(material: Material, size_hw: tuple[int, ...], rng: Random) -> npt.NDArray[np.uint8]:
    """(height, width, 3) uint8 of the surface facing the camera, its tile shifted by chance."""
    rows, columns = ((np.arange(n) / material.zoom).astype(np.intp) + rng.randrange(TILE) for n in size_hw)
    return render_at(material, columns[None, :], rows[:, None])


def render_at(material: Material, u: npt.NDArray[Any], v: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """The surface at tile coordinates `u`, `v` (same shape), for ground seen in perspective."""
    low = np.asarray(material.a, np.float32)
    steps = low + (np.asarray(material.b, np.float32) - low) * _STEPS
    ramp = np.minimum(np.maximum(steps, 0), 255).astype(np.uint8)
    return np.take(ramp, tile(material.tile)[v.astype(np.intp) % TILE, u.astype(np.intp) % TILE], axis=0)


def _scale(colour: Colour, gain: float) -> Colour:
    return (min(colour[0] * gain, 255.0), min(colour[1] * gain, 255.0), min(colour[2] * gain, 255.0))


@functools.cache
def tile(name: str) -> npt.NDArray[np.uint8]:
    """(TILE, TILE) uint8 grey tile.

    Raises:
        KeyError: no tile of that name.
    """
    if noise := table("noises").get(name):
        field = _noise(len(name) + ord(name[0]), noise["power"], noise["stretch"])
        field = (field - noise["low"]) / (noise["high"] - noise["low"])
    else:
        y, x = np.mgrid[0:TILE, 0:TILE].astype(np.float32)
        field = _PATTERNS[name](y, x)
    return np.ascontiguousarray((np.clip(field, 0, 1) * 255).astype(np.uint8))


def _noise(seed: int, power: float, stretch: Sequence[float]) -> npt.NDArray[Any]:
    """Wrapping noise with spectrum 1/f^power, longer along an axis whose `stretch` is larger; mean 0.5."""
    rng = np.random.default_rng(seed)
    fy = np.fft.fftfreq(TILE)[:, None] * stretch[0]
    fx = np.fft.rfftfreq(TILE)[None, :] * stretch[1]
    f = np.sqrt(fy**2 + fx**2)
    f[0, 0] = np.inf
    spectrum = (rng.normal(size=f.shape) + 1j * rng.normal(size=f.shape)) / np.maximum(f, 2 / TILE) ** power
    field = np.fft.irfft2(spectrum, (TILE, TILE))
    return np.asarray(0.5 + field / (4 * field.std()))


def _brick(y: npt.NDArray[Any], x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    row = y // 8
    shifted = x + 8 * (row % 2)
    each = np.random.default_rng(11).random((32, 17))[row.astype(int), (shifted // 16).astype(int)]
    return np.where((y % 8 < 1.5) | (shifted % 16 < 1.5), 1.0, 0.45 * each)


def _planks(y: npt.NDArray[Any], x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    board = (y // 16).astype(int)
    tone = np.random.default_rng(13).random(16)[board]
    joint = (y % 16 < 1) | ((x + 96 * (board % 3)) % 128 < 1.5)
    return np.where(joint, 1.0, 0.45 * tone + 0.4 * _noise(14, 1.2, (9.0, 0.7)))


_PATTERNS: dict[str, Callable[[npt.NDArray[Any], npt.NDArray[Any]], npt.NDArray[Any]]] = {
    "brick": _brick,
    "planks": _planks,
    "tiles": lambda y, x: np.where((y % 32 < 2) | (x % 32 < 2), 1.0, 0.25 * _noise(12, 1.0, (1.0, 1.0))),
    "checks": lambda y, x: 0.5 * (y % 16 < 8) + 0.5 * (x % 16 < 8),
    "stripes": lambda y, x: np.where(x % 8 < 4, 1.0, 0.0),
    "slats": lambda y, x: np.where(y % 8 < 2, 1.0, 0.0),
    "carpet": lambda y, x: 0.5 * _noise(22, 0.2, (1.0, 1.0)) + 0.5 * (y % 32 < 3),
    "folds": lambda y, x: 0.5 + 0.5 * np.sin(2 * np.pi * (x / 16 + 1.5 * _noise(15, 2.0, (1.0, 1.0)))),
    "zebra": lambda y, x: np.where(np.sin(2 * np.pi * (x / 14 + 6 * _noise(16, 2.0, (1.0, 1.0)))) > 0, 1.0, 0.0),
    "net": lambda y, x: np.where((y % 16 < 3) | (x % 16 < 3), 0.0, 1.0),
}
