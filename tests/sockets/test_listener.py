"""Listening: on what is free, and with a word of advice where something is in the way."""

from __future__ import annotations

import errno
import gc
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor as _reactor
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactor

from sinapse.counters import Counters
from sinapse.errors import StartError
from sinapse.sockets.bounds import BACKLOG
from sinapse.sockets.forwarded import TrustedProxies
from sinapse.sockets.gate import Gate
from sinapse.sockets.listener import Listener, _unix_path, _with_defaults, url
from tests.support import eventually, free_port

reactor: Any = _reactor

# Twisted leaves a socket that it could not bind to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


@contextmanager
def listening(description: str, option: str = "port") -> Iterator[None]:
    """Listen for the length of a with block."""
    listener = Listener(description, Factory.forProtocol(Protocol), reactor, option)
    listener.privilegedStartService()
    listener.startService()
    yield
    stopped = listener.stopService()

    def has_stopped() -> bool:
        reactor.iterate(0)
        return bool(stopped.called)

    eventually(has_stopped, "the port is closed")


def refusal(description: str) -> str:
    """Return what is said of an endpoint that cannot be listened on: one line."""
    with pytest.raises(StartError) as caught, listening(description):
        pass
    line = str(caught.value)
    del caught
    gc.collect()  # What Twisted left, before another test has to hear of it.
    prefix = f"sinapse: --port {description!r}: "
    assert line.startswith(prefix)
    assert line.isprintable()
    return line.removeprefix(prefix)


@pytest.mark.parametrize("prefix", ["", "haproxy:"])
def test_what_is_accepted_has_the_options_of_what_listens(prefix: str) -> None:
    """So clients that have vanished are found, and nothing waits to be sent with more."""
    accepted: list[Any] = []

    class Accepted(Protocol):
        def connectionMade(self) -> None:  # noqa: N802
            accepted.append(self.transport)

    proxies = TrustedProxies(["127.0.0.1"])
    gate = Gate(Counters(), proxies, reactor=reactor)
    port = free_port()
    description = f"{prefix}tcp:{port}:interface=127.0.0.1"
    listener = Listener(description, Factory.forProtocol(Accepted), reactor, gate=gate)
    listener.privilegedStartService()
    listener.startService()

    def has_accepted() -> bool:
        reactor.iterate(0)
        return bool(accepted)

    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nx" if prefix else b"x")
        eventually(has_accepted, "it is accepted")
        below = accepted[0].transport if prefix else accepted[0]
        ours = below.getHandle()
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000
        assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
        assert (below.getHost().host, below.getHost().port) == ("127.0.0.1", port)
    stopped = listener.stopService()

    def is_over() -> bool:
        reactor.iterate(0)
        return bool(stopped.called) and not gate._connections

    eventually(is_over, "all is closed")


def answers(path: Path) -> bool:
    """Whether somebody listens on a UNIX socket."""
    with closing(socket.socket(socket.AF_UNIX)) as client:
        return client.connect_ex(str(path)) == 0


@contextmanager
def bound(path: Path) -> Iterator[socket.socket]:
    """Bind a UNIX socket, which leaves its file behind as a crash does."""
    with closing(socket.socket(socket.AF_UNIX)) as holder:
        holder.bind(str(path))
        yield holder


# UNIX sockets


def test_it_listens_on_a_unix_socket_and_leaves_nothing_behind(short_path: Path) -> None:
    path = short_path / "s.sock"
    with listening(f"unix:{path}"):
        assert answers(path)
    assert list(short_path.iterdir()) == []


@pytest.mark.parametrize("form", ["unix:{}", "unix:address={}", "unix:{}:mode=600"])
def test_a_stale_socket_is_removed(short_path: Path, form: str) -> None:
    path = short_path / "s.sock"
    with bound(path):
        pass
    assert path.is_socket()
    with listening(form.format(path)):
        assert answers(path)


def test_a_stale_socket_is_removed_wherever_its_path_stands(short_path: Path) -> None:
    path = short_path / "s.sock"
    with bound(path):
        pass
    with listening(f"unix:mode=600:address={path}"):
        assert answers(path)


def test_a_stale_socket_with_a_colon_in_its_path_is_removed(short_path: Path) -> None:
    path = short_path / "a:b.sock"
    with bound(path):
        pass
    with listening(f"unix:{short_path}/a\\:b.sock"):
        assert answers(path)


def test_a_socket_that_somebody_listens_on_is_left_alone(short_path: Path) -> None:
    path = short_path / "s.sock"
    with bound(path) as holder:
        holder.listen()
        assert refusal(f"unix:{path}") == os.strerror(errno.EADDRINUSE)
        assert answers(path)


