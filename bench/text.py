"""Figures and tables for people to read."""

from collections.abc import Mapping, Sequence
from statistics import median

#: What was measured, with the value of each round.
Figures = dict[str, list[float]]


def note(figures: Figures, name: str, value: float) -> None:
    """Add a value of a round."""
    figures.setdefault(name, []).append(value)


def medians(figures: Mapping[str, Sequence[float]]) -> str:
    """Return a line for each figure: its median, the least and the most."""
    return "\n".join(
        f"{name:62} {median(values):9.2f} {min(values):9.2f} {max(values):9.2f}"
        for name, values in figures.items()
    )


def short(value: float) -> str:
    """Return a figure with three digits or, from 100 on, without a fraction."""
    if value == 0:
        return "0"
    if abs(value) >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return lines with columns; the first one is on the left. A row of two is a remark."""
    whole = [row for row in rows if len(row) > 2]
    widths = [max(len(row[column]) for row in whole) for column in range(len(whole[0]))]
    lines = []
    for row in rows:
        if len(row) == 2:
            lines.append(f"{row[0]:{widths[0]}}  {row[1]}")
        else:
            cells = [f"{row[0]:{widths[0]}}"]
            cells += [f"{cell:>{size}}" for cell, size in zip(row[1:], widths[1:], strict=True)]
            lines.append("  ".join(cells))
    return lines
