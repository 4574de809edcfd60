"""Tables of figures as text, Markdown, LaTeX or CSV; the best figure of each column is marked."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from segstream.cli.console import plain

Format = Literal["text", "markdown", "latex", "csv", "json"]
Entry = tuple[float | None, str]
"""What is compared within its column, and what is printed."""

HMEAN = "h. mean"
"""The column of the harmonic mean."""
BOLD, PLAIN = "\x1b[1m", "\x1b[0m"
_LATEX = str.maketrans({c: f"\\{c}" for c in "&%$#_{}"})
ESCAPED = {"markdown": str.maketrans({"|": r"\|", "<": "&lt;"}), "latex": _LATEX}  # in names
NARROWEST = len("100.0")


def percent(value: float | None) -> str:
    """A share as percent with one decimal; a dash where there is none."""
    return "-" if value is None else f"{100 * value:.1f}"


def best_of(rows: Iterable[Sequence[float | None]]) -> list[float | None]:
    """The highest value of each column; None in a column without any."""
    return [max((v for v in column if v is not None), default=None) for column in zip(*rows, strict=True)]


def csv_text(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Every digit of every value; None is empty."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([header, *rows])
    return out.getvalue().rstrip("\n")


def text_table(
    form: Format, columns: Sequence[str], rows: Sequence[tuple[str, Sequence[Entry]]], *, foot: str = "", bold: bool
) -> str:
    """A table with a column `model` and those given.

    Args:
        form: `markdown` and `latex` mark the best in bold; anything else is plain text, which marks it `*`.
        rows: a model's name, and an entry for each column.
        foot: a last line of explanation, in plain text.
        bold: in plain text, also print the best in bold (for a terminal).
    """
    best = best_of([value for value, _ in entries] for _, entries in rows)
    escapes = ESCAPED.get(form, {})
    columns, names = ([plain(name).translate(escapes) for name in some] for some in (columns, [n for n, _ in rows]))
    marked = [
        (name, [(text, value is not None and value == top) for (value, text), top in zip(entries, best, strict=True)])
        for name, (_, entries) in zip(names, rows, strict=True)
    ]
    if form == "markdown":
        lines = [("model", *columns), *((name, *(f"**{t}**" if b else t for t, b in cells)) for name, cells in marked)]
        head, *body = [f"| {' | '.join(line)} |" for line in lines]
        return "\n".join([head, "|---|" + "---:|" * len(columns), *body])
    if form == "latex":  # the rows of a `tabular`; which rules and widths it has is the document's business
        lines = [("model", *columns)]
        for name, cells in marked:
            lines.append((name, *("--" if t == "-" else rf"$ \mathbf{{{t}}} $" if b else f"$ {t} $" for t, b in cells)))
        head, *body = [" & ".join(line) + r" \\" for line in lines]
        return "\n".join([head, r"\hline", *body])
    first = max(map(len, ("model", *names)))
    widths = [
        max(NARROWEST, *map(len, (head, *(cells[i][0] for _, cells in marked)))) for i, head in enumerate(columns)
    ]
    heads = "".join(f"  {column:>{width}} " for column, width in zip(columns, widths, strict=True))
    body = [f"{'model':<{first}}{heads}".rstrip(), "-" * (first + sum(widths) + 3 * len(widths) - 1)]
    for name, cells in marked:
        line = f"{name:<{first}}"
        for (text, top), width in zip(cells, widths, strict=True):
            shown = f"{BOLD}{text}*{PLAIN}" if top and bold else f"{text}{'*' if top else ' '}"
            line += " " * (2 + width - len(text)) + shown
        body.append(line.rstrip())
    return "\n".join([*body, *filter(None, [foot])])
