"""The plot: a chart of bars for each scenario, in two columns, each with a scale of its own.

It is drawn by hand so that it has colours for dark pages as well, and text that can be searched.
"""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from text import short

#: Pixels.
COLUMN = 470
GUTTER = 40
MARGIN = 20
LABELS = 128
VALUES = 104
BAR = 14
STEP = 20
HEAD = 50
FOOT = 26

STYLE = """
  text { font: 12px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #24292f }
  .title { font-size: 14px; font-weight: 600 }
  .detail, .note { fill: #656d76 }
  .note { font-size: 11px }
  .name { text-anchor: end }
  .strong { font-weight: 600 }
  .value { font-variant-numeric: tabular-nums }
  .ratio { fill: #656d76 }
  .own { fill: #0969da }
  .peer { fill: #afb8c1 }
  .floor { fill: none; stroke: #8c959f; stroke-dasharray: 3 2 }
  .axis { stroke: #d0d7de }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .detail, .note, .ratio { fill: #8d96a0 }
    .own { fill: #4493f8 }
    .peer { fill: #57606a }
    .floor { stroke: #6e7781 }
    .axis { stroke: #3d444d }
  }
"""


class Bar(NamedTuple):
    """A bar: whose it is, how long, and how many times it our own figure is.

    `kind` is `own`, `peer`, or `floor` for what is there to compare with only.
    """

    name: str
    kind: str
    value: float
    ratio: float | None


class Chart(NamedTuple):
    """The bars of one scenario, in `unit`."""

    title: str
    detail: str
    unit: str
    bars: Sequence[Bar]

    @property
    def height(self) -> int:
        """What it takes, with the space below it."""
        return HEAD + STEP * len(self.bars) + FOOT


def draw(charts: Sequence[Chart], notes: Sequence[str]) -> str:
    """Return the picture as SVG, with notes below it."""
    columns = _columns(charts)
    width = 2 * MARGIN + COLUMN * len(columns) + GUTTER * (len(columns) - 1)
    bottom = MARGIN + max(sum(chart.height for chart in column) for column in columns)
    parts = []
    for number, column in enumerate(columns):
        y = MARGIN
        for chart in column:
            x = MARGIN + number * (COLUMN + GUTTER)
            parts.append(f'<g transform="translate({x},{y})">')
            parts += _chart(chart)
            parts.append("</g>")
            y += chart.height
    for note in notes:
        parts.append(f'<text class="note" x="{MARGIN}" y="{bottom}">{escape(note)}</text>')
        bottom += 16
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {bottom}" '
        f'width="{width}" height="{bottom}" role="img" aria-label="Benchmark">\n'
        f"<style>{STYLE}</style>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def _columns(charts: Sequence[Chart]) -> list[Sequence[Chart]]:
    """Part the charts so that the columns are of like height, and in order."""
    if len(charts) < 2:
        return [charts]
    parted = range(1, len(charts))
    best = min(parted, key=lambda at: max(_height(charts[:at]), _height(charts[at:])))
    return [charts[:best], charts[best:]]


def _height(charts: Sequence[Chart]) -> int:
    return sum(chart.height for chart in charts)


def _chart(chart: Chart) -> list[str]:
    longest = max(bar.value for bar in chart.bars) or 1
    room = COLUMN - LABELS - VALUES
    heading = f"{chart.detail} · {chart.unit}" if chart.detail else chart.unit
    parts = [
        f'<text class="title" y="14">{escape(chart.title)}</text>',
        f'<text class="detail" y="32">{escape(heading)}</text>',
        f'<path class="axis" d="M{LABELS},{HEAD - 8}v{STEP * len(chart.bars) + 6}"/>',
    ]
    y = HEAD - 4
    for bar in chart.bars:
        strong = " strong" if bar.kind == "own" else ""
        length = max(1.0, room * bar.value / longest)
        baseline = y + BAR - 3
        text = f'<tspan class="{strong.strip()}">{short(bar.value)}</tspan>'
        if bar.ratio is not None:
            ratio = f"{bar.ratio:.2f}" if bar.ratio >= 0.1 else f"{bar.ratio:.1g}"
            text += f'<tspan class="ratio" dx="6">({ratio})</tspan>'
        name, size = escape(bar.name), f'width="{length:.1f}" height="{BAR}"'
        parts += [
            f'<text class="name{strong}" x="{LABELS - 8}" y="{baseline}">{name}</text>',
            f'<rect class="{bar.kind}" x="{LABELS}" y="{y}" {size} rx="2"/>',
            f'<text class="value" x="{LABELS + length + 6:.1f}" y="{baseline}">{text}</text>',
        ]
        y += STEP
    return parts