def test_two_of_us_do_not_share_a_socket(short_path: Path) -> None:
    path = short_path / "s.sock"
    with listening(f"unix:{path}"):
        assert refusal(f"unix:{path}") == os.strerror(errno.EADDRINUSE)
        assert answers(path)


def test_a_file_that_is_no_socket_is_left_alone(short_path: Path) -> None:
    path = short_path / "s.sock"
    path.write_text("precious")
    assert refusal(f"unix:{path}") == "there is a file of that name that is not a socket"
    assert path.read_text() == "precious"


def test_a_folder_is_left_alone(short_path: Path) -> None:
    (short_path / "precious").touch()
    assert refusal(f"unix:{short_path}") == "there is a file of that name that is not a socket"
    assert (short_path / "precious").exists()


def test_a_link_to_nowhere_is_left_alone(short_path: Path) -> None:
    path = short_path / "s.sock"
    path.symlink_to(short_path / "nowhere")
    assert refusal(f"unix:{path}") == os.strerror(errno.EADDRINUSE)
    assert path.is_symlink()


@pytest.mark.parametrize(
    ("name", "reason"),
    [("missing/s.sock", os.strerror(errno.ENOENT)), ("x" * 108, "AF_UNIX path too long")],
)
def test_a_path_that_cannot_be_is_refused(short_path: Path, name: str, reason: str) -> None:
    assert refusal(f"unix:{short_path / name}") == reason


# Other endpoints


def test_it_listens_on_a_tcp_port_and_gives_it_back() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = probe.getsockname()
    description = f"tcp:{address[1]}:interface=127.0.0.1"
    for _ in range(2):
        with listening(description), socket.create_connection(address):
            pass


def test_a_tcp_port_that_is_taken_is_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        reason = os.strerror(errno.EADDRINUSE)
        assert refusal(f"tcp:{port}:interface=127.0.0.1") == reason


@pytest.mark.parametrize(
    "description",
    [
        "",
        "pigeon:9000",
        "tcp",
        "tcp:",
        "tcp:http-alt-name-that-nobody-knows",
        "tcp:0:color=blue",
        "tcp:0:backlog=many",
        "tcp:0:interface=203.0.113.1",  # Of a network for documentation: nobody has it.
        "ssl:0:privateKey=/no.pem",
        "unix:",
    ],
)
def test_what_cannot_be_listened_on_is_named(description: str) -> None:
    assert refusal(description)


@pytest.mark.parametrize("description", ["tcp:65536", "tcp:-1"])
def test_a_port_that_is_out_of_range_is_named(description: str) -> None:
    assert "0-65535" in refusal(description)


# What an endpoint gets that was not said


@pytest.mark.parametrize(
    ("description", "complete"),
    [
        ("tcp:9000", "tcp:9000:backlog=4096"),
        ("tcp:9000:interface=127.0.0.1", "tcp:9000:interface=127.0.0.1:backlog=4096"),
        ("tcp6:9000", "tcp6:9000:backlog=4096"),
        # As other programs want it
        ("9000", "tcp:9000:backlog=4096"),
        ("localhost:9000", "tcp:9000:interface=127.0.0.1:backlog=4096"),
        ("10.0.0.1:9000", "tcp:9000:interface=10.0.0.1:backlog=4096"),
        ("[::1]:9000", r"tcp6:9000:interface=\:\:1:backlog=4096"),
        # As Twisted does
        ("ssl:443:certKey=c.pem", "ssl:443:certKey=c.pem:backlog=4096"),
        ("tls:/pem", "tls:/pem:backlog=4096"),
        ("haproxy:tcp:9000", "haproxy:tcp:9000:backlog=4096"),
        ("haproxy:unix:/s", "haproxy:unix:/s:backlog=4096:mode=660:lockfile=0"),
        (r"unix:/a\:backlog=5", r"unix:/a\:backlog=5:backlog=4096:mode=660:lockfile=0"),
        ("unix:/s:mode=600:600", "unix:/s:mode=600:600:backlog=4096:lockfile=0"),
        ("unix:/s", "unix:/s:backlog=4096:mode=660:lockfile=0"),
        # What was said
        ("tcp:9000:backlog=5", "tcp:9000:backlog=5"),
        ("unix:/s:backlog=5", "unix:/s:backlog=5:mode=660:lockfile=0"),
        ("unix:/s:lockfile=1", "unix:/s:lockfile=1:backlog=4096:mode=660"),
        ("tcp:9000:127.0.0.1:5", "tcp:9000:127.0.0.1:5"),
        ("tcp:9000::5", "tcp:9000::5"),
        ("tcp6:9000:5", "tcp6:9000:5"),
        ("ssl:443:k.pem:c.pem:TLS_METHOD::5", "ssl:443:k.pem:c.pem:TLS_METHOD::5"),
        ("tls:/pem:443:5", "tls:/pem:443:5"),
        ("unix:/s:600:5", "unix:/s:600:5:lockfile=0"),
        ("unix:/s:600:5:1", "unix:/s:600:5:1"),
        # What takes none
        ("systemd:domain=INET:index=0", "systemd:domain=INET:index=0"),
        ("fd:3", "fd:3"),
        ("pigeon", "pigeon"),
    ],
)
def test_defaults_are_added_where_nothing_was_said(description: str, complete: str) -> None:
    assert _with_defaults(description, "port") == complete


