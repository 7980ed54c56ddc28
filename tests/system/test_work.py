"""What a delivery and a stream cost, in work that can be counted; how long it takes is for bench/.

The limits are wide: what breaks them is a cost of another kind, such as a second system call for
each delivery, and not another version of Python.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self

import pytest
import redis

from sinapse.protocol.message import Message, pack
from sinapse.publisher import Publisher
from tests.support import EVENT_TIMEOUT, RedisServer, end
from tests.support.daemon import Daemon

STREAMS = 200
MESSAGES = 50

#: Streams that are open at once where resident memory is looked at, which grows in steps.
IDLE = 2000

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="counts with /proc")


class ProbedDaemon(Daemon):
    """A daemon through twistd that counts; see `tests.support.work_probe`."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        # Nothing is to be sent but what the tests publish.
        super().__init__(folder, redis_url, "--keep-alive", "3600")
        start = self.command.index("-c")
        self._socket = folder / "probe"
        self.command[start : start + 2] = ["-m", "tests.support.work_probe", str(self._socket)]

    @contextlib.contextmanager
    def counting(self, kind: str) -> Iterator[dict[str, int]]:
        """Count what is done in a with block; the dictionary is filled at its end."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(EVENT_TIMEOUT)
            client.connect(str(self._socket))
            answers = client.makefile()
            client.sendall(f"begin {kind}\n".encode())
            answers.readline()
            counted: dict[str, int] = {}
            yield counted
            client.sendall(b"end\n")
            counted.update(json.loads(answers.readline()))

    @property
    def write_calls(self) -> int:
        """Calls of write(2) and the like so far, as the kernel counts them."""
        return self._number("io", "syscw")

    @property
    def resident(self) -> int:
        """Bytes of memory that are its own."""
        return 1024 * self._number("smaps_rollup", "Pss")

    def _number(self, file: str, name: str) -> int:
        for line in Path(f"/proc/{self.pid}/{file}").read_text().splitlines():
            found, _, value = line.partition(":")
            if found == name:
                return int(value.split()[0])
        raise LookupError(name)


class Crowd:
    """Clients that read everything at once: bare sockets, since they are thousands."""

    def __init__(self, daemon: Daemon, tokens: Iterable[str], *, at_once: bool = False) -> None:
        assert isinstance(daemon.address, int)
        self._sockets = []
        if at_once:  # All wait in the kernel's queue until the daemon looks.
            os.kill(daemon.pid, signal.SIGSTOP)
        for token in tokens:
            request = f"GET /?access_token={token} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
            client = socket.create_connection(("127.0.0.1", daemon.address), EVENT_TIMEOUT)
            self._sockets.append(client)
            client.sendall(request)
            if not at_once:
                self._read(client, b"data: ok\n\n")
        if at_once:
            os.kill(daemon.pid, signal.SIGCONT)
            self.wait_for("ok")

    def wait_for(self, data: str) -> None:
        """Return when everybody has this, the last message that was published."""
        for client in self._sockets:
            self._read(client, f"data: {data}\n".encode())

    def _read(self, client: socket.socket, text: bytes) -> None:
        received = b""
        while text not in received:
            more = client.recv(65536)
            assert more, received
            received += more

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._sockets:
            client.close()


@pytest.fixture(scope="module", autouse=True)
def _descriptors() -> Iterator[None]:
    """Allow as many sockets as there may be, for the daemon as well, which inherits that."""
    former = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (former[1], former[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, former)


@pytest.fixture(scope="module")
def probed(
    redis_process: RedisServer, tmp_path_factory: pytest.TempPathFactory, _descriptors: None
) -> Iterator[ProbedDaemon]:
    """One daemon that counts for all tests here."""
    daemon = ProbedDaemon(tmp_path_factory.mktemp("probed"), redis_process.url)
    try:
        daemon.start()
        yield daemon
        assert "Traceback" not in daemon.log
    finally:
        if daemon.process is not None:
            end(daemon.process)


def generate_tokens(publisher: Publisher, count: int) -> list[str]:
    """Return tokens of as many users, who all listen to one channel."""
    tokens = []
    for user in range(count):
        publisher.channels.add(user, "room:1")
        tokens.append(publisher.tokens.generate(user))
    return tokens


@pytest.fixture
def crowd(probed: ProbedDaemon, publisher: Publisher) -> Iterator[Crowd]:
    """Return clients that have received something already."""
    with Crowd(probed, generate_tokens(publisher, STREAMS)) as crowd:
        publish_slowly(publisher, crowd, 5)
        yield crowd


def publish_slowly(publisher: Publisher, crowd: Crowd, count: int) -> None:
    """Publish messages, each when everybody has the one before: none can wait for another."""
    for number in range(count):
        publisher.publish("room:1", f"message {number}")
        crowd.wait_for(f"message {number}")


def publish_at_once(client: redis.Redis, crowd: Crowd, count: int) -> None:
    """Publish messages in one step, so that Redis sends them in one piece."""
    pipeline = client.pipeline(transaction=True)
    for number in range(count):
        pipeline.publish("room:1", pack(Message(f"together {number}")))
    pipeline.execute()
    crowd.wait_for(f"together {count - 1}")


def test_a_message_is_one_write_for_each_stream(
    probed: ProbedDaemon, publisher: Publisher, crowd: Crowd
) -> None:
    before = probed.write_calls
    publish_slowly(publisher, crowd, MESSAGES)
    writes = probed.write_calls - before
    # What waits in the kernel's buffers, wakers and logs may add some, but not as many as streams.
    assert STREAMS * MESSAGES <= writes < STREAMS * (MESSAGES + 1)


def test_what_comes_together_is_written_together(
    probed: ProbedDaemon, redis_client: redis.Redis, crowd: Crowd
) -> None:
    before = probed.write_calls
    publish_at_once(redis_client, crowd, MESSAGES)
    # One write for each stream, or a few if Redis was read in pieces.
    assert STREAMS <= probed.write_calls - before <= STREAMS * MESSAGES / 10


def test_a_delivery_is_a_few_calls_and_one_of_them_is_to_the_system(
    probed: ProbedDaemon, publisher: Publisher, crowd: Crowd
) -> None:
    with probed.counting("calls") as called:
        publish_slowly(publisher, crowd, MESSAGES)
    deliveries = STREAMS * MESSAGES
    system = {"epoll_ctl", "modify", "poll", "register", "send", "sendmsg", "unregister", "write"}
    assert sum(called.get(name, 0) for name in system) < 1.1 * deliveries, called
    assert sum(called.values()) < 4.5 * deliveries, called


def test_a_message_for_one_is_a_read_a_write_and_little_else(
    probed: ProbedDaemon, publisher: Publisher
) -> None:
    [token] = generate_tokens(publisher, 1)
    with Crowd(probed, [token]) as one:
        publish_slowly(publisher, one, 5)
        before = probed.write_calls
        with probed.counting("calls") as called:
            publish_slowly(publisher, one, MESSAGES)
        assert probed.write_calls - before < 1.5 * MESSAGES
    assert called["recv"] < 1.5 * MESSAGES, called
    assert sum(called.values()) < 110 * MESSAGES, called


def test_those_who_connect_together_ask_redis_together(
    probed: ProbedDaemon, publisher: Publisher, redis_client: redis.Redis
) -> None:
    tokens = generate_tokens(publisher, STREAMS)
    redis_client.config_resetstat()
    with probed.counting("calls") as called, Crowd(probed, tokens, at_once=True):
        pass
    commands = redis_client.info("commandstats")
    # One look-up for each, and one barrier for those whose answers came in one read.
    assert commands["cmdstat_evalsha"]["calls"] >= STREAMS
    assert commands["cmdstat_ping"]["calls"] < STREAMS / 4
    assert sum(called.values()) < 750 * STREAMS, called


def test_deliveries_leave_no_memory_behind(
    probed: ProbedDaemon, publisher: Publisher, redis_client: redis.Redis, crowd: Crowd
) -> None:
    with probed.counting("blocks") as left:
        publish_slowly(publisher, crowd, MESSAGES)
        publish_at_once(redis_client, crowd, MESSAGES)
    # Not one for every stream, and not one for every message.
    assert left["blocks"] < min(STREAMS, MESSAGES), left


def test_an_idle_stream_is_small(probed: ProbedDaemon, publisher: Publisher) -> None:
    tokens = generate_tokens(publisher, IDLE)
    before = probed.resident
    with Crowd(probed, tokens):
        grown = probed.resident - before
    assert grown < 6 * 1024 * IDLE


def test_python_holds_little_for_an_idle_stream(probed: ProbedDaemon, publisher: Publisher) -> None:
    tokens = generate_tokens(publisher, STREAMS)
    with contextlib.ExitStack() as open_streams, probed.counting("bytes") as held:
        open_streams.enter_context(Crowd(probed, tokens))
    assert sum(held.values()) < 4 * 1024 * STREAMS, held
