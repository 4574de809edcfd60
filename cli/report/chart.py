"""Line charts as SVG text: no plotting library in the report, no script in the page."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from segstream.cli.report.html import render
from segstream.shards.errors import DataError

MAX_POINTS = 240

Curve = Sequence[tuple[float, float]]
"""(step, value) by rising step."""


def read_curve(path: Path) -> Curve:
    """Read a curve as dvclive writes it: tab-separated, a header with `step`, the value in the last column.

    Raises:
        DataError: the file is missing, has no `step` column, or holds something else than numbers.
    """
    try:
        header, *lines = path.read_text(encoding="utf-8").splitlines()
        step = header.split("\t").index("step")
        points = [(float(fields[step]), float(fields[-1])) for fields in (line.split("\t") for line in lines)]
    except (OSError, ValueError, IndexError) as error:
        raise DataError(f"{path}: not a training curve ({error}); train the model again or leave it out") from error
    return [p for p in points if math.isfinite(p[1])]


def thin(points: Curve, most: int = MAX_POINTS) -> Curve:
    """At most `most` points: means of equal groups of neighbours, so that noise is averaged and no peak invented."""
    if len(points) <= most:
        return points
    size = math.ceil(len(points) / most)
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return [(sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups]


def ticks(low: float, high: float, about: int = 6) -> list[float]:
    """Round numbers within [low, high], about `about` of them: 1, 2 or 5 times a power of ten apart.

    Raises:
        ValueError: the interval is empty.
    """
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * f for f in (1, 2, 5, 10) if power * f >= rough * (1 - 1e-9))
    return [i * step for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def line_chart(curves: Mapping[str, Curve], *, x_label: str, y_label: str) -> str:
    """An SVG element with axes, grid and one path per curve; path `i` has the classes `line` and
    `c{i}` (modulo 8, as many as the style sheet has).

    Colours, text size and dark mode are the page's business (CSS). The y axis begins at 0.

    Returns:
        "" if no curve has a point.

    Raises:
        DataError: jinja2 (extra `report`) is not installed.
    """
    lines = [(name, thin(points)) for name, points in curves.items()]
    points = [p for _, line in lines for p in line]
    if not points:
        return ""
    x_low, x_high = min(x for x, _ in points), max(x for x, _ in points)
    y_low, y_high = min(0.0, *(y for _, y in points)), max(y for _, y in points)
    x_high, y_high = max(x_high, x_low + 1), y_high if y_high > y_low else y_low + 1
    bounds = {"x_low": x_low, "x_high": x_high, "y_low": y_low, "y_high": y_high}
    return render("chart.svg", x_label=x_label, y_label=y_label, lines=lines, ticks=ticks, **bounds)
