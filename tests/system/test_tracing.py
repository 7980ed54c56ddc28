"""Traces: from the application over Redis to the last write of each node, and nothing besides."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgpack
import pytest
import redis

from sinapse.daemon.traces import MAX_RATE
from sinapse.protocol.message import Message, pack, unpack
from sinapse.protocol.trace import Trace
from sinapse.publisher import Publisher
from tests.support import EVENT_TIMEOUT, PYTHON, RedisServer, end, eventually, free_port
from tests.support.collector import Collector, Span, running_collector
from tests.support.daemon import ROOT, Daemon, refusal, running_daemon
from tests.support.listening import Listener
from tests.support.modules import loaded_by
from tests.support.subscribing import subscribe
from tests.support.workers import Workers, alive

KEY = "a-key-of-the-tests-0123456789-0123456789"

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with running_collector() as collector:
        yield collector


@pytest.fixture(scope="module")
def _tracing(
    redis_process: RedisServer, collector: Collector, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Daemon, int]]:
    folder = tmp_path_factory.mktemp("tracing")
    (folder / "keys").write_text(f"{KEY}\n")
    port = free_port()
    options = ("--api", f"tcp:{port}:interface=127.0.0.1", "--api-keys", str(folder / "keys"))
    with running_daemon(
        folder, redis_process.url, *options, environment=collector.environment
    ) as daemon:
        yield daemon, port
        assert "Traceback" not in daemon.log
        assert KEY not in daemon.log


@pytest.fixture
def node(_tracing: tuple[Daemon, int], publisher: Publisher) -> Daemon:
    return _tracing[0]


@pytest.fixture
def api(_tracing: tuple[Daemon, int]) -> str:
    return f"http+sinapse://{KEY}@127.0.0.1:{_tracing[1]}/"


def journey(collector: Collector, channel: str) -> tuple[Span, Span]:
    """Return the spans of the one message that was published to a channel, and delivered."""
    kind = channel.partition(":")[0]
    spans = [*collector.wait_for(f"deliver {kind}:{{id}}"), *collector.spans]
    own = {
        span.id: span
        for span in spans
        if span.attributes.get("messaging.destination.name") == channel
    }
    published, delivered = sorted(own.values(), key=lambda span: span.start)
    return published, delivered


PUBLISH = """
from sinapse.publisher import Publisher
with Publisher(sys.argv[1]) as publisher, span("request"):
    publisher.publish(sys.argv[2], "hello", retain=float(sys.argv[3]))
"""

AIO = """
import asyncio
from sinapse.publisher.aio import Publisher

async def main():
    async with Publisher(sys.argv[1]) as publisher:
        with span("request"):
            await publisher.publish(sys.argv[2], "hello", retain=float(sys.argv[3]))

asyncio.run(main())
"""

FLASK = """
from flask import Flask
from sinapse.publisher.flask import Sinapse
app = Flask("application")
app.config["SINAPSE_REDIS_URL"] = sys.argv[1]
sinapse = Sinapse(app)

@app.route("/")
def index():
    with span("request"):
        sinapse.publish(sys.argv[2], "hello", retain=float(sys.argv[3]))
    return "done"

