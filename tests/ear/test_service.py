"""The ear itself, spoken to as workers do: over its socket, in Redis' protocol."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import hiredis
import pytest

from tests.support import EVENT_TIMEOUT, PYTHON, RedisServer, end, eventually, free_port

PROGRAM = """
import sys
from twisted.internet import reactor
from twisted.internet.endpoints import UNIXServerEndpoint
from sinapse.ear.service import Ear
from sinapse.protocol.redisurl import RedisURL

path, *urls = sys.argv[1:]
urls = [RedisURL.parse(url) for url in urls]
Ear(urls, UNIXServerEndpoint(reactor, path), reactor).startService()
reactor.run()
"""

Make = Callable[..., "Worker"]


class Worker:
    """A connection to the ear, read as a client of Redis reads."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(EVENT_TIMEOUT)
        self.socket.connect(str(path))
        self._parser = hiredis.Reader()

    def ask(self, *words: object) -> None:
        self.socket.sendall(hiredis.pack_command(words))  # type: ignore[arg-type]

    def reply(self) -> object:
        while (reply := self._parser.gets()) is False:
            data = self.socket.recv(65536)
            if not data:
                raise EOFError
            self._parser.feed(data)
        return reply

    def is_closed(self) -> bool:
        """Whether nothing but the end of the connection follows."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


@pytest.fixture
def worker(redis_server: RedisServer, short_path: Path) -> Iterator[Make]:
    """Return what connects to an ear, which has that Redis as the first, and others."""
    path = short_path / "ear.sock"
    wrong = redis_server.url.replace("//", "//:wrong-password@")
    nowhere = f"redis://127.0.0.1:{free_port()}"
    sentinels = f"redis+sentinel://127.0.0.1:{free_port()}/main/0"
    with contextlib.ExitStack() as stack:
        process = subprocess.Popen(
            [PYTHON, "-c", PROGRAM, str(path), redis_server.url, wrong, nowhere, sentinels],
            stderr=subprocess.PIPE,
        )
        stack.callback(end, process)

        def listens() -> bool:
            with socket.socket(socket.AF_UNIX) as probe:
                return probe.connect_ex(str(path)) == 0

        eventually(listens, "the ear listens")

        def connect() -> Worker:
            return stack.enter_context(Worker(path))

        yield connect
        process.terminate()
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()


def heard(worker: Make, number: int = 0, port: int = 6379) -> Worker:
    one = worker()
    one.ask("HEAR", number, "127.0.0.1", port)
    return one


def test_a_worker_subscribes_as_with_redis(worker: Make, redis_server: RedisServer) -> None:
    one, other = heard(worker), heard(worker)
    assert one.reply() == other.reply() == b"OK"
    one.ask("PSUBSCRIBE", "con*")
    one.ask("SUBSCRIBE", "a", "b")
    one.ask("PING")
    assert [one.reply() for _ in range(4)] == [
        [b"psubscribe", b"con*", 1],
        [b"subscribe", b"a", 2],
        [b"subscribe", b"b", 3],
        [b"pong", b""],
    ]
    other.ask("SUBSCRIBE", "b")
    assert other.reply() == [b"subscribe", b"b", 1]
    with redis_server.client() as client:
        for channel in ("a", "b", "control", "c"):
            client.publish(channel, f"in {channel}")
    assert [one.reply() for _ in range(3)] == [
        [b"message", b"a", b"in a"],
        [b"message", b"b", b"in b"],
        [b"pmessage", b"con*", b"control", b"in control"],
    ]
    assert other.reply() == [b"message", b"b", b"in b"]


def test_the_master_is_where_the_worker_says(worker: Make, redis_server: RedisServer) -> None:
    one = heard(worker, 3, redis_server.port)
    assert one.reply() == b"OK"


@pytest.mark.parametrize(
    ("number", "says"), [(1, "AUTH|WRONGPASS"), (2, "refused"), (3, "refused")]
)
def test_a_redis_that_cannot_be_reached_is_told_of(worker: Make, number: int, says: str) -> None:
    one = heard(worker, number, free_port())
    reply = one.reply()
    assert isinstance(reply, hiredis.ReplyError)
    assert any(word in str(reply) for word in says.split("|"))
    assert "wrong-password" not in str(reply)
    assert one.is_closed()


@pytest.mark.parametrize(
    "words",
    [
        ("PING",),
        ("HEAR", "none", "127.0.0.1", 6379),
        ("HEAR", 4, "127.0.0.1", 6379),
        ("HEAR", 3, "127.0.0.1", "no port"),
        ("HER", 0, "127.0.0.1", 6379),
    ],
)
def test_who_does_not_say_what_it_wants_is_sent_away(
    worker: Make, words: tuple[object, ...]
) -> None:
    one = worker()
    one.ask(*words)
    assert one.is_closed()


@pytest.mark.parametrize("data", [b"*0\r\n", b":5\r\n", b"GET / HTTP/1.1\r\n", b"*1\r\n:1\r\n"])
def test_what_is_no_command_is_the_end(worker: Make, data: bytes) -> None:
    one = worker()
    one.socket.sendall(data)
    assert one.is_closed()


def test_other_commands_are_refused(worker: Make) -> None:
    one = heard(worker)
    assert one.reply() == b"OK"
    one.ask("PUBLISH", "a", "b")
    assert "not understood" in str(one.reply())
    assert one.is_closed()


def test_when_redis_closes_all_are_closed_behind_what_it_has_sent(
    worker: Make, redis_server: RedisServer
) -> None:
    workers = [heard(worker) for _ in range(3)]
    for one in workers:
        assert one.reply() == b"OK"
        one.ask("SUBSCRIBE", "a")
        assert one.reply() == [b"subscribe", b"a", 1]
    with redis_server.client() as client:
        client.publish("a", "last words")
        # That of the ear: those of daemons are subscribed to a pattern, too.
        (ours,) = [each for each in client.client_list(_type="pubsub") if each["psub"] == "0"]
        client.client_kill_filter(_id=ours["id"])
    for one in workers:
        assert one.reply() == [b"message", b"a", b"last words"]
        assert isinstance(one.reply(), hiredis.ReplyError)
        assert one.is_closed()
    # Who comes after that gets a new connection.
    assert heard(worker).reply() == b"OK"
