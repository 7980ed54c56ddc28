"""The log: as much of it as is asked for, in the form that is asked for, and never a token."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import Logger, LogPublisher
from twisted.python.failure import Failure
from websockets.sync.client import connect

from sinapse.daemon.logs import as_json
from sinapse.publisher import Publisher
from tests.support import (
    EVENT_TIMEOUT,
    PYTHON,
    RedisServer,
    end,
    eventually,
    free_port,
    running_redis,
)
from tests.support.daemon import ROOT, Daemon, running_daemon, twistd

ALWAYS = ["time", "level", "pid", "logger", "message"]


def lines(text: str) -> list[dict[str, Any]]:
    """Return the JSON lines of a log: there may be no other."""
    parsed = [json.loads(line) for line in text.splitlines()]
    assert all(list(line)[: len(ALWAYS)] == ALWAYS for line in parsed)
    return parsed


@pytest.fixture
def chatty(tmp_path: Path, redis_server: RedisServer) -> Iterator[Daemon]:
    """Return a daemon that says all that it can, as JSON."""
    options = ("--log-level", "debug", "--log-format", "json")
    with running_daemon(tmp_path, redis_server.url, *options) as daemon:
        yield daemon


def test_each_stream_is_a_line_when_it_opens_and_one_when_it_ends(
    chatty: Daemon, publisher: Publisher
) -> None:
    publisher.channels.add("1", "room:1")
    token = publisher.tokens.generate("1")
    with (
        chatty.stream(token).opened(),
        connect(f"ws://127.0.0.1:{chatty.address}/?access_token={token}") as socket,
    ):
        socket.recv()
        publisher.tokens.clear("1")
        eventually(lambda: chatty.log.count(" ended after ") == 2)
    told = [
        line for line in lines(chatty.log) if line["logger"] == "sinapse.streams.streams.Streams"
    ]
    opened, ended = told[:2], told[2:]
    assert [line["transport"] for line in opened] == ["event stream", "websocket"]
    for line in told:
        assert line["level"] == "debug"
        assert line["subject"] == "1"
        assert line["address"] == "127.0.0.1"
    assert opened[0]["message"] == "stream of '1' opened: event stream, 127.0.0.1"
    assert {line["reason"] for line in ended} == {"token revoked"}
    assert all(line["seconds"] >= 0 for line in ended)
    assert token not in chatty.log


def test_workers_write_the_same_lines_into_the_log_of_their_parent(
    tmp_path: Path, redis_server: RedisServer, publisher: Publisher
) -> None:
    publisher.channels.add("1", "room:1")
    token = publisher.tokens.generate("1")
    options = ("--workers", "2", "--log-level", "debug", "--log-format", "json")
    with running_daemon(tmp_path, redis_server.url, *options) as daemon:
        daemon.stream(token).opened().close()
        eventually(lambda: " ended after " in daemon.log)
        eventually(lambda: daemon.log.count('"state": "connected"') == 2)
        daemon.stop()
        told = lines(daemon.log)
        assert token not in daemon.log
    of_streams = [line for line in told if line["logger"] == "sinapse.streams.streams.Streams"]
    assert [line["subject"] for line in of_streams] == ["1", "1"]
    assert {line["worker"] for line in of_streams} <= {1, 2}
    assert daemon.pid not in {line["pid"] for line in of_streams}
    assert len({line["pid"] for line in told if line.get("state") == "connected"}) == 2


def test_every_line_is_json_and_states_of_redis_are_told(chatty: Daemon) -> None:
    told = lines(chatty.log)
    connected = [line for line in told if line.get("state") == "connected"]
    assert [line["level"] for line in connected] == ["info"]
    assert connected[0]["url"].startswith("redis://127.0.0.1:")
    assert {line["pid"] for line in told} == {chatty.pid}
    assert any(line.get("option") == "admin" for line in told)
    chatty.stop()
    assert lines(chatty.log)[-1]["message"] == "Server Shut Down."


def test_nothing_at_info_grows_with_traffic(
    tmp_path: Path, redis_server: RedisServer, publisher: Publisher
) -> None:
    publisher.channels.add("1", "room:1")
    token = publisher.tokens.generate("1")

    def traffic(daemon: Daemon, rounds: int) -> int:
        """Do everything that a client can, some times over; return how long the log is then."""
        for number in range(rounds):
            with daemon.stream(token).opened() as stream:
                publisher.publish("room:1", str(number))
                position = stream.next().id
            with daemon.stream(token, after=position).opened():
                pass
            for path in ("/?access_token=nobody", "/", "/nowhere", "/status", "/ready"):
                daemon.get(path)
            daemon.get(f"/?access_token={token}", Accept="application/json")
            with connect(f"ws://127.0.0.1:{daemon.address}/?access_token={token}") as socket:
                socket.recv()
                socket.send("a client never publishes")
            daemon.metrics()
        eventually(lambda: daemon.metrics()["sinapse_streams"] == 0)
        return daemon.log.count("\n")

    with running_daemon(tmp_path, redis_server.url) as daemon:
        once = traffic(daemon, 1)
        assert traffic(daemon, 20) == once
        assert token not in daemon.log


def test_warnings_alone_are_a_short_log(tmp_path: Path, redis_server: RedisServer) -> None:
    environment = {"SINAPSE_LOG_LEVEL": "warn", "SINAPSE_LOG_FORMAT": "json"}
    with running_daemon(tmp_path, redis_server.url, environment=environment) as daemon:
        daemon.stop()
        assert daemon.log == ""


def test_the_loss_of_redis_is_worth_a_warning(tmp_path: Path) -> None:
    options = ("--log-level", "warn")
    with running_redis(tmp_path) as server, running_daemon(tmp_path, server.url, *options) as one:
        assert one.log == ""
        server.stop()
        eventually(lambda: f"Redis {server.url}: unavailable" in one.log)


@pytest.mark.parametrize("level", ["", "loud"])
def test_a_level_that_is_none_ends_the_start_with_one_line(tmp_path: Path, level: str) -> None:
    daemon = Daemon(tmp_path, "redis://127.0.0.1:1", "--log-level", level)
    assert daemon.launch().wait(EVENT_TIMEOUT) == 1
    expected = f"--log-level {level!r}: must be debug, info, warn, error or critical"
    assert daemon.log.splitlines() == [f"sinapse: {expected}"]


def test_a_daemon_in_the_background_writes_the_file_that_twistd_was_told_of(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    port = f"tcp:{free_port()}:interface=127.0.0.1"
    twistd(
        *("--pidfile", "d.pid", "--logfile", "d.log", "sinapse"),
        *("--port", port, "--redis", redis_server.url, "--log-format", "json"),
        cwd=tmp_path,
    )
    log = tmp_path / "d.log"
    pid = int((tmp_path / "d.pid").read_text())
    try:
        eventually(lambda: '"state": "connected"' in log.read_text())
        # twistd's own signal for it.
        os.kill(pid, signal.SIGUSR1)
        eventually((tmp_path / "d.log.1").exists)
    finally:
        os.kill(pid, signal.SIGTERM)
    eventually(lambda: not (tmp_path / "d.pid").exists())
    assert lines((tmp_path / "d.log.1").read_text())
    assert lines(log.read_text())[-1]["message"] == "Server Shut Down."


def test_who_gives_twistd_a_logger_keeps_it(tmp_path: Path, redis_server: RedisServer) -> None:
    (tmp_path / "ours.py").write_text(
        "from twisted.logger import textFileLogObserver\n"
        "def observer(): return textFileLogObserver(open('ours.log', 'w', buffering=1))\n"
    )
    twistd(
        *("--pidfile", "d.pid", "--logger", "ours.observer", "sinapse"),
        *("--port", f"unix:{tmp_path.name}.sock", "--redis", redis_server.url),
        cwd=tmp_path,
    )
    log = tmp_path / "ours.log"
    try:
        # Before its reactor runs, a signal would be the end of it with the pid file in place.
        eventually(lambda: "connected" in log.read_text())
    finally:
        os.kill(int((tmp_path / "d.pid").read_text()), signal.SIGTERM)
    eventually(lambda: not (tmp_path / "d.pid").exists())
    assert "starting up" in log.read_text()


def test_the_command_logs_in_the_same_way(tmp_path: Path, redis_server: RedisServer) -> None:
    port = f"tcp:{free_port()}:interface=127.0.0.1"
    command = [PYTHON, "-m", "sinapse", "serve", "--port", port, "--redis", redis_server.url]
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--log-format=json"],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        eventually(lambda: '"state": "connected"' in log.read_text())
    finally:
        end(process)
    assert lines(log.read_text())


def written(format_: str, failure: Failure | None = None, **fields: Any) -> dict[str, Any]:
    """Return the line that an event becomes."""
    events: list[str] = []
    log = Logger("sinapse.test", observer=LogPublisher(lambda e: events.append(str(as_json(e)))))  # type: ignore[arg-type]
    if failure is not None:
        log.failure(format_, failure=failure, **fields)
    else:
        log.info(format_, **fields)
    assert events[0].isascii()
    assert events[0].count("\n") == 1
    [line] = lines(events[0])
    return line


def test_a_failure_is_one_line_too() -> None:
    try:
        raise ZeroDivisionError("by zero")  # noqa: TRY301
    except ZeroDivisionError:
        line = written("it broke", Failure())
    assert line["level"] == "critical"
    assert line["message"] == "it broke"
    assert line["traceback"].startswith("Traceback")
    assert "by zero" in line["traceback"]


def test_what_is_no_plain_value_is_no_field_and_none_takes_the_place_of_another() -> None:
    line = written("{a} {b}", a="é\n\ud800", b=b"raw", pid="mine", state=None)
    assert line["a"] == "é\n\ud800"
    assert line["pid"] == os.getpid()
    assert line["state"] is None
    assert "b" not in line
