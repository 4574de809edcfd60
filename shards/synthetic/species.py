"""What tells animals apart: proportions and coats. Data only."""

from __future__ import annotations

from dataclasses import dataclass

Coat = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
BLACK: Coat = ((0.0, 1.0), (0.0, 0.15), (0.08, 0.2))
WHITE: Coat = ((0.08, 0.14), (0.0, 0.12), (0.85, 0.97))
BROWN: Coat = ((0.04, 0.09), (0.4, 0.65), (0.25, 0.5))
GINGER: Coat = ((0.06, 0.1), (0.5, 0.75), (0.6, 0.85))
GREY: Coat = ((0.5, 0.7), (0.0, 0.12), (0.35, 0.6))
CREAM: Coat = ((0.09, 0.13), (0.1, 0.3), (0.75, 0.92))


@dataclass(frozen=True, slots=True)
class Species:
    """Proportions, in units of the height at the back."""

    tall: float
    """Metres at the back."""
    body: tuple[float, float]
    """Half length, half thickness."""
    legs: tuple[float, float]
    """Length, thickness."""
    neck: tuple[float, float, float]
    """Forward, up, thickness."""
    head: tuple[float, float]
    """Half length, half thickness."""
    ears: str
    tail: str
    coats: tuple[Coat, ...]
    tile: str
    depth: float = 0.3
    extra: str = ""


KINDS = {
    "cat": Species(
        0.3,
        (0.62, 0.26),
        (0.5, 0.13),
        (0.2, 0.2, 0.3),
        (0.2, 0.2),
        "points",
        "up",
        (GINGER, GINGER, GINGER, GREY),
        "zebra",
        0.25,
    ),
    "dog": Species(
        0.55,
        (0.58, 0.23),
        (0.56, 0.13),
        (0.22, 0.26, 0.25),
        (0.27, 0.15),
        "flaps",
        "curl",
        (CREAM, CREAM, CREAM, BLACK),
        "patches",
        0.45,
        "snout",
    ),
    "horse": Species(
        1.5,
        (0.55, 0.2),
        (0.68, 0.09),
        (0.34, 0.42, 0.2),
        (0.24, 0.1),
        "points",
        "mane",
        (BROWN, BROWN, BROWN, BLACK),
        "fur",
        0.12,
        "mane",
    ),
    "sheep": Species(
        0.8,
        (0.5, 0.32),
        (0.42, 0.09),
        (0.16, 0.1, 0.2),
        (0.2, 0.12),
        "flaps",
        "none",
        (WHITE, WHITE, CREAM),
        "wool",
        0.25,
        "fleece",
    ),
    "cow": Species(
        1.4,
        (0.66, 0.27),
        (0.5, 0.11),
        (0.22, 0.08, 0.26),
        (0.22, 0.14),
        "flaps",
        "rope",
        (WHITE, WHITE, WHITE, BROWN),
        "patches",
        0.85,
        "horns",
    ),
    "elephant": Species(
        2.6,
        (0.58, 0.32),
        (0.48, 0.2),
        (0.2, 0.02, 0.35),
        (0.22, 0.22),
        "fans",
        "rope",
        (GREY,),
        "leather",
        0.2,
        "trunk",
    ),
    "bear": Species(
        1.2,
        (0.6, 0.32),
        (0.42, 0.2),
        (0.18, 0.05, 0.32),
        (0.24, 0.18),
        "rounds",
        "none",
        (BROWN, BLACK),
        "fur",
        0.25,
        "snout",
    ),
    "zebra": Species(
        1.4,
        (0.55, 0.23),
        (0.6, 0.1),
        (0.28, 0.34, 0.22),
        (0.23, 0.11),
        "points",
        "rope",
        (WHITE,),
        "zebra",
        0.9,
        "mane",
    ),
    "giraffe": Species(
        2.4,
        (0.36, 0.2),
        (0.7, 0.07),
        (0.32, 0.85, 0.13),
        (0.16, 0.08),
        "points",
        "rope",
        (CREAM, GINGER),
        "patches",
        0.5,
    ),
    "animal_other": Species(
        0.9,
        (0.52, 0.18),
        (0.62, 0.07),
        (0.24, 0.36, 0.14),
        (0.2, 0.09),
        "points",
        "none",
        (GINGER, BROWN),
        "fur",
        0.2,
        "antlers",
    ),
}
