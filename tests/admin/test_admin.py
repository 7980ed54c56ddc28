"""The administration endpoint: figures of the node, for scrapers and for scripts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from websockets.sync.client import connect

from sinapse.publisher import Publisher
from tests.support import EVENT_TIMEOUT, RedisServer, eventually, running_redis
from tests.support.daemon import Daemon, Stream, running_daemon
from tests.support.subscribing import subscribe


@pytest.fixture
def daemon(tmp_path: Path, redis_server: RedisServer) -> Iterator[Daemon]:
    """Return a daemon whose counters are at zero."""
    with running_daemon(tmp_path, redis_server.url) as daemon:
        yield daemon


def status(daemon: Daemon) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(daemon.admin("/status").text)  # type: ignore[attr-defined]
    return result


def test_what_happens_to_streams_is_counted(
    daemon: Daemon, publisher: Publisher, redis_client: redis.Redis
) -> None:
    publisher.channels.add("1", "room:1")
    publisher.channels.add("1", "room:2")
    token = publisher.tokens.generate("1")
    refused = daemon.stream("nobody")
    assert refused.status == 401
    refused.close()
    with daemon.stream(token).opened() as one, daemon.stream(token).opened() as other:
        for number in range(3):
            publisher.publish("room:1", str(number))
        for stream in (one, other):
            assert [stream.next().data for _ in range(3)] == ["0", "1", "2"]
        redis_client.publish("room:2", b"no message")
        eventually(lambda: daemon.metrics()["sinapse_invalid_payloads_total"] == 1)
        seen = daemon.metrics()
        assert seen["sinapse_streams"] == seen["sinapse_streams event stream"] == 2
        assert seen["sinapse_subjects"] == 1
        assert seen["sinapse_channels"] == 2
        assert seen["sinapse_messages_total"] == 3
        assert seen["sinapse_deliveries_total"] == 6
        # What comes together shares a chunk, and so its head.
        block, head = len("data: 0\nid: \n\n") + len(str(one.position)), len("2a\r\n\r\n")
        assert 6 * block < seen["sinapse_delivered_bytes_total"] <= 6 * (block + head)
        # As many as flushes: at least one, and no more than messages.
        assert 1 <= seen["sinapse_fan_out_seconds_count"] <= 3
        assert seen["sinapse_delivery_seconds_count"] == seen["sinapse_fan_out_seconds_count"]
        assert seen["sinapse_delivery_seconds_sum"] >= seen["sinapse_fan_out_seconds_sum"] > 0
        assert seen["sinapse_streams_opened_total"] == 2
        assert seen["sinapse_requests_refused_total unknown token"] == 1
        with daemon.stream(token, after=one.position).opened() as resumed:
            assert resumed.next().data == "0"
            assert daemon.metrics()["sinapse_replays_total"] == 1
        # Otherwise the daemon may hear of the revocation first.
        eventually(lambda: daemon.metrics()["sinapse_streams"] == 2)
        publisher.tokens.clear("1")
        one.wait_for_end()
        other.wait_for_end()
    eventually(lambda: daemon.metrics()["sinapse_streams"] == 0)
    seen = daemon.metrics()
    assert seen["sinapse_streams_closed_total token revoked"] == 2
    assert seen["sinapse_streams_closed_total client gone"] == 1
    assert seen["sinapse_subjects"] == seen["sinapse_channels"] == 0
    assert seen["process_cpu_seconds_total"] > 0


def test_status_tells_the_same_as_json(daemon: Daemon, publisher: Publisher) -> None:
    publisher.channels.add("1", "room:1")
    with daemon.stream(publisher.tokens.generate("1")).opened():
        told = status(daemon)
    assert (told["redis"], told["ready"]) == ("connected", True)
    assert told["streams"] == told["streams_opened"] == told["channels"] == 1
    assert told["streams_closed"] == {}
    assert told["streams_by_transport"] == {"event stream": 1, "websocket": 0, "long poll": 0}
    assert told["delivery_seconds"]["buckets"]["+Inf"] == told["delivery_seconds"]["sum"] == 0
    assert told["process"]["open_fds"] > 0
    assert told["uptime"] >= 0


def test_figures_as_json_are_those_for_prometheus(daemon: Daemon) -> None:
    told, seen = status(daemon), daemon.metrics()
    names = {name.removeprefix("sinapse_").removesuffix("_total") for name in seen}
    for name, value in told.items():
        if isinstance(value, int) and name not in ("pid", "ready"):
            assert name in names
        elif isinstance(value, dict) and "buckets" in value:
            assert f"{name}_count" in names


def test_streams_are_told_apart_by_how_they_are_delivered(
    daemon: Daemon, publisher: Publisher
) -> None:
    publisher.channels.add("1", "room:1")
    token = publisher.tokens.generate("1")
    with daemon.stream(token).opened() as stream:
        poll = {"Accept": "application/json"}
        url = f"ws://127.0.0.1:{daemon.address}/?access_token={token}"
        with (
            connect(url),
            Stream(daemon.address, f"/?access_token={token}&last_event_id={stream.position}", poll),
        ):
            eventually(lambda: daemon.metrics()["sinapse_streams"] == 3)
            seen = daemon.metrics()
            assert seen["sinapse_streams event stream"] == 1
            assert seen["sinapse_streams websocket"] == 1
            assert seen["sinapse_streams long poll"] == 1
    eventually(lambda: daemon.metrics()["sinapse_streams"] == 0)
    assert daemon.metrics()["sinapse_streams long poll"] == 0


def test_what_waits_for_a_stream_is_told_while_it_waits(
    daemon: Daemon, publisher: Publisher
) -> None:
    publisher.channels.add("1", "room:1")
    with daemon.stream(publisher.tokens.generate("1")).opened() as stream:
        assert daemon.metrics()["sinapse_pending_bytes"] == 0

        def is_behind() -> bool:
            publisher.publish("room:1", 300_000 * "x", retain=0)
            return daemon.metrics()["sinapse_streams_behind"] == 1

        eventually(is_behind, "the buffers of the kernel are full")
        assert daemon.metrics()["sinapse_pending_bytes"] > 0
        publisher.publish("room:1", "last", retain=0)
        stream.wait_for_message("last")
        eventually(lambda: daemon.metrics()["sinapse_pending_bytes"] == 0)
        assert daemon.metrics()["sinapse_streams_behind"] == 0


def test_the_age_of_one_retained_message_in_seven_is_counted(
    daemon: Daemon, publisher: Publisher
) -> None:
    before = daemon.metrics()
    with daemon.stream(subscribe(publisher)).opened() as stream:
        for number in range(21):
            publisher.publish("room:1", str(number), retain=0)
            publisher.publish("room:1", str(number), retain=60)
        for _ in range(42):
            stream.next()
    # Those who have it are written to before it is counted.
    count = "sinapse_message_age_seconds_count"
    eventually(lambda: daemon.metrics()[count] - before[count] == 3)
    total = "sinapse_message_age_seconds_sum"
    assert 0 <= daemon.metrics()[total] - before[total] < 3 * EVENT_TIMEOUT


def test_the_time_through_redis_and_the_lag_of_the_loop_are_sampled(daemon: Daemon) -> None:
    eventually(lambda: daemon.metrics()["sinapse_redis_probe_seconds_count"] >= 1)
    seen = daemon.metrics()
    assert seen["sinapse_redis_probe_seconds_sum"] > 0
    assert seen["sinapse_loop_lag_seconds_count"] >= 1


def test_a_redis_that_is_away_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "redis").mkdir()
    with (
        running_redis(tmp_path / "redis") as server,
        running_daemon(tmp_path, server.url) as daemon,
    ):
        assert daemon.metrics()["sinapse_redis_up"] == 1
        assert daemon.admin("/ready").status == 200
        server.kill()
        eventually(lambda: daemon.metrics()["sinapse_redis_up"] == 0)
        assert daemon.metrics()["sinapse_redis_losses_total"] == 1
        assert daemon.admin("/ready").status == 503
        assert status(daemon)["redis"].startswith("unavailable: ")


def test_a_scraper_gets_the_format_that_it_asks_for(daemon: Daemon) -> None:
    plain = daemon.admin("/metrics")
    assert plain.headers["Content-Type"].startswith("text/plain; version=")
    new = daemon.admin("/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert new.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    families = text_string_to_metric_families(new.text)  # type: ignore[attr-defined]
    assert "sinapse_streams" in {family.name for family in families}


@pytest.mark.parametrize("version", ["x", "1.x", "", "99999999999999999999999"])
def test_a_format_that_is_none_is_no_error(daemon: Daemon, version: str) -> None:
    accept = f"application/openmetrics-text; version={version}"
    assert daemon.admin("/metrics", Accept=accept).status == 200
    assert "Traceback" not in daemon.log


def test_there_is_nothing_else_and_no_figures_where_streams_are(daemon: Daemon) -> None:
    assert daemon.admin("/nowhere").status == daemon.admin("/status/x").status == 404
    assert daemon.get("/metrics").status == 404
    assert daemon.get("/status").text == "OK\n"  # type: ignore[attr-defined]


def test_an_endpoint_that_is_none_ends_the_start_with_one_line(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    daemon = Daemon(tmp_path, redis_server.url, "--admin", "nonsense:1")
    assert daemon.launch().wait(30) == 1
    lines = daemon.log.strip().splitlines()
    assert lines[-1].startswith("sinapse: --admin 'nonsense:1': ")
    assert "Traceback" not in daemon.log
