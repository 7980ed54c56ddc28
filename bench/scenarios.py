"""What is measured: the scenarios, and how one is run with one peer."""

import random
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from certificate import write_certificate
from load import Load
from machine import Cores, cpu, memory
from peers.server import Missing, Peer, Running, Workload

Figures = dict[str, float]

#: Seconds without a delivery after which what is missing counts as lost, and for one phase.
PATIENCE = 4
MOST = 25

#: Connects on their way at any time: where nothing is to be proved by them, and in a storm, where
#: they are as many as the kernel's queue takes; what does not fit there comes a second later.
WINDOW = 200
STORM = 4000


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
    missed: int = 0

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
        certificate = write_certificate(folder) if self.tls else None
        return Workload(lists, self.channels, self.keep_alive, certificate, self.missed)


class _Meter:
    """What the server, and its Redis, use from the making of this on."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._server = cpu(running.pid)
        self._redis = None if running.redis_pid is None else cpu(running.redis_pid)
        self._begun = time.monotonic()

    def read(self) -> Figures:
        """Return seconds of processor time."""
        server = cpu(self._running.pid).since(self._server)
        figures = {
            "server_user_s": server.user,
            "server_system_s": server.system,
            "server_s": server.total,
            "elapsed_s": time.monotonic() - self._begun,
        }
        if self._running.redis_pid is not None and self._redis is not None:
            figures["redis_s"] = cpu(self._running.redis_pid).since(self._redis).total
        return figures


def _load(scenario: Scenario, running: Running, **options: object) -> Load:
    settings = {"window": WINDOW, "patience": PATIENCE, "most": MOST, **options}
    return Load(
        running.port,
        running.streams,
        running.publishing,
        tls=int(scenario.tls),
        **settings,
    )


def _opened(scenario: Scenario, load: Load) -> dict[str, Any]:
    """Open the streams; raises `Missing` if not all can be opened."""
    answer = load.ask("open")
    if answer["opened"] != scenario.streams:
        raise Missing(
            f"{answer['opened']} of {scenario.streams} streams opened, {answer['refused']} refused"
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
        _opened(scenario, load)
        meter = _Meter(running)
        answer = load.ask(f"publish {scenario.messages} {scenario.rate}")
        return _deliveries(answer, meter.read())


def measure_churn(scenario: Scenario, running: Running, _: int) -> Figures:
    """Publish while lists change, and see how long deliveries take."""
    seconds = scenario.messages / scenario.rate
    with (
        _load(scenario, running) as load,
        Load(running.port, [], running.churn, patience=PATIENCE) as churn,
    ):
        _opened(scenario, load)
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
        answer = _opened(scenario, load)
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
            "ended_streams": idle["gone"],
        }


def measure_connects(scenario: Scenario, running: Running, _: int) -> Figures:
    """Open all streams at once, and see what a connect costs."""
    options: dict[str, object] = {"window": STORM}
    if scenario.missed:
        with Load(running.port, [], running.publishing) as load:
            load.ask(f"publish {scenario.missed} 0")
        if running.set_last_event_ids is None:
            raise Missing("cannot resume")
        running.streams = running.set_last_event_ids()
        options["each"] = scenario.missed
    with _load(scenario, running, **options) as load:
        meter = _Meter(running)
        answer = _opened(scenario, load)
        used = meter.read()
        return {
            "connect_us": used["server_s"] / scenario.streams * 1e6,
            "connect_user_us": used["server_user_s"] / scenario.streams * 1e6,
            "connect_system_us": used["server_system_s"] / scenario.streams * 1e6,
            "redis_us": used.get("redis_s", 0) / scenario.streams * 1e6,
            "seconds": answer["seconds"],
            "connects_s": scenario.streams / answer["seconds"],
            "load_core": answer["load_cpu"] / answer["seconds"],
            "missing": scenario.streams * scenario.missed - answer["received"],
            "disorder": answer["disorder"],
            **_latencies(answer),
        }


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
    ),
    Scenario(
        "c",
        "own channels: 2,000 streams, a channel each, 2,000 messages/s",
        2000,
        "cpu_us",
        measure_deliveries,
        channels=2000,
        messages=8000,
        rate=2000,
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
        keep_alive=5,
    ),
    Scenario("f", "connect storm: 10,000 at once", 10000, "connect_us", measure_connects),
    Scenario(
        "h",
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
    ),
)


def run(scenario: Scenario, peer: Peer, cores: Cores) -> Figures:
    """Run a scenario with a peer once; raises `Missing` if the peer cannot."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)  # nginx' worker is another user.
        with peer.run(scenario.workload(folder), folder, cores.server) as running:
            time.sleep(0.2)  # What starts has other things to do at first.
            return scenario.measure(scenario, running, memory(running.pid))
