"""The results: medians over the rounds as a table, as JSON, and as a plot."""

import datetime as dt
import json
from collections import defaultdict
from collections.abc import Sequence
from html import escape
from statistics import median

from machine import description
from scenarios import Figures, Scenario

#: What the figure of a scenario is called, and the columns beside it.
COLUMNS = {
    "cpu_us": (
        "CPU µs/delivery",
        ("core", "load_core", "deliveries_s", "p50_ms", "p99_ms", "missing"),
    ),
    "memory_kib": (
        "memory KiB/stream",
        ("cpu_ms_minute", "keep_alive_us", "connect_us", "memory_empty_mib"),
    ),
    "connect_us": (
        "CPU µs/connect",
        ("connects_s", "seconds", "p50_ms", "p99_ms", "redis_us", "missing"),
    ),
}
LABELS = {
    "core": "core",
    "load_core": "load's core",
    "deliveries_s": "deliveries/s",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "missing": "missing",
    "cpu_ms_minute": "CPU ms/stream/min",
    "keep_alive_us": "µs/keep-alive",
    "connect_us": "CPU µs/connect",
    "memory_empty_mib": "MiB empty",
    "connects_s": "connects/s",
    "seconds": "seconds",
    "redis_us": "Redis µs/connect",
}
SINAPSE = "Sinapse"


def _short(value: float) -> str:
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def line(scenario: Scenario, figures: Figures) -> str:
    """Return the figures of one round in one line."""
    title, others = COLUMNS[scenario.main]
    words = [f"{_short(figures[scenario.main])} {title}"]
    words += [f"{LABELS[name]} {_short(figures[name])}" for name in others]
    return ", ".join(words)


class Results:
    """All figures of a run."""

    def __init__(self, scenarios: Sequence[Scenario], peers: Sequence[str]) -> None:
        self._scenarios = scenarios
        self._peers = peers
        self._rounds: dict[tuple[str, str], list[Figures]] = defaultdict(list)
        self._skipped: dict[tuple[str, str], str] = {}
        self._when = dt.datetime.now(dt.UTC)

    def add(self, scenario: Scenario, peer: str, figures: Figures) -> None:
        """Take the figures of one round."""
        self._rounds[scenario.key, peer].append(figures)

    def skip(self, scenario: Scenario, peer: str, reason: str) -> None:
        """Take note of why there are none."""
        self._skipped[scenario.key, peer] = reason

    def medians(self, scenario: Scenario, peer: str) -> Figures:
        """Return the median of each figure; nothing if there are none."""
        rounds = self._rounds.get((scenario.key, peer), [])
        return {
            name: median(each[name] for each in rounds) for name in (rounds[0] if rounds else ())
        }

    def ratio(self, scenario: Scenario, peer: str) -> float | None:
        """Return how many times Sinapse's main figure that of a peer is."""
        own, other = self.medians(scenario, SINAPSE), self.medians(scenario, peer)
        if not own or not other or not own[scenario.main]:
            return None
        return other[scenario.main] / own[scenario.main]

    def table(self) -> str:
        """Return everything for people to read."""
        lines = [f"{description()}", f"{self._when:%Y-%m-%d}; medians of the rounds", ""]
        for scenario in self._scenarios:
            title, others = COLUMNS[scenario.main]
            rows = [["", title, "/ Sinapse", *(LABELS[name] for name in others), "rounds"]]
            for peer in self._peers:
                figures = self.medians(scenario, peer)
                if not figures:
                    reason = self._skipped.get((scenario.key, peer))
                    if reason is not None:
                        rows.append([peer, reason])
                    continue
                ratio = self.ratio(scenario, peer)
                row = [peer, _short(figures[scenario.main])]
                row.append("" if ratio is None else f"{ratio:.2f}")
                row += [_short(figures[name]) for name in others]
                row.append(str(len(self._rounds[scenario.key, peer])))
                rows.append(row)
            lines += [f"({scenario.key}) {scenario.title}", *_aligned(rows), ""]
        return "\n".join(lines)

    def json(self) -> str:
        """Return everything for programs to read, each round included."""
        return json.dumps(
            {
                "machine": description(),
                "when": self._when.isoformat(timespec="seconds"),
                "scenarios": {
                    scenario.key: {
                        "title": scenario.title,
                        "streams": scenario.streams,
                        "messages": scenario.messages,
                        "figure": scenario.main,
                        "peers": {
                            peer: {
                                "ratio": self.ratio(scenario, peer),
                                "median": self.medians(scenario, peer),
                                "rounds": self._rounds[scenario.key, peer],
                            }
                            for peer in self._peers
                            if (scenario.key, peer) in self._rounds
                        },
                    }
                    for scenario in self._scenarios
                },
            },
            indent=2,
        )

    def svg(self) -> str:
        """Return bars, a group a scenario, each group with a scale of its own."""
        width, label, bar, gap = 760, 130, 16, 4
        y = 10
        parts: list[str] = []
        for scenario in self._scenarios:
            title, _ = COLUMNS[scenario.main]
            found = [(peer, self.medians(scenario, peer)) for peer in self._peers]
            values = [(peer, each[scenario.main]) for peer, each in found if each]
            if not values:
                continue
            y += 20
            heading = f"({scenario.key}) {scenario.title}: {title}"
            parts.append(f'<text class="title" x="0" y="{y}">{escape(heading)}</text>')
            y += 8
            longest = max(value for _, value in values) or 1
            for peer, value in values:
                length = max(1, (width - label - 130) * value / longest)
                kind = "own" if peer == SINAPSE else "other"
                parts.append(f'<text x="0" y="{y + bar - 4}">{escape(peer)}</text>')
                parts.append(
                    f'<rect class="{kind}" x="{label}" y="{y}" width="{length:.1f}" '
                    f'height="{bar}" rx="2"/>'
                )
                ratio = self.ratio(scenario, peer)
                text = _short(value)
                if ratio is not None and peer != SINAPSE:
                    text += f"  ({ratio:.2f} of Sinapse)"
                parts.append(f'<text x="{label + length + 6:.1f}" y="{y + bar - 4}">{text}</text>')
                y += bar + gap
            y += 6
        note = "Medians; smaller is better. " + description()
        parts.append(f'<text class="note" x="0" y="{y + 16}">{escape(note)}</text>')
        y += 26
        style = (
            "text{font:12px sans-serif;fill:#333}.title{font-weight:bold}.note{font-size:10px;"
            "fill:#777}.own{fill:#2266cc}.other{fill:#b5bcc6}"
            "@media(prefers-color-scheme:dark){text{fill:#ddd}.other{fill:#68707c}}"
        )
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-10 0 {width} {y}" '
            f'role="img"><style>{style}</style>\n' + "\n".join(parts) + "\n</svg>\n"
        )


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
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