@pytest.mark.parametrize(
    ("option", "said", "mode"),
    [("port", "", 0o660), ("admin", "", 0o600), ("api", "", 0o600), ("admin", ":mode=660", 0o660)],
)
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_a_unix_socket_is_for_those_who_may(
    short_path: Path, option: str, said: str, mode: int, umask: int
) -> None:
    path = short_path / "s.sock"
    former = os.umask(umask)
    try:
        with listening(f"unix:{path}{said}", option):
            assert stat.S_IMODE(path.stat().st_mode) == mode
    finally:
        os.umask(former)


@pytest.mark.parametrize(
    ("description", "place"),
    [
        ("9000", "http://localhost:9000/"),
        ("tcp:9000", "http://localhost:9000/"),
        ("tcp:9000:interface=127.0.0.1", "http://localhost:9000/"),
        ("[::1]:9000", "http://localhost:9000/"),
        ("10.0.0.1:9000", "http://10.0.0.1:9000/"),
        ("ssl:9443:privateKey=k.pem", "https://localhost:9443/"),
        ("unix:/s", "unix:/s"),
    ],
)
def test_where_a_browser_finds_it(description: str, place: str) -> None:
    assert url(description) == place


def test_twisted_understands_the_defaults(short_path: Path) -> None:
    memory: Any = MemoryReactor()
    path = str(short_path / "s.sock")
    with ExitStack() as stack:
        for description in ("tcp:9000", f"unix:{path}:mode=600"):
            listener = Listener(description, Factory.forProtocol(Protocol), memory)
            listener.privilegedStartService()
            stack.callback(listener.stopService)
    ((port, _, backlog, interface),) = memory.tcpServers
    assert (port, backlog, interface) == (9000, BACKLOG, "")
    ((address, _, backlog, mode, is_locked),) = memory.unixServers
    assert (address, backlog, mode, bool(is_locked)) == (path, BACKLOG, 0o600, False)


@pytest.mark.parametrize(
    "description",
    [
        "tcp:9000:127.0.0.1:5",
        "tcp:9000::5",
        "tcp:9000:interface=127.0.0.1:backlog=5",
        "tcp:interface=127.0.0.1:9000:backlog=5",
        "tcp6:9000:5",
        pytest.param(
            "tls:{pem}:9000:5",
            # Twisted has not left it yet.
            marks=pytest.mark.filterwarnings("ignore:X509.get_issuer is deprecated"),
        ),
        pytest.param(
            "ssl:9000:{pem}/a.pem:{pem}/a.pem:TLS_METHOD::5",
            marks=pytest.mark.filterwarnings("ignore:Passing method to"),
        ),
        "haproxy:tcp:9000:127.0.0.1:5",
        "unix:{pem}/s:600:5",
        "unix:{pem}/s:600:5:0",
    ],
)
def test_a_backlog_is_that_which_was_given(
    description: str, short_path: Path, certificate: Path
) -> None:
    (short_path / "a.pem").symlink_to(certificate)
    memory: Any = MemoryReactor()
    description = description.format(pem=short_path)
    listener = Listener(description, Factory.forProtocol(Protocol), memory)
    listener.privilegedStartService()
    listener.stopService()
    (server,) = memory.tcpServers + memory.sslServers + memory.unixServers
    assert 5 in server
    assert BACKLOG not in server


@pytest.mark.parametrize(
    ("description", "path"),
    [
        ("unix:/run/s.sock", "/run/s.sock"),
        ("unix:s.sock", "s.sock"),
        ("unix:/run/s.sock:mode=600", "/run/s.sock"),
        ("unix:address=/run/s.sock:mode=600", "/run/s.sock"),
        (r"unix:/run/a\:b\\c", r"/run/a:b\c"),
        (r"unix:/run/a\=b", "/run/a=b"),
        ("unix:address=/run/a=b", "/run/a=b"),
        ("unix:mode=600:/run/s.sock", "/run/s.sock"),
        ("haproxy:unix:/run/s.sock", "/run/s.sock"),
        ("tcp:9000", None),
        ("unix:", None),
        ("systemd:domain=UNIX:index=0", None),
    ],
)
def test_the_path_of_a_unix_endpoint(description: str, path: str | None) -> None:
    assert _unix_path(description) == (path and Path(path))
