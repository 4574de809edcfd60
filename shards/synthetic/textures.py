"""Surfaces: grey tiles made once per process from a fixed seed, and the two-colour materials painted with them."""

from __future__ import annotations

import colorsys
import functools
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

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


def blend(a: Colour, b: Colour, share: float) -> Colour:
    """`a` with a `share` of `b`."""
    return (a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share, a[2] + (b[2] - a[2]) * share)


def flat(colour: Colour) -> Material:
    """A surface of one colour."""
    return Material(colour, colour)


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """RGB of a hue in turns, saturation and value in 0..1."""
    r, g, b = colorsys.hsv_to_rgb(hue % 1.0, min(max(saturation, 0.0), 1.0), min(max(value, 0.0), 1.0))
    return (255 * r, 255 * g, 255 * b)


def surface(
    rng: Random,
    hues: tuple[float, float],
    saturations: tuple[float, float],
    values: tuple[float, float],
    tile: str = "plain",
    *,
    depth: float = 0.25,
    zoom: float = 1.0,
) -> Material:
    """A material drawn from ranges of hue, saturation and value; `depth` is how dark its tile's marks are."""
    a = hsv(rng.uniform(*hues), rng.uniform(*saturations), rng.uniform(*values))
    return Material(a=a, b=_scale(a, 1.0 - depth), tile=tile, zoom=zoom)


def usual(rng: Random, hues: tuple[float, float], share: float = 0.75) -> tuple[float, float]:
    """The hues a class mostly has, or now and then any: colour is a hint, not the answer."""
    return hues if rng.random() < share else (0.0, 1.0)


