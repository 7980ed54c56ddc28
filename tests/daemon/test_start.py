"""Starting: every bad value ends it with one line, and never leaves a daemon that is deaf."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from twisted.internet.task import Clock
from twisted.web.resource import Resource
from twisted.web.server import Site

from sinapse.errors import StartError
from sinapse.publisher import Publisher
from sinapse.sockets.listener import Listener
from tests.support import EVENT_TIMEOUT, RedisServer, end, eventually, free_port
from tests.support.daemon import (
    Daemon,
    Event,
    Stream,
    refusal,
    running_daemon,
    servers_in,
    twistd,
)
from tests.support.proxy import Proxy
from tests.support.subscribing import subscribe

#: Makes root obey the permissions of files.
WITHOUT_PRIVILEGES = (
    ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.getuid() == 0 else ()
)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--keep-alive", "-1"], "--keep-alive '-1': must be a number of seconds"),
        (["-k", "soon"], "--keep-alive 'soon': must be a number of seconds"),
        (["--retry", "nan"], "--retry 'nan': must be a number of seconds"),
        (["--min-redis", "2"], "--min-redis '2': must be a share from 0% to 100%"),
        (["--min-redis", "150%"], "--min-redis '150%': must be a share from 0% to 100%"),
        (["--max-pending", "4MB"], "--max-pending '4MB': must be a number of bytes"),
        (["--redis", "http://localhost"], "--redis: the scheme must be one of redis, "),
        (["--redis", "localhost:6379"], "--redis: has no scheme: write redis://HOST:6379/0"),
        (["--redis", "redis://:secret@localhost:port"], "--redis: "),
        (["--redis", "embedded:"], "--redis: embedded: needs a folder"),
        (["--redis", "embedded:/proc/nothing"], "--redis embedded:/proc/nothing: "),
        (["--origin", "("], "--origin '(': '(' is not a regular expression"),
        (["--port", "carrier:pigeon"], "--port 'carrier:pigeon': Unknown endpoint type"),
        (["--port", "tcp:pigeon"], "--port 'tcp:pigeon': "),
        (["--port", "99999"], "--port '99999': bind(): port must be 0-65535"),
        (["--port", "unix:/proc/s.sock"], "--port 'unix:/proc/s.sock': "),
        (["--port", "ssl:0:privateKey=/no.pem"], "--port 'ssl:0:privateKey=/no.pem': "),
        (["--redis", "redis://user:1/secret@localhost"], "the password must be percent-encoded"),
        (["--redis", "redis://user:1?secret@localhost"], "the password must be percent-encoded"),
        (["--redis", "redis://user:1#secret@localhost"], "the password must be percent-encoded"),
        (["--origin", "https://*.*.host"], "--origin 'https://*.*.host': "),
        (["--pigeon"], "option --pigeon not recognized"),
        (["--pi\ngeon"], r"option --pi\ngeon not recognized"),
        (["pigeon"], "unexpected argument 'pigeon'"),
    ],
)
def test_a_bad_value_is_named(tmp_path: Path, options: list[str], says: str) -> None:
    line = refusal(tmp_path, *options)
    assert says in line
    assert "secret" not in line


@pytest.mark.parametrize(
    ("option", "given", "meant"),
    [
        ("--port", "::1:9000", "[::1]:9000"),
        ("--port", ":9000", "9000"),
        ("--port", "*:9000", "9000"),
        ("--port", "9000/tcp", "9000"),
        ("--port", "9000:9001", "9000 9001"),
        ("--port", "localhost", "localhost:9000"),
        ("--port", "10.0.0.1", "10.0.0.1:9000"),
        ("--port", "http://localhost:80/", "localhost:80"),
        ("--port", "https://localhost", "ssl:9000:privateKey=FILE:certKey=FILE"),
        ("--port", "tcp:localhost:80", "localhost:80"),
        ("--port", "/run/sinapse.sock", "unix:/run/sinapse.sock"),
        ("--port", "carrier:pigeon", "9000, localhost:9000, or an endpoint as --help says"),
        ("--admin", "localhost", "localhost:9001"),
    ],
)
def test_what_is_an_endpoint_elsewhere_is_told_as_it_is_written_here(
    option: str, given: str, meant: str
) -> None:
    with pytest.raises(StartError) as raised:
        Listener(given, Site(Resource()), Clock(), option.removeprefix("--"))
    assert str(raised.value).startswith(f"sinapse: {option} {given!r}: ")
    assert str(raised.value).endswith(f"; write {meant}")


def test_a_bad_variable_is_named(tmp_path: Path) -> None:
    line = refusal(tmp_path, environment={"SINAPSE_KEEP_ALIVE": "soon"})
    assert line.startswith("sinapse: SINAPSE_KEEP_ALIVE 'soon': must be a number of seconds")


def test_the_port_of_a_service_of_kubernetes_is_none_of_ours(tmp_path: Path) -> None:
    """Each pod is told where the Service ``sinapse`` is, in a variable that we read as well."""
    variable = {"SINAPSE_PORT": "tcp://10.0.0.12:9000"}
    with running_daemon(tmp_path, "redis://127.0.0.1:1", environment=variable, ready=False) as one:
        assert "passed over" not in one.log  # It was told by --port.
    taken = socket.create_server(("127.0.0.1", 0))
    with taken:
        admin = f"localhost:{taken.getsockname()[1]}"
        one = Daemon(tmp_path, "redis://127.0.0.1:1", environment=variable)
        one.command[one.command.index("--port") :] = ["--admin", admin]
        assert one.launch().wait(EVENT_TIMEOUT) == 1
    assert "SINAPSE_PORT 'tcp://10.0.0.12:9000' is passed over" in one.log
    # That of --port, 9000, may be taken as well.
    assert one.log.splitlines()[-1].endswith("Address already in use")


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
        assert refusal(tmp_path, "--port", port) == (
            f"sinapse: --port {port!r}: Address already in use"
        )


def test_a_folder_without_permission_is_named(short_path: Path) -> None:
    short_path.chmod(0o500)
    port = f"unix:{short_path / 's.sock'}"
    line = refusal(Path("/"), "--port", port, prefix=WITHOUT_PRIVILEGES)
    assert line == f"sinapse: --port {port!r}: Permission denied"
    line = refusal(Path("/"), "--redis", f"embedded:{short_path}/x", prefix=WITHOUT_PRIVILEGES)
    assert line == f"sinapse: --redis embedded:{short_path}/x: Permission denied"


def test_a_daemonised_start_that_fails_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
        ended = twistd(
            *("--pidfile", "d.pid", "--logfile", "d.log", "sinapse", "--port", port),
            cwd=tmp_path,
            capture_output=True,
            check=False,
        )
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert "--port" in ended.stderr
    # The child tells its parent before it cleans up.
    eventually(lambda: not (tmp_path / "d.pid").exists())


def test_it_daemonises_and_ends_by_its_pid_file(tmp_path: Path, redis_server: RedisServer) -> None:
    port = free_port()
    twistd(
        *("--pidfile", "d.pid", "--logfile", "d.log", "sinapse"),
        *("--port", f"tcp:{port}:interface=127.0.0.1", "--redis", redis_server.url),
        cwd=tmp_path,
    )
    pid = int((tmp_path / "d.pid").read_text())
    try:
        client = Daemon(tmp_path, redis_server.url)
        client.address = port
        eventually(lambda: client.get("/ready").status == 200)
    finally:
        os.kill(pid, signal.SIGTERM)
    eventually(lambda: not (tmp_path / "d.pid").exists())


def test_several_ports_are_served(short_path: Path, redis_server: RedisServer) -> None:
    socket_path = str(short_path / "s.sock")
    with running_daemon(short_path, redis_server.url, "--port", f"unix:{socket_path}") as daemon:
        assert daemon.get("/status").status == 200
        daemon.address = socket_path
        assert daemon.get("/status").status == 200


def test_a_stale_socket_is_no_obstacle_and_a_live_one_is(
    short_path: Path, redis_server: RedisServer
) -> None:
    port = f"unix:{short_path / 's.sock'}"
    with running_daemon(short_path, redis_server.url, port=port) as daemon:
        assert refusal(short_path, "--port", port) == (
            f"sinapse: --port {port!r}: Address already in use"
        )
        assert daemon.get("/status").status == 200
        os.kill(daemon.pid, signal.SIGKILL)
        assert daemon.process is not None
        daemon.process.wait(EVENT_TIMEOUT)
    assert (short_path / "s.sock").is_socket()
    with running_daemon(short_path, redis_server.url, port=port) as daemon:
        assert daemon.get("/status").status == 200


def test_help_and_version_say_what_there_is(tmp_path: Path) -> None:
    def output(option: str) -> str:
        return twistd("sinapse", option, cwd=tmp_path, capture_output=True).stdout

    assert re.fullmatch(r"Sinapse \d+\.\d+\.\d+\S*\n", output("--version"))
    text = output("--help")
    for word in ("--port=", "--redis=", "--origin=", "--keep-alive=", "--retry=", "REDIS_URL"):
        assert word in text


@pytest.mark.parametrize("workers", [1, 2])
class TestOpening:
    """Who comes at once waits until Redis has been asked, but not for ever."""

    @contextmanager
    def launched(self, folder: Path, redis_url: str, workers: int) -> Iterator[Daemon]:
        """Launch a daemon, and return at the first moment at which it can be connected to."""
        daemon = Daemon(folder, redis_url, f"--workers={workers}")
        process = daemon.launch()

        def is_bound() -> bool:
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", daemon.port), EVENT_TIMEOUT).close()
                return True
            return False

        try:
            eventually(is_bound)
            yield daemon
        finally:
            end(process)
        assert "Traceback" not in daemon.log

    def test_nobody_is_sent_away_while_redis_is_there(
        self, tmp_path: Path, redis_server: RedisServer, publisher: Publisher, workers: int
    ) -> None:
        token = subscribe(publisher)
        with self.launched(tmp_path, redis_server.url, workers) as daemon, ExitStack() as stack:
            streams = [
                stack.enter_context(daemon.stream(token, {"Accept": accepted}))
                for accepted in ("text/event-stream", "*/*") * 20
            ]
            for stream in streams:
                stream.opened()

    @pytest.mark.parametrize("is_silent", [False, True])
    def test_without_redis_it_opens_all_the_same(
        self, tmp_path: Path, proxy: Proxy, publisher: Publisher, workers: int, *, is_silent: bool
    ) -> None:
        if is_silent:
            proxy.stall()
        url = proxy.url if is_silent else f"redis://127.0.0.1:{free_port()}"
        with self.launched(tmp_path, url, workers) as daemon:
            with daemon.stream("x", {"Accept": "*/*"}) as refused:
                assert refused.status == 503
                assert int(refused.response.headers["Retry-After"]) > 0
            if is_silent:
                proxy.flow()
                eventually(daemon.is_ready)
                daemon.stream(subscribe(publisher)).opened().close()

    def test_it_ends_while_it_waits(self, tmp_path: Path, proxy: Proxy, workers: int) -> None:
        proxy.stall()
        with (
            self.launched(tmp_path, proxy.url, workers) as daemon,
            Stream(daemon.port, "/status") as waiting,
        ):
            eventually(lambda: proxy.connections)
            daemon.stop()
            with pytest.raises(ConnectionError):
                _ = waiting.status


class TestEmbedded:
    """A private Valkey, for a machine without Redis."""

    def test_messages_travel_by_the_same_url_and_data_stay(self, short_path: Path) -> None:
        url = f"embedded:{short_path / 'data'}"
        with running_daemon(short_path, url) as daemon, Publisher(url) as publisher:
            publisher.channels.add("1", "room:1")
            token = publisher.tokens.generate("1")
            with daemon.stream(token).opened() as stream:
                assert publisher.publish("room:1", "hello") == 1
                assert stream.message() == Event("hello")
            daemon.stop()
            eventually(lambda: not servers_in(short_path))
            daemon.start()
            with daemon.stream(token).opened() as stream:
                assert publisher.publish("room:1", "again") == 1
                assert stream.message() == Event("again")

    def test_what_it_writes_is_for_nobody_else_whoever_sees_the_folder(
        self, short_path: Path
    ) -> None:
        folder = short_path / "data"
        folder.mkdir(mode=0o755)
        former = os.umask(0o022)
        try:
            with running_daemon(short_path, f"embedded:{folder}"):
                written = [*folder.rglob("*")]
                assert any(path.suffix == ".aof" for path in written)
                assert [path for path in written if path.stat().st_mode & 0o077] == []
        finally:
            os.umask(former)

    def test_a_crash_of_the_daemon_leaves_nothing_running(self, short_path: Path) -> None:
        with running_daemon(short_path, f"embedded:{short_path}") as daemon:
            assert servers_in(short_path)
            os.kill(daemon.pid, signal.SIGKILL)
            eventually(lambda: not servers_in(short_path))

    def test_a_crash_of_the_server_is_mended(self, short_path: Path) -> None:
        url = f"embedded:{short_path}"
        with running_daemon(short_path, url) as daemon, Publisher(url) as publisher:
            publisher.channels.add("1", "room:1")
            token = publisher.tokens.generate("1")
            (server,) = servers_in(short_path)
            with daemon.stream(token).opened() as stream:
                os.kill(server, signal.SIGKILL)
                eventually(lambda: daemon.get("/ready").status == 503)
                eventually(lambda: daemon.get("/ready").status == 200)
                assert publisher.publish("room:1", "hello") == 1
                assert stream.message() == Event("hello")

    def test_a_folder_that_others_may_write_to_is_warned_of(self, short_path: Path) -> None:
        folder = short_path / "data"
        for mode in (0o755, 0o777):
            folder.mkdir(exist_ok=True)
            folder.chmod(mode)
            with running_daemon(short_path, f"embedded:{folder}") as daemon:
                assert ("others may write" in daemon.log) is (mode == 0o777)

    def test_two_daemons_do_not_share_a_folder(self, short_path: Path) -> None:
        url = f"embedded:{short_path}"
        with running_daemon(short_path, url):
            line = refusal(short_path, "--redis", url, "--port", f"tcp:{free_port()}")
            assert line == f"sinapse: --redis {url}: another daemon runs a server in this folder"
