"""The results: medians over the rounds as a table, as JSON, and as a plot; goals and faults."""

import datetime as dt
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import plot
from goals import FLOOR, GOALS, SINAPSE
from machine import description
from peers.floor import BATCHING
from scenarios import Figures, Scenario
from text import aligned, short


class Columns(NamedTuple):
    """What the main figure of a scenario is called, and the columns beside it."""

    title: str
    names: Sequence[str]
    #: That of the names which is compared as well, with its ratio behind it.
    second: str


COLUMNS = {
    "cpu_us": Columns(
        "CPU µs/delivery",
        ("p50_ms", "p99_ms", "core", "load_core", "deliveries_s", "missing", "disorder"),
        "p99_ms",
    ),
    "memory_kib": Columns(
        "memory KiB/stream",
        ("cpu_ms_minute", "keep_alive_us", "connect_us", "memory_empty_mib"),
        "cpu_ms_minute",
    ),
    "connect_us": Columns(
        "CPU µs/connect",
        (
            *("others_p99_ms", "connects_s", "seconds", "p50_ms", "p99_ms", "redis_us"),
            *("resumed", "refused", "missing", "disorder"),
        ),
        "others_p99_ms",
    ),
}
LABELS = {
    "core": "core",
    "load_core": "load's core",
    "deliveries_s": "deliveries/s",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "others_p99_ms": "others' p99 ms",
    "missing": "missing",
    "disorder": "disorder",
    "refused": "refused",
    "resumed": "resumed",
    "cpu_ms_minute": "CPU ms/stream/min",
    "keep_alive_us": "µs/keep-alive",
    "connect_us": "CPU µs/connect",
    "memory_empty_mib": "MiB empty",
    "connects_s": "connects/s",
    "seconds": "seconds",
    "redis_us": "Redis µs/connect",
}
RATIO = "Sinapse ÷ it"
FLOORS = (FLOOR, BATCHING.name)

#: Figures that must be zero, in every round of Sinapse.
FAULTS = {
    "missing": "deliveries missing (negative: too many)",
    "disorder": "deliveries out of order or twice",
    "incomplete_streams": "streams without what was published to them",
    "ended_streams": "streams ended",
    "publish_errors": "errors of the publisher",
    "refused": "streams refused",
}


def line(scenario: Scenario, figures: Figures) -> str:
    """Return the figures of one round in one line."""
    columns = COLUMNS[scenario.main]
    words = [f"{short(figures[scenario.main])} {columns.title}"]
    words += [f"{LABELS[name]} {short(figures[name])}" for name in columns.names if name in figures]
    return ", ".join(words)