assert app.test_client().get("/").text == "done"
"""


PROGRAMS = {"plain": PUBLISH, "asyncio": AIO, "flask": FLASK}


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("retain", ["0", "60"])
def test_one_trace_has_the_caller_the_publisher_and_the_node(
    node: Daemon, collector: Collector, publisher: Publisher, program: str, retain: str
) -> None:
    kind = f"{program}-{retain}"
    channel = f"{kind}:1"
    tokens = [subscribe(publisher, channel, subject=each) for each in "12"]
    with node.stream(tokens[0]).opened() as one, node.stream(tokens[1]).opened() as other:
        collector.run(PROGRAMS[program], str(publisher.url), channel, retain)
        messages = [stream.next() for stream in (one, other)]
    assert [message.data for message in messages] == ["hello", "hello"]
    published, delivered = journey(collector, channel)
    [request] = [span for span in collector.spans if span.id == published.parent]
    assert request.name == "request"
    assert request.trace == published.trace == delivered.trace
    assert delivered.parent == published.id
    assert (published.service, delivered.service) == ("application", "sinapse")
    assert (published.kind, delivered.kind) == ("PRODUCER", "CONSUMER")
    assert request.start <= published.start <= delivered.end
    assert delivered.start <= delivered.end
    common = {
        "messaging.system": "sinapse",
        "messaging.destination.name": channel,
        "messaging.destination.template": f"{kind}:{{id}}",
    }
    if retain != "0":
        common["messaging.message.id"] = messages[0].id or ""
    assert published.attributes == {
        **common,
        "messaging.operation.name": "publish",
        "messaging.operation.type": "send",
    }
    assert delivered.attributes == {
        **common,
        "messaging.operation.name": "deliver",
        "messaging.operation.type": "process",
        "sinapse.streams": 2,
    }


def test_what_goes_together_is_one_span_and_has_one_a_message_in_the_node(
    node: Daemon, collector: Collector, publisher: Publisher
) -> None:
    token = subscribe(publisher, "several:1", "several:2")
    with node.stream(token).opened() as stream:
        collector.run(
            """
from sinapse.publisher import Publisher
with Publisher(sys.argv[1]) as publisher, span("several"):
    publisher.publish_many([(f"several:{number % 2 + 1}", str(number)) for number in range(5)])
""",
            str(publisher.url),
        )
        assert [stream.next().data for _ in range(5)] == ["0", "1", "2", "3", "4"]
    delivered = collector.wait_for("deliver several:{id}", 5)
    [published] = [span for span in collector.spans if span.id == delivered[0].parent]
    assert published.name == "publish"
    assert published.attributes["messaging.batch.message_count"] == 5
    assert "messaging.destination.name" not in published.attributes
    assert {span.parent for span in delivered} == {published.id}
    assert len({span.attributes["messaging.message.id"] for span in delivered}) == 5


def test_what_fails_says_so_in_its_span(collector: Collector) -> None:
    collector.run(
        """
from sinapse.errors import BrokerUnavailable
from sinapse.publisher import Publisher
with Publisher(f"redis://127.0.0.1:{sys.argv[1]}") as publisher, span("request"):
    try:
        publisher.publish("failing:1", "hello")
    except BrokerUnavailable:
        pass
""",
        str(free_port()),
    )
    [span] = collector.wait_for("publish failing:{id}")
    assert span.is_error
    assert span.attributes["error.type"] == "BrokerUnavailable"


UNSAMPLED = """
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span
from sinapse.publisher import Publisher

with Publisher(sys.argv[1]) as publisher:
    publisher.publish("unsampled:1", "alone", "event", retain=0)
    for flags in (0, 1):
        context = SpanContext(0x4BF92F3577B34DA6A3CE929D0E0E4736, 1, True, TraceFlags(flags))
        with use_span(NonRecordingSpan(context)):
            publisher.publish("unsampled:1", "hello", "event", retain=0)
            publisher.publish("unsampled:1", "hello", "event", retain=60)
