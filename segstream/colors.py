"""Labels as colours: one palette for every picture of the project, by class id or by class name."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from segstream.shards.taxonomy import IGNORE_INDEX, load_taxonomy, taxonomy_names

Rgb = npt.NDArray[np.uint8]
IGNORED_RGB = (0, 0, 0)
RIGHT_WRONG: Rgb = np.array([(205, 208, 212), (206, 34, 34)], np.uint8)
"""(2, 3): of the pixels that a prediction got right, and of the others."""
GRID = range(8, 256, 13)  # levels per channel among which colours are chosen
LIGHTNESS = (38.0, 84.0)  # CIE L*: away from black (ignored) and from white (paper)
CHROMA = (20.0, 70.0)  # greys look alike next to photographs, and neon drowns everything else
NAMED = 1024  # colours for names; beyond, neighbours can hardly be told apart


@lru_cache(maxsize=8)
def palette(n: int) -> Rgb:
    """Distinct colours for class ids, the same on every machine.

    Each colour is the candidate farthest, in CIE Lab, from those before it, so a longer palette begins with the
    shorter one: id 7 has one colour however many classes there are.

    Returns:
        (n, 3) uint8 RGB, read-only; never black, which is `IGNORED_RGB`.

    Raises:
        ValueError: more colours are asked for than can be told apart.
    """
    grid = np.array([(r, g, b) for r in GRID for g in GRID for b in GRID], np.uint8)
    lab = cv2.cvtColor(grid[None].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[0]
    light, chroma = lab[:, 0], np.hypot(lab[:, 1], lab[:, 2])
    usable = (light >= LIGHTNESS[0]) & (light <= LIGHTNESS[1]) & (chroma >= CHROMA[0]) & (chroma <= CHROMA[1])
    grid, lab = grid[usable], lab[usable]
    if n > len(grid):
        raise ValueError(f"{n} colours asked for, {len(grid)} can be told apart")
    chosen: list[int] = []
    at = int(np.linalg.norm(lab - np.array([60.0, 5.0, -45.0], np.float32), axis=1).argmin())  # begin with a mid blue
    nearest = np.full(len(lab), np.inf, np.float32)
    for _ in range(n):
        chosen.append(at)
        nearest = np.minimum(nearest, np.linalg.norm(lab - lab[at], axis=1))
        at = int(nearest.argmax())
    colors: Rgb = grid[chosen]
    colors.flags.writeable = False
    return colors


def class_colors(classes: Sequence[str]) -> Rgb:
    """Colours of classes by their names: a name has one colour in every dataset and taxonomy.

    Letter case and the kind of separator do not make another name (`Traffic Light`, `traffic_light`). Names of the
    built-in taxonomies come first in the palette, those that most of them share foremost: what is met most often
    differs most. A name of your own takes one of the other colours by its hash.

    Returns:
        (classes, 3) uint8 RGB, all distinct where the names are.

    Raises:
        ValueError: more names of your own than there are colours left.
    """
    known = _vocabulary()
    names = [_plain(name) for name in classes]
    place = {name: known[name] for name in names if name in known}
    own = sorted(set(names) - place.keys())
    if len(own) > NAMED - len(known):
        raise ValueError(f"{len(own)} class names of your own, there are colours for {NAMED - len(known)}")
    taken: set[int] = set()
    for name in own:
        free = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % (NAMED - len(known))
        while free in taken:
            free = (free + 1) % (NAMED - len(known))
        taken.add(free)
        place[name] = len(known) + free
    colors: Rgb = palette(NAMED if own else len(known))[[place[name] for name in names]]
    return colors


def colorize(label: npt.NDArray[np.integer], num_classes: int) -> Rgb:
    """A label as a picture.

    Args:
        label: (H, W) ids in [0, num_classes); `IGNORE_INDEX` becomes black.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ValueError: an id outside the taxonomy.
    """
    return paint(label, palette(num_classes))


def paint(label: npt.NDArray[np.integer], colors: Rgb) -> Rgb:
    """A label in given colours.

    Args:
        label: (H, W) ids in [0, classes); `IGNORE_INDEX` becomes black, whatever stands there.
        colors: (classes, 3) uint8 RGB by id.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ValueError: an id outside the taxonomy.
    """
    num_classes = len(colors)
    table = np.zeros((max(num_classes, IGNORE_INDEX + 1), 3), np.uint8)
    table[:num_classes] = colors
    table[IGNORE_INDEX] = IGNORED_RGB
    wrong = (label != IGNORE_INDEX) & ((label < 0) | (label >= num_classes))
    if wrong.any():
        raise ValueError(f"ids {np.unique(label[wrong]).tolist()} are outside the {num_classes} classes")
    colored: Rgb = table[label]
    return colored


def legend(pictures: Sequence[Rgb], classes: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Which classes occur in colorized labels, the largest area first.

    Args:
        pictures: (H, W, 3) uint8 RGB, made by `colorize` with these classes.

    Returns:
        (class name, "#rrggbb") pairs; ("not scored", "#000000") last, if it occurs.
    """
    codes = np.concatenate([_codes(p).ravel() for p in pictures]) if pictures else np.zeros(0, np.int32)
    values, counts = np.unique(codes, return_counts=True)
    area = dict(zip(values.tolist(), counts.tolist(), strict=True))
    names = dict(zip(_codes(palette(len(classes))).tolist(), classes, strict=True))
    seen = sorted((code for code in names if code in area), key=lambda code: -area[code])
    rows = [(names[code], f"#{code:06x}") for code in seen]
    if 0 in area:
        rows.append(("not scored", "#000000"))
    return tuple(rows)


@lru_cache(maxsize=1)
def _vocabulary() -> dict[str, int]:
    """Every built-in class name -> its place in the palette."""
    shared: Counter[str] = Counter()
    for taxonomy in taxonomy_names():
        shared.update({_plain(name) for name in load_taxonomy(taxonomy).classes} - {""})
    return {name: i for i, name in enumerate(sorted(shared, key=lambda name: (-shared[name], name)))}


def _plain(name: str) -> str:
    return name.lower().replace("_", " ").replace("-", " ").strip()


def _codes(rgb: Rgb) -> npt.NDArray[np.int32]:
    return rgb.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
