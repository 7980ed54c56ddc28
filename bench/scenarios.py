"""What is measured: the scenarios, and how one is run with one peer."""

import random
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from certificate import write_certificate
from load import Load
from machine import Cores, cpu, memory
from peers.server import Failed, Missing, Peer, Running, Workload

Figures = dict[str, float]

#: Seconds without a delivery after which what is missing counts as lost, and for one phase.
STALL_TIMEOUT = 4
PHASE_TIMEOUT = 60

#: Connects on their way at any time, where nothing is to be proved by them.
WINDOW = 200

#: Streams that are open before a storm, and the messages a second that they get in it.
BYSTANDERS = 50
BYSTANDERS_RATE = 20


@dataclass(frozen=True)
class Scenario:
    """One scenario; `main` is the figure that peers are compared by, the smaller the better."""

    key: str
    title: str
    streams: int
    main: str
    measure: Callable[["Scenario", Running, int], Figures]
    channels: int = 1
    #: Of each stream.
    subscriptions: int = 1
    messages: int = 0
    #: Messages a second; 0 for flat out.
    rate: float = 0
    keep_alive: float = 60
    tls: bool = False
    #: Over TLS all but the first come back with its session.
    resume: bool = False
    websocket: bool = False
    missed: int = 0
    #: Streams more, the last ones, with a channel of their own, the last one.
    bystanders: int = 0
    #: What slow peers do less of. What is compared is a cost a delivery, a stream or a connect.
    slow: Mapping[str, int] = field(default_factory=dict)

    def for_peer(self, peer: Peer) -> "Scenario":
        """Return the scenario as a peer gets it."""
        if not peer.slow:
            return self
        less = {name: min(value, getattr(self, name)) for name, value in self.slow.items()}
        return replace(self, **less)  # type: ignore[arg-type]  # The fields are all numbers.

    def quick(self) -> "Scenario":
        """Return the scenario with less of everything."""
        streams = self.streams // 4
        return replace(
            self,
            streams=streams,
            messages=self.messages // 2,
            channels=min(self.channels, streams),
            slow={name: value // 4 for name, value in self.slow.items()},
        )

    def workload(self, folder: Path) -> Workload:
        """Return what the server has to be prepared for; it is the same at every run."""
        dice = random.Random(1)  # noqa: S311
        if self.subscriptions > 1:
            numbers = range(self.channels)
            lists: list[Sequence[int]] = [
                sorted(dice.sample(numbers, self.subscriptions)) for _ in range(self.streams)
            ]
        else:
            lists = [(number % self.channels,) for number in range(self.streams)]
        lists += [(self.channels,)] * self.bystanders
        return Workload(
            lists,
            self.channels + bool(self.bystanders),
            self.keep_alive,
            write_certificate(folder) if self.tls else None,
            self.missed,
            self.websocket,
        )


class _Meter:
    """What the server, and its Redis, use from the making of this on."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._server = cpu(running.pid)
        self._redis = None if running.redis_pid is None else cpu(running.redis_pid)
        self._begun = time.monotonic()

    def read(self) -> Figures:
        """Return seconds of processor time."""
        elapsed = time.monotonic() - self._begun
        server = cpu(self._running.pid).since(self._server)
        figures = {
            "server_user_s": server.user,
            "server_system_s": server.system,
            "server_s": server.total,
            "elapsed_s": elapsed,
        }
        if self._running.redis_pid is not None and self._redis is not None:
            figures["redis_s"] = cpu(self._running.redis_pid).since(self._redis).total
        return figures


def _load(scenario: Scenario, running: Running, **options: object) -> Load:
    settings = {"window": WINDOW, "patience": STALL_TIMEOUT, "most": PHASE_TIMEOUT, **options}
    return Load(
        running.port,
        running.streams,
        running.publishing,
        tls=int(scenario.tls),
        resume=int(scenario.resume),
        websocket=int(scenario.websocket),
        **settings,
    )


def _opened(streams: int, load: Load) -> dict[str, Any]:
    """Open the streams; raises `Failed` if not all can be opened."""
    answer = load.ask("open")
    if answer["opened"] != streams:
        raise Failed(
            f"{answer['opened']} of {streams} streams opened, {answer['refused']} refused"
            f" ({answer['refusal']!r}), {answer['stuck']} stuck"
        )
    return answer


def _latencies(answer: dict[str, Any]) -> Figures:
    return {f"{name}_ms": value / 1000 for name, value in answer["latency_us"].items()}


def _deliveries(answer: dict[str, Any], used: Figures) -> Figures:
    """Return what is known of the deliveries of a phase."""
    received = max(1, answer["received"])
    return {
        "cpu_us": used["server_s"] / received * 1e6,
        "cpu_user_us": used["server_user_s"] / received * 1e6,
        "cpu_system_us": used["server_system_s"] / received * 1e6,
        "redis_us_message": used.get("redis_s", 0) / max(1, answer["published"]) * 1e6,
        "core": used["server_s"] / used["elapsed_s"],
        "load_core": answer["load_cpu"] / used["elapsed_s"],
        # As many a second as would keep the load client's core busy.
        "load_ceiling_s": received / max(1e-6, answer["load_cpu"]),
        "deliveries_s": answer["received"] / max(1e-6, answer["seconds"]),
        "received": answer["received"],
        "missing": answer["expected"] - answer["received"],
        "disorder": answer["disorder"],
        "incomplete_streams": answer["incomplete"],
        "ended_streams": answer["gone"],
        "publish_errors": answer["publish_errors"],
        "bytes_delivery": answer["bytes"] / received,
        **_latencies(answer),
    }


def measure_deliveries(scenario: Scenario, running: Running, _: int) -> Figures:
    """Publish, and see what a delivery costs."""
    with _load(scenario, running) as load:
        _opened(scenario.streams, load)
        meter = _Meter(running)
        answer = load.ask(f"publish {scenario.messages} {scenario.rate}")
        return _deliveries(answer, meter.read())


def measure_churn(scenario: Scenario, running: Running, _: int) -> Figures:
    """Publish while lists change, and see how long deliveries take."""
    seconds = scenario.messages / scenario.rate
    with (
        _load(scenario, running) as load,
        Load(running.port, [], running.churn, patience=STALL_TIMEOUT) as churn,
    ):
        _opened(scenario.streams, load)
        meter = _Meter(running)
        churn.send(f"publish {round(1000 * seconds)} 1000")
        answer = load.ask(f"publish {scenario.messages} {scenario.rate}")
        changes = churn.answer()
        figures = _deliveries(answer, meter.read())
        return {**figures, "changes_s": changes["published"] / changes["publish_seconds"]}


def measure_idle(scenario: Scenario, running: Running, empty: int) -> Figures:
    """See what a stream costs that is just open: memory, and keep-alives."""
    with _load(scenario, running) as load:
        meter = _Meter(running)
        answer = _opened(scenario.streams, load)
        opening = meter.read()
        full = memory(running.pid)
        meter = _Meter(running)
        idle = load.ask(f"idle {scenario.keep_alive}")
        used = meter.read()
        return {
            "memory_kib": (full - empty) / scenario.streams / 1024,
            "memory_empty_mib": empty / 2**20,
            "memory_full_mib": full / 2**20,
            "keep_alive_us": used["server_s"] / scenario.streams * 1e6,
            # One in 15 s is what a stream gets by default.
            "cpu_ms_minute": used["server_s"] / scenario.streams * 1e3 * 4,
            "keep_alive_bytes": idle["bytes"] / scenario.streams,
            "connect_us": opening["server_s"] / scenario.streams * 1e6,
            "connects_s": scenario.streams / answer["seconds"],
            "resumed": answer["resumed"],
            "ended_streams": idle["gone"],
        }


def measure_connects(scenario: Scenario, running: Running, _: int) -> Figures:
    """Open all streams at once, and see what a connect costs, and what others notice of it."""
    missed = scenario.missed
    if missed:
        with Load(running.port, [], running.publishing) as load:
            load.ask(f"publish {missed} 0")
        if running.set_last_event_ids is None:
            raise Missing("cannot resume")
        running.streams = running.set_last_event_ids()
    storm = _part_of(running, slice(scenario.streams))
    quiet = _part_of(running, slice(scenario.streams, None))
    with (
        _load(scenario, storm, window=scenario.streams, each=missed) as load,
        _load(scenario, quiet) as others,
    ):
        if scenario.bystanders:
            _opened(scenario.bystanders, others)
            others.send(f"publish 1000000 {BYSTANDERS_RATE}")
        meter = _Meter(running)
        answer = _opened(scenario.streams, load)
        used = meter.read()
        # What comes twice or too late comes now.
        settled = load.ask("idle 0.1")
        figures = {
            "connect_us": used["server_s"] / scenario.streams * 1e6,
            "connect_user_us": used["server_user_s"] / scenario.streams * 1e6,
            "connect_system_us": used["server_system_s"] / scenario.streams * 1e6,
            "redis_us": used.get("redis_s", 0) / scenario.streams * 1e6,
            "seconds": answer["seconds"],
            "connects_s": scenario.streams / answer["seconds"],
            "refused": answer["refused"],
            "load_core": answer["load_cpu"] / answer["seconds"],
            "missing": scenario.streams * missed - settled["received"],
            "disorder": settled["disorder"],
            "ended_streams": settled["gone"],
            **_latencies(answer),
        }
        if scenario.bystanders:
            others.send("that is enough")
            met = others.answer()
            figures["missing"] += met["expected"] - met["received"]
            figures["disorder"] += met["disorder"]
            figures["others_p50_ms"] = met["latency_us"]["p50"] / 1000
            figures["others_p99_ms"] = met["latency_us"]["p99"] / 1000
        return figures


def _part_of(running: Running, part: slice) -> Running:
    """Return `running` with some of its streams, and what is published to them."""
    streams = running.streams[part]
    heard = sorted({channel for stream in streams for channel in stream.channels})
    number = {channel: index for index, channel in enumerate(heard)}
    publishing = running.publishing._replace(
        templates=[running.publishing.templates[channel] for channel in heard]
    )
    renumbered = [
        each._replace(channels=[number[channel] for channel in each.channels]) for each in streams
    ]
    return replace(running, streams=renumbered, publishing=publishing)


SCENARIOS = (
    Scenario(
        "a",
        "fan-out: 5,000 streams, one channel, 10 messages/s",
        5000,
        "cpu_us",
        measure_deliveries,
        messages=30,
        rate=10,
    ),
    Scenario(
        "b",
        "burst: 2,000 streams, one channel, 500 messages flat out",
        2000,
        "cpu_us",
        measure_deliveries,
        messages=500,
        slow={"messages": 100},
    ),
    Scenario(
        "c",
        "own channels: 2,000 streams, a channel each, 2,000 messages/s",
        2000,
        "cpu_us",
        measure_deliveries,
        channels=2000,
        messages=6000,
        rate=2000,
    ),
    Scenario(
        "c2",
        "own channels: the same, 10,000 messages/s",
        2000,
        "cpu_us",
        measure_deliveries,
        channels=2000,
        messages=30_000,
        rate=10_000,
    ),
    Scenario(
        "c3",
        "own channels: the same, 60,000 messages flat out",
        2000,
        "cpu_us",
        measure_deliveries,
        channels=2000,
        messages=60_000,
        slow={"messages": 15_000},
    ),
    Scenario(
        "d",
        "mixed: 5,000 streams, 20 channels each of 1,000, 500 messages/s",
        5000,
        "cpu_us",
        measure_deliveries,
        channels=1000,
        subscriptions=20,
        messages=1500,
        rate=500,
    ),
    Scenario(
        "e",
        "idle: 15,000 streams",
        15000,
        "memory_kib",
        measure_idle,
        keep_alive=3,
        slow={"streams": 5000},
    ),
    Scenario(
        "f",
        "connect storm: 10,000 at once",
        10000,
        "connect_us",
        measure_connects,
        bystanders=BYSTANDERS,
        slow={"streams": 2500},
    ),
    Scenario(
        "f2",
        "resume storm: 10,000 at once, 10 missed messages each",
        10000,
        "connect_us",
        measure_connects,
        missed=10,
    ),
    Scenario(
        "g",
        "churn: as (a), with 1,000 changes of lists/s",
        5000,
        "cpu_us",
        measure_churn,
        messages=30,
        rate=10,
    ),
    Scenario(
        "i",
        "TLS: as (a)",
        5000,
        "cpu_us",
        measure_deliveries,
        messages=15,
        rate=10,
        tls=True,
        slow={"streams": 1250},
    ),
    Scenario(
        "ie",
        "TLS, idle: 5,000 streams",
        5000,
        "memory_kib",
        measure_idle,
        keep_alive=3,
        tls=True,
        slow={"streams": 1250},
    ),
    Scenario(
        "ir",
        "TLS, resumed: 5,000 streams that come back with a ticket",
        5000,
        "connect_us",
        measure_idle,
        keep_alive=1,
        tls=True,
        resume=True,
    ),
)

#: The first three again, as WebSockets.
SCENARIOS += tuple(
    replace(each, key=f"h{each.key}", title=f"WebSocket, {each.title}", websocket=True)
    for each in SCENARIOS[:3]
)


def run(scenario: Scenario, peer: Peer, cores: Cores) -> Figures:
    """Run a scenario with a peer once; raises `Missing` if the peer cannot."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)  # nginx' worker is another user.
        with peer.run(scenario.workload(folder), folder, cores.server) as running:
            time.sleep(0.2)  # What starts has other things to do at first.
            return scenario.measure(scenario, running, memory(running.pid))