"""


def test_what_is_not_sampled_is_sent_as_without_a_trace(
    node: Daemon, collector: Collector, publisher: Publisher, listener: Listener
) -> None:
    with node.stream(subscribe(publisher, "unsampled:1")).opened() as stream:
        collector.run(UNSAMPLED, str(publisher.url))
        for _ in range(5):
            stream.next()
    payloads = [payload for channel, payload in listener.heard() if channel == "unsampled:1"]
    assert payloads[:2] == [pack(Message(data, "event")) for data in ("alone", "hello")]
    assert [unpack(payload).trace is None for payload in payloads] == [True] * 3 + [False] * 2
    # The last two are in a trace that is sampled: nothing of the others comes before them.
    collector.wait_for("deliver unsampled:{id}", 2)
    own = [span for span in collector.spans if "unsampled" in span.name]
    assert [span.name.partition(" ")[0] for span in own].count("publish") == 2
    assert len(own) == 4
    assert {span.trace for span in own} == {TRACE}


def test_a_trace_goes_on_over_the_api(
    node: Daemon, collector: Collector, publisher: Publisher, api: str
) -> None:
    with node.stream(subscribe(publisher, "api:1")).opened() as stream:
        collector.run(PUBLISH, api, "api:1", "60")
        assert stream.next().data == "hello"
    [delivered] = collector.wait_for("deliver api:{id}")
    spans = {span.id: span for span in collector.spans}
    chain = [delivered]
    while chain[-1].parent:
        chain.append(spans[chain[-1].parent])
    assert [(span.name, span.service) for span in chain] == [
        ("deliver api:{id}", "sinapse"),
        ("publish api:{id}", "sinapse"),
        ("publish api:{id}", "application"),
        ("request", "application"),
    ]


def test_what_names_no_trace_is_published_over_the_api_all_the_same(node: Daemon, api: str) -> None:
    fields = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    states = ("", "\xff", "=", "a=1," * 100, "a=\xe9", "a=1,a=1", "x" * 5000, ",\t,")
    wrong = [{"traceparent": each} for each in ("", "nonsense", "\xff", f"00-{'x' * 5000}")]
    for trace in [*wrong, *({"traceparent": PARENT, "tracestate": each} for each in states)]:
        connection = http.client.HTTPConnection(
            urlsplit(api).netloc.partition("@")[2], timeout=EVENT_TIMEOUT
        )
        with contextlib.closing(connection):
            message = json.dumps({"channel": "field:1", "message": "hello"})
            connection.request("POST", "/v1/publish", message, fields | trace)
            answer = connection.getresponse()
            assert (answer.status, trace) == (200, trace), answer.read()


@pytest.mark.parametrize("has_otel", [True, False], ids=["with spans of its own", "without"])
def test_a_relay_goes_on_in_the_trace_of_the_transaction(
    node: Daemon,
    collector: Collector,
    publisher: Publisher,
    tmp_path: Path,
    has_otel: bool,
) -> None:
    kind = "relayed" if has_otel else "passed"
    database = f"sqlite:///{tmp_path}/data"
    collector.run(
        """
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Session
from sinapse.publisher import Publisher, use
from sinapse.publisher.sqlalchemy import outbox, publish

class Base(DeclarativeBase):
    pass

outbox(Base.metadata)
engine = create_engine(sys.argv[1])
Base.metadata.create_all(engine)
use(Publisher(f"redis://127.0.0.1:{sys.argv[2]}"))  # It is away.
with span(f"transaction {sys.argv[3]}"), Session(engine) as session, session.begin():
    publish(session, f"{sys.argv[3]}:1", "hello")
with Session(engine) as session, session.begin():
    publish(session, f"{sys.argv[3]}:1", "of no trace")
