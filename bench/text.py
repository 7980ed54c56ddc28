"""Figures and tables for people to read."""

from collections.abc import Sequence


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