def render(material: Material, height: int, width: int, offset: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """(height, width, 3) uint8 RGB of the surface, the tile shifted by `offset`."""
    if material.tile == "plain":
        return np.full((height, width, 3), np.clip(material.a, 0, 255), np.uint8)
    grain = tile(material.tile)
    rows = ((np.arange(height) / material.zoom).astype(np.intp) + offset[0]) % TILE
    columns = ((np.arange(width) / material.zoom).astype(np.intp) + offset[1]) % TILE
    return np.take(_ramp(material.a, material.b), grain[rows[:, None], columns[None, :]], axis=0)


def render_at(material: Material, u: npt.NDArray[Any], v: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """The surface at tile coordinates `u`, `v` (same shape), for ground seen in perspective."""
    ramp = _ramp(material.a, material.b)
    if material.tile == "plain":
        return np.broadcast_to(ramp[0], (*u.shape, 3)).copy()
    return np.take(ramp, tile(material.tile)[v.astype(np.intp) % TILE, u.astype(np.intp) % TILE], axis=0)


def _ramp(a: Colour, b: Colour) -> npt.NDArray[np.uint8]:
    low = np.asarray(a, np.float32)
    steps = low + (np.asarray(b, np.float32) - low) * _STEPS
    return np.minimum(np.maximum(steps, 0), 255).astype(np.uint8)


def _scale(colour: Colour, gain: float) -> Colour:
    return (min(colour[0] * gain, 255.0), min(colour[1] * gain, 255.0), min(colour[2] * gain, 255.0))


@functools.cache
def tile(name: str) -> npt.NDArray[np.uint8]:
    """(TILE, TILE) uint8 grey tile.

    Raises:
        KeyError: no tile of that name.
    """
    return np.ascontiguousarray(np.clip(_TILES[name]() * 255, 0, 255).astype(np.uint8))


def _noise(seed: int, power: float, stretch: tuple[float, float] = (1.0, 1.0)) -> npt.NDArray[Any]:
    """Wrapping noise with spectrum 1/f^power, longer along an axis whose `stretch` is larger; mean 0.5."""
    rng = np.random.default_rng(seed)
    fy = np.fft.fftfreq(TILE)[:, None] * stretch[0]
    fx = np.fft.rfftfreq(TILE)[None, :] * stretch[1]
    f = np.sqrt(fy**2 + fx**2)
    f[0, 0] = np.inf
    spectrum = (rng.normal(size=f.shape) + 1j * rng.normal(size=f.shape)) / np.maximum(f, 2 / TILE) ** power
    field = np.fft.irfft2(spectrum, (TILE, TILE))
    return np.asarray(0.5 + field / (4 * field.std()))


def _grid() -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    y, x = np.mgrid[0:TILE, 0:TILE].astype(np.float32)
    return y, x


def _soft(field: npt.NDArray[Any], low: float, high: float) -> npt.NDArray[Any]:
    return np.clip((field - low) / (high - low), 0, 1)


def _brick() -> npt.NDArray[Any]:
    y, x = _grid()
    row = y // 8
    joint = (y % 8 < 1.5) | ((x + 8 * (row % 2)) % 16 < 1.5)
    each = np.random.default_rng(11).random((32, 17))[row.astype(int), ((x + 8 * (row % 2)) // 16).astype(int)]
    return np.where(joint, 1.0, 0.45 * each)


def _tiles() -> npt.NDArray[Any]:
    y, x = _grid()
    return np.where((y % 32 < 2) | (x % 32 < 2), 1.0, 0.25 * _noise(12, 1.0))


def _planks() -> npt.NDArray[Any]:
    y, x = _grid()
    board = (y // 16).astype(int)
    joint = (y % 16 < 1) | ((x + 96 * (board % 3)) % 128 < 1.5)
    tone = np.random.default_rng(13).random(16)[board]
    return np.where(joint, 1.0, 0.45 * tone + 0.4 * _noise(14, 1.2, (9.0, 0.7)))


def _checks() -> npt.NDArray[Any]:
    y, x = _grid()
    return 0.5 * (y % 16 < 8) + 0.5 * (x % 16 < 8)


def _wobble(period: float, amount: float, seed: int) -> npt.NDArray[Any]:
    y, x = _grid()
    return np.asarray(0.5 + 0.5 * np.sin(2 * np.pi * (x / period + amount * (_noise(seed, 2.0) - 0.5) + 0 * y)))


def _cells() -> npt.NDArray[Any]:
    field = _noise(21, 0.9)
    return np.asarray(cv2.GaussianBlur(field, (0, 0), 1.2))


_TILES: dict[str, Callable[[], npt.NDArray[Any]]] = {
    "plain": lambda: np.zeros((TILE, TILE)),
    "fine": lambda: _noise(1, 0.3),
    "rough": lambda: _noise(2, 0.8),
    "cloud": lambda: _soft(_noise(3, 1.8), 0.35, 0.9),
    "foliage": lambda: _soft(0.55 * _noise(4, 0.9) + 0.45 * _noise(5, 1.5), 0.3, 0.7),
    "grass": lambda: _soft(0.6 * _noise(6, 0.7, (0.35, 1.0)) + 0.4 * _noise(7, 1.6), 0.25, 0.75),
    "water": lambda: _soft(_noise(8, 1.1, (5.0, 0.6)), 0.2, 0.85),
    "wood": lambda: _soft(_noise(9, 1.2, (8.0, 0.5)), 0.2, 0.8),
    "marble": lambda: _soft(_noise(10, 1.7), 0.2, 0.8),
    "brick": _brick,
    "tiles": _tiles,
    "planks": _planks,
    "checks": _checks,
    "stripes": lambda: (_grid()[1] % 8 < 4).astype(np.float32),
    "folds": lambda: _wobble(16, 1.5, 15),
    "zebra": lambda: (_wobble(14, 6.0, 16) > 0.5).astype(np.float32),
    "patches": lambda: _soft(_noise(17, 2.2), 0.5, 0.53),
    "net": lambda: 1.0 - _soft(np.abs(_noise(18, 1.4) - 0.5), 0.02, 0.06),
    "fur": lambda: _noise(19, 0.7, (1.0, 0.4)),
    "wool": lambda: _soft(_noise(20, 0.6), 0.2, 0.8),
    "gravel": _cells,
    "carpet": lambda: 0.5 * _noise(22, 0.2) + 0.5 * (_grid()[0] % 32 < 3),
    "slats": lambda: (_grid()[0] % 8 < 2).astype(np.float32),
    "leather": lambda: 0.3 + 0.4 * (_noise(23, 1.3) - 0.5),
}