""",
        *(database, str(free_port()), kind),
    )
    relay = subprocess.Popen(
        [PYTHON, "-m", "sinapse", "relay", "--database", database],
        cwd=ROOT,
        env={
            **os.environ,
            "REDIS_URL": str(publisher.url),
            **(collector.environment if has_otel else {}),
        },
        stdin=subprocess.DEVNULL,
    )
    try:
        with node.stream(subscribe(publisher, f"{kind}:1")).opened() as stream:
            stream.wait_for_message("of no trace")
    finally:
        end(relay)
    [delivered] = collector.wait_for(f"deliver {kind}:{{id}}")
    [transaction] = collector.wait_for(f"transaction {kind}")
    assert delivered.trace == transaction.trace
    if has_otel:
        by_relay = {span.id: span for span in collector.wait_for(f"publish {kind}:{{id}}", 2)}
        published = by_relay[delivered.parent]
        assert (published.service, published.parent) == ("sinapse", transaction.id)


MALFORMED: list[Any] = [
    *("", "no", PARENT.upper(), PARENT[:-1], f"{PARENT}-", f"{PARENT}\n", f"ff{PARENT[2:]}"),
    *(f"00-{'0' * 32}-00f067aa0ba902b7-01", f"00-{TRACE}-{'0' * 16}-01", 1, None, [], b"\xff"),
]


def test_a_payload_with_a_malformed_trace_is_a_message_without_one(
    node: Daemon, collector: Collector, publisher: Publisher, redis_client: redis.Redis
) -> None:
    with node.stream(subscribe(publisher, "malformed:1")).opened() as stream:
        for parent in MALFORMED:
            for state in (None, 1, "a=1"):
                extras = {"traceparent": parent, "tracestate": state}
                payload = msgpack.packb([None, "hello", None, extras], use_bin_type=True)
                if parent != b"\xff":
                    redis_client.publish("malformed:1", payload)
                    assert stream.next().data == "hello"
        for good in ({"traceparent": PARENT, "tracestate": "no state"}, {"traceparent": PARENT}):
            redis_client.publish("malformed:1", msgpack.packb([None, "end", None, good]))
            assert stream.next().data == "end"
    delivered = collector.wait_for("deliver malformed:{id}", 2)
    assert len(delivered) == 2
    assert {(span.trace, span.parent) for span in delivered} == {(TRACE, "00f067aa0ba902b7")}


def test_each_worker_with_a_stream_has_a_span(
    redis_server: RedisServer, collector: Collector, publisher: Publisher, tmp_path: Path
) -> None:
    with running_daemon(
        tmp_path,
        redis_server.url,
        *("--workers", "2"),
        environment={**collector.environment, "OTEL_SERVICE_NAME": "push"},
        ready=False,
    ) as daemon:
        workers = Workers(daemon, 2)
        workers.all_serve()
        with workers.one_of_each(subscribe(publisher, "worked:1")) as streams:
            collector.run(PUBLISH, str(publisher.url), "worked:1", "60")
            for stream in streams.values():
                stream.wait_for_message("hello")
        delivered = collector.wait_for("deliver worked:{id}", 2)
        assert [span.service for span in delivered] == ["push", "push"]
        assert len({span.parent for span in delivered}) == 1
        daemon.stop()
        assert "Traceback" not in daemon.log


def test_a_daemon_in_the_background_has_spans_and_sends_the_last_of_them_at_its_end(
    redis_server: RedisServer, collector: Collector, publisher: Publisher, tmp_path: Path
) -> None:
    daemon = Daemon(tmp_path, redis_server.url, environment=collector.environment)
    # Nothing is sent before the end.
    daemon.environment["OTEL_BSP_SCHEDULE_DELAY"] = "3600000"
    place = daemon.command.index("--nodaemon")
    daemon.command[place : place + 2] = ["--pidfile=daemon.pid", "--logfile=background.log"]
    assert daemon.launch().wait(EVENT_TIMEOUT) == 0
    pid = eventually((tmp_path / "daemon.pid").read_text, "the daemon is there")
    try:
        eventually(daemon.is_ready)
        with daemon.stream(subscribe(publisher, "background:1")).opened() as stream:
            collector.run(PUBLISH, str(publisher.url), "background:1", "60")
            assert stream.next().data == "hello"
        assert "deliver background:{id}" not in {span.name for span in collector.spans}
    finally:
        os.kill(int(pid), signal.SIGTERM)
    collector.wait_for("deliver background:{id}")
    eventually(lambda: not alive(int(pid)))


def test_a_collector_that_is_away_takes_no_stream_down_and_keeps_no_daemon(
    redis_server: RedisServer, collector: Collector, publisher: Publisher, tmp_path: Path
) -> None:
    with socket.socket() as deaf:  # It takes connections, and answers nothing.
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        endpoint = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_BSP_SCHEDULE_DELAY": "50"}
        with running_daemon(tmp_path, redis_server.url, environment=environment) as daemon:
            with daemon.stream(subscribe(publisher, "away:1")).opened() as stream:
                for _ in range(3):
                    collector.run(PUBLISH, str(publisher.url), "away:1", "60")
                    assert stream.next().data == "hello"
            daemon.stop()
            assert "Traceback" not in daemon.log


def test_of_a_flood_of_traced_messages_all_arrive_and_some_have_spans(
    redis_server: RedisServer, collector: Collector, publisher: Publisher, tmp_path: Path
) -> None:
    payload = pack(Message("x", trace=Trace(PARENT)))
    with (
        running_daemon(tmp_path, redis_server.url, environment=collector.environment) as daemon,
        daemon.stream(subscribe(publisher, "flood:1")).opened() as stream,
        redis_server.client() as client,
    ):
        pipeline = client.pipeline(transaction=False)
        for _ in range(6 * MAX_RATE):
            pipeline.publish("flood:1", payload)
        pipeline.execute()
        assert {stream.next().data for _ in range(6 * MAX_RATE)} == {"x"}
        assert "a span was left out" in daemon.log
    assert len(collector.wait_for("deliver flood:{id}", MAX_RATE)) < 6 * MAX_RATE


def test_what_the_exporter_says_is_a_line_of_the_log(
    redis_server: RedisServer, collector: Collector, publisher: Publisher, tmp_path: Path
) -> None:
    endpoint = f"http://127.0.0.1:{free_port()}"
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_BSP_SCHEDULE_DELAY": "50"}
    with running_daemon(tmp_path, redis_server.url, environment=environment) as daemon:
        with daemon.stream(subscribe(publisher, "refused:1")).opened() as stream:
            collector.run(PUBLISH, str(publisher.url), "refused:1", "60")
            assert stream.next().data == "hello"
        eventually(lambda: "traces: " in daemon.log, "the daemon says it")
        assert "Traceback" not in daemon.log


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
    ],
)
def test_what_the_extra_cannot_do_stops_the_start(tmp_path: Path, name: str, value: str) -> None:
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", name: value}
    said = refusal(tmp_path, environment=environment)
    assert name in said
    assert repr(value) in said


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_SERVICE_NAME": "push"},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
        {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
    ],
    ids=["nothing", "a name alone", "none", "disabled"],
)
def test_a_daemon_without_traces_loads_nothing_for_them(
    redis_server: RedisServer, publisher: Publisher, tmp_path: Path, environment: dict[str, str]
) -> None:
    daemon = Daemon(tmp_path, redis_server.url, environment=environment)
    # What it has loaded by its end.
    daemon.command.insert(1, "-v")
    try:
        daemon.start()
        with daemon.stream(subscribe(publisher, "off:1")).opened() as stream:
            message = Message("hello", trace=Trace(PARENT))
            with redis_server.client() as client:
                client.publish("off:1", pack(message))
            assert stream.next().data == "hello"
    finally:
        assert daemon.process is not None
        end(daemon.process)
    assert "import 'sinapse.daemon.traces'" in daemon.log
    assert "import 'opentelemetry" not in daemon.log


@pytest.mark.parametrize("kind", ["", ".aio"])
def test_a_publisher_loads_nothing_for_traces(publisher: Publisher, kind: str) -> None:
    publish = f"Publisher({str(publisher.url)!r}).publish('off:1', 'hello')"
    program = f"import asyncio; asyncio.run({publish})" if kind else publish
    loaded = loaded_by(f"from sinapse.publisher{kind} import Publisher\n{program}")
    by_redis = loaded_by("import redis.asyncio")  # It has spans of its own.
    assert "sinapse.tracing.caller" in loaded
    assert not any(name.startswith("opentelemetry") for name in loaded - by_redis)
