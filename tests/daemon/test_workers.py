"""Several workers on the same sockets: they serve, die, are replaced, and end with their parent."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from twisted.logger import ILogObserver, Logger, LogLevel, LogPublisher, eventAsJSON
from twisted.python.failure import Failure

from sinapse.daemon.logs import as_json
from sinapse.daemon.workers.inheritance import VARIABLE, Inheritance
from sinapse.daemon.workers.relay import MAX_LINE, Relay
from sinapse.publisher import Publisher
from tests.support import EVENT_TIMEOUT, RedisServer, end, eventually, free_port
from tests.support.certificates import root
from tests.support.daemon import Daemon, Stream, refusal, servers_in, twistd
from tests.support.workers import SERVES, Workers, alive, owners, running_workers, serving


@pytest.fixture(scope="module")
def shared(
    redis_process: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workers]:
    """Return two workers that no test breaks."""
    folder = tmp_path_factory.mktemp("workers")
    with running_workers(folder, redis_process.url) as workers:
        yield workers
        assert "Traceback" not in workers.daemon.log


@pytest.fixture
def workers(shared: Workers, redis_server: RedisServer) -> Workers:
    return shared


@pytest.fixture
def token(publisher: Publisher) -> str:
    publisher.channels.add("1", "room:1")
    return publisher.tokens.generate("1")


def test_a_message_reaches_the_streams_of_all_workers_once(
    workers: Workers, publisher: Publisher, token: str
) -> None:
    with workers.one_of_each(token) as streams:
        assert set(streams) == set(serving(workers.daemon).values())
        # One of them hears it for all.
        assert publisher.publish("room:1", "1") == 1
        publisher.publish("room:1", "2")
        for stream in streams.values():
            assert [stream.next().data, stream.next().data] == ["1", "2"]


def test_a_stream_resumes_at_any_worker(workers: Workers, publisher: Publisher, token: str) -> None:
    with workers.daemon.stream(token).opened() as stream:
        position = stream.position
    publisher.publish("room:1", "missed")
    seen: set[int] = set()
    while len(seen) < 2:
        with workers.daemon.stream(token, after=position).opened() as stream:
            assert stream.next().data == "missed"
            seen.add(workers.owner(stream))


def test_a_change_of_channels_counts_at_every_worker(
    workers: Workers, publisher: Publisher, token: str
) -> None:
    publisher.channels.add("1", "room:2")
    with workers.one_of_each(token) as streams:
        publisher.channels.remove("1", "room:1")
        publisher.publish("room:1", "not for you")
        publisher.publish("room:2", "for you")
        for stream in streams.values():
            assert stream.next().data == "for you"
        publisher.tokens.clear("1")
        for stream in streams.values():
            stream.wait_for_end()


def test_a_storm_of_connections_is_shared(workers: Workers) -> None:
    count = 400
    clients: list[socket.socket] = []
    try:
        address = ("127.0.0.1", workers.daemon.port)
        clients.extend(socket.create_connection(address, EVENT_TIMEOUT) for _ in range(count))
        ours = {client.getsockname()[1] for client in clients}
        pids = list(serving(workers.daemon).values())

        def spread() -> Counter[int]:
            found = owners(workers.daemon.port, pids)
            return Counter(found[port] for port in ours & set(found))

        eventually(lambda: spread().total() == count, "all are accepted")
        # A half each, were it not for the scheduler.
        assert min(spread()[pid] for pid in pids) >= count // 20, spread()
    finally:
        for client in clients:
            client.close()


def test_the_log_tells_which_worker_says_what(workers: Workers) -> None:
    for number in (1, 2):
        line = rf"\[worker {number}, sinapse\.broker.*connected"
        eventually(lambda line=line: re.search(line, workers.daemon.log))  # type: ignore[misc]
    assert re.search(r"\[sinapse\.daemon\.workers\.supervisor", workers.daemon.log)


def test_a_worker_that_dies_is_replaced_and_all_of_them_end_with_sigterm(
    tmp_path: Path, redis_server: RedisServer, publisher: Publisher, token: str
) -> None:
    with (
        running_workers(tmp_path, redis_server.url) as workers,
        workers.one_of_each(token) as streams,
    ):
        daemon = workers.daemon
        before = workers.all_serve()
        os.kill(before[1], signal.SIGKILL)
        # The sockets are never closed: the other one accepts.
        for _ in range(20):
            assert daemon.get("/status").status == 200
        streams[before[1]].wait_for_end()
        eventually(lambda: workers.all_serve()[1] != before[1], "another one serves")
        assert workers.all_serve()[2] == before[2]
        assert re.search(r"worker 1 ended: SIGKILL after .* s; another one is started", daemon.log)
        with workers.one_of_each(token):
            publisher.publish("room:1", "still here")
            assert streams[before[2]].next().data == "still here"
            pids = workers.all_serve().values()
            daemon.stop()
        assert not any(map(alive, pids))
        streams[before[2]].wait_for_end()
        with pytest.raises(ConnectionRefusedError):
            daemon.get("/status")
        # Without an error of any: no half-closed socket that another one still accepts from.
        assert "Traceback" not in daemon.log
        assert "#critical" not in daemon.log
        assert daemon.log.count("#error") == 1


def test_workers_drain_and_a_second_sigterm_reaches_them(
    tmp_path: Path, redis_server: RedisServer, token: str
) -> None:
    with (
        running_workers(tmp_path, redis_server.url, "--drain=3600") as workers,
        workers.one_of_each(token),
        workers.one_of_each(token),
    ):
        process = workers.daemon.process
        assert process is not None
        process.terminate()
        # All of them drain, and nobody is let in any more.
        eventually(lambda: workers.daemon.log.count("Received SIGTERM") == 3)

        def is_refused() -> bool:
            try:
                workers.daemon.get("/status")
            except OSError as error:  # On the way it may be cut.
                return isinstance(error, ConnectionRefusedError)
            return False

        eventually(is_refused, "the port is closed")
        assert process.poll() is None
        process.terminate()
        assert process.wait(EVENT_TIMEOUT) == -signal.SIGTERM


def test_a_unix_socket_keeps_its_mode_and_its_path(
    short_path: Path, redis_server: RedisServer, token: str
) -> None:
    path = short_path / "s.sock"
    port = f"unix:{path}:mode=660"
    with running_workers(short_path, redis_server.url, "--port", port) as workers:
        daemon = workers.daemon
        daemon.address = str(path)
        before = workers.all_serve()
        with daemon.stream(token).opened():
            assert path.stat().st_mode & 0o777 == 0o660
        os.kill(before[1], signal.SIGTERM)
        eventually(lambda: workers.all_serve()[1] != before[1], "another one serves")
        assert path.stat().st_mode & 0o777 == 0o660
        with daemon.stream(token).opened():
            pass
        # Two daemons, though, do not share it.
        assert refusal(short_path, "--port", port, "--workers=2") == (
            f"sinapse: --port {port!r}: Address already in use"
        )
        daemon.stop()
        assert not path.exists()


def test_workers_serve_tls_and_read_renewed_certificates(
    short_path: Path, redis_server: RedisServer, token: str
) -> None:
    key, pem = short_path / "key.pem", short_path / "server.pem"

    def issue() -> None:
        issued = root().issue("127.0.0.1")
        key.write_bytes(issued.key)
        pem.write_bytes(issued.certificate)

    issue()
    port = free_port()
    secure = f"ssl:{port}:interface=127.0.0.1:privateKey={key}:certKey={pem}"
    context = root().client()
    with running_workers(short_path, redis_server.url, "--port", secure) as workers:

        def shown() -> bytes | None:
            with (
                socket.create_connection(("127.0.0.1", port), EVENT_TIMEOUT) as raw,
                context.wrap_socket(raw, server_hostname="127.0.0.1") as client,
            ):
                return client.getpeercert(binary_form=True)

        with Stream(port, f"/?access_token={token}", context=context) as stream:
            stream.opened()
        first = shown()
        issue()
        os.kill(workers.daemon.pid, signal.SIGHUP)
        eventually(lambda: workers.daemon.log.count("certificates read again") == 2)
        renewed = {shown() for _ in range(20)}
        assert len(renewed) == 1
        assert first not in renewed

        # One that cannot start says why, and is tried again less and less often.
        key.write_text("no key")
        os.kill(workers.all_serve()[1], signal.SIGKILL)
        eventually(lambda: workers.daemon.log.count("worker 1 ended: exit code 1") >= 2)
        says = r"worker 1: sinapse: --port '.*': privateKey .*: holds no private key in PEM format"
        assert re.search(says, workers.daemon.log)
        delays = re.findall(r"another one is started in ([\d.]+) s", workers.daemon.log)
        assert [float(delay) for delay in delays[:3]] == [0.1, 0.2, 0.4]
        assert "Traceback" not in workers.daemon.log
        with workers.daemon.stream(token).opened():
            pass
        issue()
        eventually(lambda: len(SERVES.findall(workers.daemon.log)) == 3, "it serves again")


def test_the_embedded_server_is_run_by_the_parent_alone(short_path: Path) -> None:
    url = f"embedded:{short_path / 'data'}"
    with running_workers(short_path, url) as workers, Publisher(url) as publisher:
        (server,) = servers_in(short_path)
        publisher.channels.add("1", "room:1")
        with workers.one_of_each(publisher.tokens.generate("1")) as streams:
            publisher.publish("room:1", "hello")
            for stream in streams.values():
                assert stream.next().data == "hello"
        os.kill(workers.all_serve()[1], signal.SIGKILL)
        eventually(lambda: len(SERVES.findall(workers.daemon.log)) == 3, "another one serves")
        assert servers_in(short_path) == [server]
        # Nothing outlives a parent that is killed.
        pids = list(workers.all_serve().values())
        (folder,) = re.findall(rb'"folder": "(.+?)"', Path(f"/proc/{pids[0]}/environ").read_bytes())
        assert Path(folder.decode()).is_dir()
        os.kill(workers.daemon.pid, signal.SIGKILL)
        eventually(lambda: not any(map(alive, pids)), "no worker is left")
        eventually(lambda: not servers_in(short_path), "no server is left")
        assert not Path(folder.decode()).exists()
        with pytest.raises(ConnectionRefusedError):
            workers.daemon.get("/status")


def test_a_worker_that_hangs_is_killed_and_replaced(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    daemon = Daemon(tmp_path, redis_server.url, "--workers=2")
    at = daemon.command.index("-c") + 1
    daemon.command[at] = (
        "import sinapse.daemon.workers.process as process; "
        "process.HANG_TIMEOUT = 6; process.LAST_WORDS = 0.5; " + daemon.command[at]
    )
    try:
        daemon.start()
        workers = Workers(daemon, 2)
        before = workers.all_serve()
        os.kill(before[1], signal.SIGSTOP)
        eventually(lambda: "worker 1 has said nothing for 6 s, and is killed" in daemon.log)
        eventually(lambda: serving(daemon)[1] != before[1] and workers.all_serve())
        assert not alive(before[1])
        sessions = {os.getsid(pid) for pid in workers.all_serve().values()}
        assert os.getsid(daemon.pid) not in sessions
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGINT)
        assert daemon.process.wait(EVENT_TIMEOUT) == -signal.SIGINT
    finally:
        if daemon.process is not None:
            end(daemon.process)


def test_it_daemonises_with_one_pid_file(tmp_path: Path, redis_server: RedisServer) -> None:
    port = free_port()
    twistd(
        *("--pidfile", "d.pid", "--logfile", "daemon-0.log", "--reactor=poll", "sinapse"),
        *("--workers=2", "--port", f"tcp:{port}:interface=127.0.0.1"),
        *("--redis", redis_server.url),
        cwd=tmp_path,
    )
    pid = int((tmp_path / "d.pid").read_text())
    daemon = Daemon(tmp_path, redis_server.url)
    try:
        pids = Workers(daemon, 2).all_serve(ready=False).values()
        daemon.address = port
        assert daemon.get("/status").status == 200
        assert daemon.log.count("reactor class: twisted.internet.pollreactor.PollReactor") == 4
    finally:
        os.kill(pid, signal.SIGTERM)
    eventually(lambda: not (tmp_path / "d.pid").exists())
    eventually(lambda: not any(map(alive, pids)))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--workers=0"], "--workers '0': must be a number of processes from 1 to 1024, or auto"),
        (["--workers=many"], "--workers 'many': must be a number of processes"),
        (["--workers=2", "--port=ssl:0:privateKey=/no.pem"], "privateKey /no.pem: No such file"),
        (["--workers=2", "--port=systemd:domain=INET:index=0"], "has passed no such socket"),
        (["--workers=2", "--port=haproxy:tcp:0"], "name the proxies with --trusted-proxies"),
        (["--workers=2", "--redis=embedded:/proc/nothing"], "--redis embedded:/proc/nothing: "),
    ],
)
def test_mistakes_end_the_start_of_the_parent(
    tmp_path: Path, options: list[str], says: str
) -> None:
    assert says in refusal(tmp_path, *options)


# What a worker is given, and what it says.


def test_an_inheritance_is_taken_once() -> None:
    given = Inheritance(3, (5, 6), "/folder", "/folder/3.admin")
    environment = {VARIABLE: given.to_text(), "PATH": "/bin"}
    assert Inheritance.take(environment) == given
    assert environment == {"PATH": "/bin"}
    assert Inheritance.take(environment) is None


def relayed(*pieces: bytes) -> list[dict[str, Any]]:
    """Return the events that are logged of what worker 7 has written."""
    events: list[Any] = []
    publisher = LogPublisher(cast(ILogObserver, events.append))
    relay = Relay(7, lambda: 77, publisher)
    relay._log = Logger(observer=publisher)
    for piece in pieces:
        relay.take(piece)
    relay.finish()
    return events


def test_events_arrive_as_they_were_in_pieces_of_any_size() -> None:
    written: list[str] = []
    observer = cast(ILogObserver, lambda event: written.append(eventAsJSON(event)))
    log = Logger("sinapse.test", observer=observer)
    log.emit(LogLevel.warn, "{count} things\nin two lines", count=3)
    log.failure("it failed", Failure(ValueError("no")))
    data = "".join(f"{line}\n" for line in written).encode()
    for size in (1, 7, len(data)):
        first, second = relayed(*(data[at : at + size] for at in range(0, len(data), size)))
        assert first["log_level"] == LogLevel.warn
        assert first["log_format"].format(count=first["count"]) == "3 things\nin two lines"
        assert first["log_system"] == "worker 7, sinapse.test#warn"
        assert first["worker"] == 7
        assert json.loads(as_json(first) or "")["pid"] == 77
        assert second["log_failure"].type.__name__ == "ValueError"


@pytest.mark.parametrize(
    "line",
    [b"no JSON", b"{", b"[]", b"3", b'{"a": 1}', b'"log_level"', b"\xff\xfe", b"{}", b"null"],
)
def test_what_is_no_event_is_text(line: bytes) -> None:
    (event,) = relayed(line, b"\n")
    assert event["log_level"] == LogLevel.warn
    assert event["worker"] == 7
    assert event["text"] == line.decode("utf-8", "backslashreplace")


def test_a_line_that_never_ends_is_cut() -> None:
    events = relayed(b"x" * MAX_LINE, b"y", b"z\n")
    assert [len(event["text"]) for event in events] == [MAX_LINE + 1, 1]


def test_empty_lines_are_left_out() -> None:
    assert relayed(b"\n\n  \n") == []
