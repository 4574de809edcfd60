"""Tables of short texts, some of them marked, as text, Markdown or LaTeX."""

from __future__ import annotations

from collections.abc import Sequence

Rows = Sequence[tuple[str, Sequence[tuple[str, bool]]]]
"""(name, by column (text, whether it is the best))."""
BOLD, PLAIN = "\x1b[1m", "\x1b[0m"
NARROWEST = len("100.0")


def lay_out(form: str, columns: Sequence[str], rows: Rows, *, foot: str = "", bold: bool = False) -> str:
    """A table with a column `model` and those given.

    Args:
        form: `markdown` and `latex` mark the best in bold; anything else is plain text, which marks it `*`.
        foot: a last line of explanation, in plain text.
        bold: in plain text, also print the best in bold (for a terminal).
    """
    if form == "markdown":
        return _markdown(columns, rows)
    if form == "latex":
        return _latex(columns, rows)
    return _text(columns, rows, foot, bold=bold)


def _markdown(columns: Sequence[str], rows: Rows) -> str:
    lines = ["| " + " | ".join(("model", *columns)) + " |", "|---|" + "---:|" * len(columns)]
    lines += [
        f"| {name} | " + " | ".join(f"**{text}**" if best else text for text, best in cells) + " |"
        for name, cells in rows
    ]
    return "\n".join(lines)


def _latex(columns: Sequence[str], rows: Rows) -> str:
    """The rows of a `tabular`; which rules and widths it has is the document's business."""

    def line(cells: Sequence[str]) -> str:
        return " & ".join(cell.replace("_", r"\_").replace("%", r"\%") for cell in cells) + r" \\"

    lines = [line(("model", *columns)), r"\hline"]
    for name, cells in rows:
        values = [f"$ \\mathbf{{{text}}} $" if best else f"$ {text} $" if text != "-" else "--" for text, best in cells]
        lines.append(line((name, *values)))
    return "\n".join(lines)


def _text(columns: Sequence[str], rows: Rows, foot: str, *, bold: bool) -> str:
    first = max(len("model"), *(len(name) for name, _ in rows)) if rows else len("model")
    widths = [
        max(len(column), NARROWEST, *(len(cells[i][0]) for _, cells in rows), 0) for i, column in enumerate(columns)
    ]
    heads = "".join(f"  {column:>{width}} " for column, width in zip(columns, widths, strict=True))
    lines = [f"{'model':<{first}}{heads}".rstrip(), "-" * (first + sum(widths) + 3 * len(widths) - 1)]
    for name, cells in rows:
        line = f"{name:<{first}}"
        for (text, best), width in zip(cells, widths, strict=True):
            shown = f"{BOLD}{text}*{PLAIN}" if best and bold else f"{text}{'*' if best else ' '}"
            line += " " * (2 + width - len(text)) + shown
        lines.append(line.rstrip())
    return "\n".join([*lines, *([foot] if foot else [])])
