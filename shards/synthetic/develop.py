"""From a drawn scene to a photograph: light falling off, colour, softness and noise of one dataset's cameras."""

from __future__ import annotations

from random import Random

import cv2
import numpy as np
import numpy.typing as npt

from segstream.shards.synthetic.looks import Look


def develop(image: npt.NDArray[np.uint8], look: Look, rng: Random) -> npt.NDArray[np.uint8]:
    """The (H, W, 3) uint8 RGB picture as the dataset's camera would have recorded it."""
    height, width = image.shape[:2]
    photo = image.astype(np.float32)
    gain = np.asarray([rng.uniform(*channel) for channel in look.gain], np.float32) * rng.uniform(*look.exposure)
    grey = photo.mean(axis=2, keepdims=True)
    photo = (grey + (photo - grey) * rng.uniform(*look.saturation)) * gain
    photo = 118 + (photo - 118) * rng.uniform(*look.contrast)
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    lean = rng.uniform(-0.12, 0.12) * x + rng.uniform(-0.06, 0.06) * y
    photo *= (1 + lean - rng.uniform(*look.vignette) * (x * x + y * y) / 2)[..., None]
    photo = np.asarray(cv2.GaussianBlur(photo, (0, 0), max(rng.uniform(*look.blur), 0.05)))
    generator = np.random.Generator(np.random.PCG64(rng.getrandbits(64)))
    sigma = rng.uniform(*look.noise)
    photo += generator.standard_normal(photo.shape, dtype=np.float32) * sigma
    return np.clip(np.rint(photo), 0, 255).astype(np.uint8)