class Results:
    """All figures of a run, written into the folder `output`."""

    def __init__(
        self, scenarios: Sequence[Scenario], peers: Sequence[str], output: Path, *, quick: bool
    ) -> None:
        self._scenarios = scenarios
        self._peers = peers
        self._output = output
        self._quick = quick
        self._rounds: dict[tuple[str, str], list[Figures]] = defaultdict(list)
        self._skipped: dict[tuple[str, str], str] = {}
        self._failures: list[str] = []
        #: The scenario as a peer got it.
        self._given: dict[tuple[str, str], Scenario] = {}
        self._when = dt.datetime.now(dt.UTC)

    def add(self, given: Scenario, peer: str, figures: Figures) -> None:
        """Take the figures of one round."""
        self._rounds[given.key, peer].append(figures)
        self._given[given.key, peer] = given

    def skip(self, given: Scenario, peer: str, reason: str) -> None:
        """Take note of why there are none."""
        self._skipped[given.key, peer] = reason

    def fail(self, given: Scenario, peer: str, reason: str) -> None:
        """Take note of what a server has failed in."""
        self._skipped[given.key, peer] = f"failed: {reason}"
        if peer == SINAPSE:
            self._failures.append(f"({given.key}) {reason}")

    def figure(self, scenario: str, peer: str, name: str) -> float | None:
        """Return the median of a figure over the rounds; nothing if there is none."""
        values = [each[name] for each in self._rounds.get((scenario, peer), []) if name in each]
        return median(values) if values else None

    def ratio(self, scenario: str, peer: str, name: str) -> float | None:
        """Return how many times the figure of a peer that of Sinapse is."""
        own, other = (self.figure(scenario, each, name) for each in (SINAPSE, peer))
        return None if own is None or not other else own / other

    def faults(self) -> list[str]:
        """Return what Sinapse has failed in, in any round."""
        return self._failures + [
            f"({scenario.key}) round {number}: {short(figures[name])} {what}"
            for scenario in self._scenarios
            for number, figures in enumerate(self._rounds.get((scenario.key, SINAPSE), []), 1)
            for name, what in FAULTS.items()
            if figures.get(name)
        ]

    def write(self) -> None:
        """Write everything that there is by now."""
        self._output.mkdir(parents=True, exist_ok=True)
        for name, text in (
            ("results.txt", self.table()),
            ("results.json", self.json()),
            ("results.svg", self.svg()),
        ):
            (self._output / name).write_text(text)

    # As a table

    def _heading(self) -> list[str]:
        rounds = max(map(len, self._rounds.values()), default=0)
        extent = "a quarter of the streams, half the messages; " if self._quick else ""
        medians = f"medians of {rounds} interleaved rounds" if rounds > 1 else "one round"
        return [description(), f"{self._when:%Y-%m-%d}; {extent}{medians}"]

    def table(self) -> str:
        """Return everything for people to read."""
        lines = [*self._heading(), ""]
        for scenario in self._scenarios:
            lines += [f"({scenario.key}) {scenario.title}", *self._rows(scenario), ""]
        lines += ["Goals", *self._goal_rows(), ""]
        lines += self._ceiling()
        return "\n".join(lines)

    def _rows(self, scenario: Scenario) -> list[str]:
        columns = COLUMNS[scenario.main]
        header = ["", columns.title, RATIO]
        for name in columns.names:
            header += [LABELS[name], *([RATIO] if name == columns.second else [])]
        rows = [[*header, "rounds"]]
        notes = []
        for peer in self._peers:
            rounds = self._rounds.get((scenario.key, peer))
            if not rounds:
                if (reason := self._skipped.get((scenario.key, peer))) is not None:
                    rows.append([peer, reason])
                continue
            less = self._less(scenario, peer)
            notes += [f"* with {less}"] if less else []
            row = [f"{peer} *" if less else peer, self._cell(scenario.key, peer, scenario.main)]
            row.append(self._ratio_cell(scenario.key, peer, scenario.main))
            for name in columns.names:
                row.append(self._cell(scenario.key, peer, name))
                if name == columns.second:
                    row.append(self._ratio_cell(scenario.key, peer, name))
            rows.append([*row, str(len(rounds))])
        return aligned(rows) + sorted(set(notes))

    def _less(self, scenario: Scenario, peer: str) -> str:
        given = self._given[scenario.key, peer]
        return ", ".join(
            f"{getattr(given, name):,} {name}"
            for name in ("streams", "messages")
            if getattr(given, name) != getattr(scenario, name)
        )

    def _cell(self, scenario: str, peer: str, name: str) -> str:
        value = self.figure(scenario, peer, name)
        return "" if value is None else short(value)

    def _ratio_cell(self, scenario: str, peer: str, name: str) -> str:
        value = None if peer == SINAPSE else self.ratio(scenario, peer, name)
        return "" if value is None else f"{value:.2g}" if value < 0.1 else f"{value:.2f}"

    def _goals(self) -> Iterator[dict[str, Any]]:
        for goal in GOALS:
            reached = goal.reached(self)
            yield {
                "goal": goal.text(),
                "limit": goal.limit,
                "reached": reached,
                "met": None if reached is None else goal.is_met(reached),
            }

    def _goal_rows(self) -> list[str]:
        rows = [["", "reached", ""]]
        for each in self._goals():
            reached = "" if each["reached"] is None else short(each["reached"])
            verdict = {True: "met", False: "MISSED", None: "not measured"}[each["met"]]
            rows.append([each["goal"], reached, verdict])
        return aligned(rows)

    def _ceiling(self) -> list[str]:
        """Tell how much the load client can take, from where it had least to wait for."""
        ways = [
            ("a", FLOOR, "one by one"),
            ("b", BATCHING.name, "in batches"),
        ]
        found = [
            f"{short(value)} deliveries/s {how}, from ({key}) {peer}"
            for key, peer, how in ways
            if (value := self.figure(key, peer, "load_ceiling_s")) is not None
        ]
        return [f"The load client can take {' and '.join(found)}.", ""] if found else []

    # For programs

    def json(self) -> str:
        """Return everything for programs to read, each round included."""
        return json.dumps(
            {
                "machine": description(),
                "when": self._when.isoformat(timespec="seconds"),
                "quick": self._quick,
                "goals": list(self._goals()),
                "faults": self.faults(),
                "scenarios": {each.key: self._scenario(each) for each in self._scenarios},
            },
            indent=2,
        )

    def _scenario(self, scenario: Scenario) -> dict[str, Any]:
        columns = COLUMNS[scenario.main]
        peers = {}
        for peer in self._peers:
            rounds = self._rounds.get((scenario.key, peer))
            if rounds:
                given = self._given[scenario.key, peer]
                names = (scenario.main, columns.second)
                peers[peer] = {
                    "streams": given.streams,
                    "messages": given.messages,
                    "ratios": {name: self.ratio(scenario.key, peer, name) for name in names},
                    "median": {name: self.figure(scenario.key, peer, name) for name in rounds[0]},
                    "rounds": rounds,
                }
        return {
            "title": scenario.title,
            "figure": scenario.main,
            "peers": peers,
            "skipped": {
                peer: reason
                for (key, peer), reason in self._skipped.items()
                if key == scenario.key and peer not in peers
            },
        }

    # As a picture

    def svg(self) -> str:
        """Return a plot of the main figures."""
        charts = []
        for scenario in self._scenarios:
            bars = [
                self._bar(scenario, peer)
                for peer in self._peers
                if self._rounds.get((scenario.key, peer))
            ]
            if len(bars) > 1:
                name, _, detail = scenario.title.partition(": ")
                unit = COLUMNS[scenario.main].title
                charts.append(plot.Chart(f"{name} ({scenario.key})", detail, unit, bars))
        notes = [f"Shorter is better; in brackets: {RATIO}."]
        if any(name.endswith("*") for chart in charts for name, *_ in chart.bars):
            notes.append("* with less to do, since it takes long: see the table.")
        return plot.draw(charts, [*self._heading(), *notes])

    def _bar(self, scenario: Scenario, peer: str) -> plot.Bar:
        kind = "own" if peer == SINAPSE else "floor" if peer in FLOORS else "peer"
        name = f"{peer} *" if self._less(scenario, peer) else peer
        ratio = None if peer == SINAPSE else self.ratio(scenario.key, peer, scenario.main)
        return plot.Bar(name, kind, self.figure(scenario.key, peer, scenario.main) or 0, ratio)
