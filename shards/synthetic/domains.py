"""What makes each dataset a domain of its own: kinds of scene, viewpoint, light, sensor."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from segstream.shards.schema import parse
from segstream.shards.synthetic.read_table import table

Range = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """How one dataset's pictures are taken; ranges are drawn from per image."""

    sizes: tuple[tuple[int, int], ...]
    """(width, height) pixels to pick from."""
    scenes: Mapping[str, float]
    """street, room or everyday -> share."""
    camera_height: Range = (1.4, 1.7)
    """Metres above the ground, outdoors."""
    focal: Range = (0.9, 1.2)
    """In image heights."""
    horizon: Range = (0.4, 0.5)
    """Share of the image above it, outdoors."""
    haze: Range = (0.0, 0.004)
    """Extinction per metre."""
    gain: tuple[Range, Range, Range] = ((0.95, 1.05), (0.95, 1.05), (0.95, 1.05))
    """White balance: factor per channel."""
    exposure: Range = (0.9, 1.1)
    contrast: Range = (0.9, 1.1)
    saturation: Range = (0.9, 1.1)
    noise: Range = (1.0, 4.0)
    """Standard deviation, grey levels."""
    blur: Range = (0.2, 0.5)
    """Standard deviation, pixels."""
    vignette: Range = (0.0, 0.15)
    hood: bool = False
    """The bonnet of the car that carries the camera is in view."""
    town: Mapping[str, float] = field(default_factory=dict)
    """Buildings along streets -> weight."""
    traffic: Mapping[str, float] = field(default_factory=dict)
    """What drives in streets -> weight, where it differs from `tables/scenes.yaml`."""
    subjects: Mapping[str, float] = field(default_factory=dict)
    """What everyday pictures are of -> weight."""

    def photograph(self, image: npt.NDArray[np.uint8], rng: Random) -> npt.NDArray[np.uint8]:
        """The (H, W, 3) uint8 RGB picture as the dataset's camera would have recorded it."""
        height, width = image.shape[:2]
        photo = image.astype(np.float32)
        gain = np.asarray([rng.uniform(*channel) for channel in self.gain], np.float32) * rng.uniform(*self.exposure)
        grey = photo.mean(axis=2, keepdims=True)
        photo = (grey + (photo - grey) * rng.uniform(*self.saturation)) * gain
        photo = 118 + (photo - 118) * rng.uniform(*self.contrast)
        y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
        x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
        lean = rng.uniform(-0.12, 0.12) * x + rng.uniform(-0.06, 0.06) * y
        photo *= (1 + lean - rng.uniform(*self.vignette) * (x * x + y * y) / 2)[..., None]
        photo = np.asarray(cv2.GaussianBlur(photo, (0, 0), max(rng.uniform(*self.blur), 0.05)))
        generator = np.random.Generator(np.random.PCG64(rng.getrandbits(64)))
        photo += generator.standard_normal(photo.shape, dtype=np.float32) * rng.uniform(*self.noise)
        return np.clip(np.rint(photo), 0, 255).astype(np.uint8)


def _domains() -> dict[str, Domain]:
    values: dict[str, dict[str, Any]] = {}
    for name, own in table("domains").items():
        values[name] = values.get(own.get("like", ""), {}) | {key: value for key, value in own.items() if key != "like"}
    return {name: parse(Domain, one, at=f"domains.yaml: {name}") for name, one in values.items()}


DOMAINS = _domains()
